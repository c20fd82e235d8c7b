"""`python -m tests.conformance`: examine one backend and say what was found."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

DEFAULT_WORKER = "{python} -m django jobsupervisor --exit-when-empty --workers 1"


def main() -> int:
    """Examine the backend that the environment names; 1 when a must fails, 2 when it could not be examined."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only the checks whose names begin so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="work there, and leave the workers' log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        return examine(options.keep or Path(temporary), options.names, options.json)


def examine(directory: Path, names: list[str], file: Path | None) -> int:
    """Run the checks and report."""
    asked = {name: value for name, value in os.environ.items() if name.startswith("CONFORMANCE_")}
    os.environ["CONFORMANCE_DIR"] = str(directory.absolute())
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.conformance.settings"
    os.environ.setdefault("CONFORMANCE_WORKER", "" if os.environ.get("CONFORMANCE_BACKEND") else DEFAULT_WORKER)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    from tests.conformance import report
    from tests.conformance.checks import load
    from tests.conformance.runner import Run

    checks = [check for check in load() if not names or check.name.startswith(tuple(names))]
    if not checks:
        sys.stderr.write(f"no check begins with {' or '.join(names)}\n")
        return 2
    run = Run()
    run.all(checks)
    made = report.made(run, asked)
    if file:
        file.write_text(json.dumps(made, indent=1, ensure_ascii=True) + "\n")
    sys.stdout.buffer.write((report.table(made) + "\n").encode(errors="backslashreplace"))
    return int(any(check["level"] == "must" and check["result"] == "fails" for check in made["checks"]))


if __name__ == "__main__":
    sys.exit(main())
