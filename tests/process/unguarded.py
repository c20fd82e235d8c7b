"""A manage.py without `if __name__ == "__main__"`: a worker that imported it would start a supervisor of its own."""

import os
import sys
from pathlib import Path

from tests.process.listpool import Journal
from tests.process.program import main

Journal(Path(os.environ["LISTPOOL_DIR"])).tell("script")
sys.exit(main())
