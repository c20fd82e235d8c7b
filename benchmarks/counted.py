"""The settings of the benchmarks, with the statements on SQLite counted; see `tests.statements`."""

from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import DATABASES
from tests.statements import Counted

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"]["factory"] = Counted
