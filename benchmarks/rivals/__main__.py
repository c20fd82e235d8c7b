"""`python -m benchmarks.rivals`: make the environment of each rival."""

from __future__ import annotations

import sys

from benchmarks.rivals.environments import main

if __name__ == "__main__":
    sys.exit(main())
