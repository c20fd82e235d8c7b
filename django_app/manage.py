#!/usr/bin/env python
"""Django's command line for the demo site; `manage.py demo` runs all of it."""

import os
import sys


def main() -> None:
    """Run one management command with the settings of the demo."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
