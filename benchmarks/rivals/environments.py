"""A virtual environment for each rival, made on demand: where it is, whether it can be used, and how it is made.

Each has the Python and the Django of the environment that runs the benchmarks, so that those make no difference.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.rivals import POSTGRESQL, RIVALS, Rival

PLACE = Path(__file__).resolve().parent.parent.parent / ".bench"


def bin_of(rival: Rival) -> Path:
    """Return where the programs of a rival's environment are; jobsup's is the one that we run in."""
    if not rival.requirements:
        return Path(sys.executable).parent
    return PLACE / rival.adapter / "bin"


def wanted(rival: Rival) -> list[str]:
    """Return everything that is to be installed."""
    return [f"Django=={version('django')}", POSTGRESQL, *rival.requirements]


def is_made(rival: Rival) -> bool:
    """Tell whether the environment is there, as it is wanted by this Python."""
    stamp = PLACE / rival.adapter / "made"
    return not rival.requirements or (stamp.exists() and stamp.read_text() == _said(rival))


def make(rival: Rival) -> str:
    """Make the environment anew; return why that was not possible, "" if it was."""
    folder = PLACE / rival.adapter
    pip = [str(bin_of(rival) / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, *wanted(rival)]):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            return (done.stderr or done.stdout).strip().rpartition("\n")[2]
    (folder / "made").write_text(_said(rival))
    return ""


def _said(rival: Rival) -> str:
    return "\n".join([sys.version, *wanted(rival)])


def main() -> int:
    """Make those that are not there; say of each how it went."""
    there = []
    for rival in {rival.adapter: rival for rival in RIVALS}.values():
        if is_made(rival):
            print(f"{rival.adapter}: is there")
        elif words := make(rival):
            print(f"{rival.adapter}: cannot be made, the others can be measured without it: {words}")
            continue
        else:
            print(f"{rival.adapter}: made ({', '.join(wanted(rival))})")
        there.append(rival)
    return int(not there)
