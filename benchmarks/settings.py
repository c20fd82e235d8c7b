"""The settings of every contender: what BENCH_SETTINGS says, a JSON object."""

from __future__ import annotations

import json
import os

globals().update(json.loads(os.environ["BENCH_SETTINGS"]))

if globals()["DATABASES"]["default"]["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()  # Django knows the driver by that name
