"""`python -m jobsup.survey [PATH ...] [--json]`, which needs no settings."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from jobsup.survey import main

parser = ArgumentParser(prog="python -m jobsup.survey", description=main.DESCRIPTION)
main.add_arguments(parser)
options = parser.parse_args()
sys.exit(main.run(options.paths, sys.stdout, sys.stderr, as_json=options.json))
