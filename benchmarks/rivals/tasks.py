"""Where frameworks look for an app's tasks, they find those of the contender that this environment is for."""

from __future__ import annotations

import os
from importlib import import_module

import_module(f"benchmarks.rivals.{os.environ['BENCH_ADAPTER']}")
