"""A machine of its own with a real systemd: PID 1 of a container whose root is an overlay of this machine's root.

Nothing is copied and nothing is left: the overlay is a tmpfs in a mount namespace that ends with the box, every process
of the box ends with its PID 1, and that is killed when we end, however we end. The box has its own loopback and no
other network. Needs root and Debian's package systemd-container; `why_not` says what is missing.

The box's /tmp and /run are fresh, and a user of the box cannot see into root's home: what is needed of this tree and
of this Python is brought to /opt.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import ROOT, eventually, is_alive, kill, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

PREFIX = "jobsup-box-"
VENV = Path("/opt/venv")
PYTHON = Path("/opt/python")
TREE = Path("/opt/jobsup")
PACKAGES = Path("/opt/packages")
OWN_PYTHON = not Path(sys.base_prefix).samefile("/usr")
RUN = Path("/run")
BOOT_TIMEOUT_S = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_numbers = itertools.count(1)

# Runs in a mount namespace of its own, in cgroups of its own, and becomes systemd-nspawn. Pure cgroup v2 inside:
# systemd is told there when the last process of a service is gone, which a hybrid hierarchy does not tell.
BECOME_THE_BOX = """
set -e
place=$1; groups=$2; shift 2
for group in $groups; do echo $$ > "$group/cgroup.procs"; done
mount -t tmpfs -o size=1g,mode=755 box "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay box -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
: > "$place/root/etc/machine-id"
mkdir -p /run/systemd/nspawn
mount -t tmpfs locks /run/systemd/nspawn
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory="$place/root" --boot --register=no --keep-unit --private-network \
    --link-journal=no --console=pipe "$@" systemd.unit=basic.target
"""


# The kernel kills it with us, and then, since it is the first of a PID namespace, everything that it has started.
TIED_TO_US = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=private"]
TIED_TO_US += ["--pid", "--mount-proc", "--fork", "--kill-child=KILL"]


def why_not() -> str | None:
    """Return what a box lacks on this machine, None if nothing."""
    if os.geteuid() != 0:
        return "a box needs root"
    if shutil.which("systemd-nspawn") is None:
        return "a box needs systemd-nspawn: apt-get install systemd-container"
    return None


class Box:
    """A booted box; use it in a `with` block.

    Args:
        binds: folders of this machine that the box may write, and where it finds them.
    """

    def __init__(self, binds: Mapping[Path, Path] | None = None) -> None:
        self.leader = 0
        self._binds = binds or {}
        self._place = RUN / f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self._log_file = self._place.with_suffix(".log")
        self._groups = [group / self._place.name for group in _own_groups()]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        _sweep()
        self._place.mkdir(mode=0o700)
        try:
            self._boot()
            self._furnish()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what can be done with it

    @property
    def root(self) -> Path:
        """The box's file system as seen from here, its /run and /tmp included."""
        return Path(f"/proc/{self.leader}/root")

    def at(self, path: Path | str) -> Path:
        """Return where a path of the box is found from here."""
        return self.root / str(path).lstrip("/")

    def put(self, path: Path | str, text: str, mode: int = 0o644) -> Path:
        """Write a file in the box, its folders included; return it as seen from here."""
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def run(self, *command: str, check: bool = True, timeout_s: float = 100) -> str:
        """Run a command in the box, as root in its every namespace, and return its output and errors."""
        done = self.ask(*command, timeout_s=timeout_s)
        assert not check or done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def ask(self, *command: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a command in the box and return how it ended, output and errors together."""
        clean = ["env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"]
        return subprocess.run(
            ["nsenter", f"--target={self.leader}", "-m", "-u", "-i", "-n", "-p", "-C", "--", *clean, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> list[int]:
        """Return the pids on this machine of the processes of the box."""
        return [outer for outer, _ in self._pids()]

    def host_pid(self, pid: int) -> int:
        """Return the pid on this machine of a process of the box; 0 if there is none."""
        return next((outer for outer, inner in self._pids() if inner == pid), 0)

    def box_pid(self, pid: int) -> int:
        """Return the pid in the box of a process of this machine."""
        return next((inner for outer, inner in self._pids() if outer == pid), 0)

    def _pids(self) -> Iterator[tuple[int, int]]:
        """Yield the pids of each process of the box, outside and inside."""
        assert self._process is not None
        for outer in processes_of(self._process.pid):
            with suppress(
                OSError, ValueError
            ):  # it has ended, or is systemd-nspawn and so only in the namespace around
                _, _, inner = _pids_in_namespaces(outer)
                yield outer, inner

    # -- how it comes and goes

    def _boot(self) -> None:
        for group in self._groups:
            group.mkdir()
        readable = {_packages(): PACKAGES} | ({Path(sys.base_prefix): PYTHON} if OWN_PYTHON else {})
        options = [f"--bind={here}:{there}" for here, there in self._binds.items()]
        options += [f"--bind-ro={here}:{there}" for here, there in readable.items()]
        script = ["sh", "-c", BECOME_THE_BOX, "box", str(self._place), " ".join(map(str, self._groups))]
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*TIED_TO_US, *script, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._is_up, BOOT_TIMEOUT_S, "the boot of the box", self._log_file.read_text)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"systemd-nspawn ended:\n{self._log_file.read_text()}"
        self.leader = self.host_pid(1)
        return self.leader != 0 and self.ask("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _furnish(self) -> None:
        """Bring this tree and this Python to /opt, where every user can read them."""
        for name in ("supervisor", "django_app", "tests"):
            shutil.copytree(
                ROOT / name, self.at(TREE / name), ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        base = PYTHON if OWN_PYTHON else Path(sys.base_prefix)
        self.put(VENV / "pyvenv.cfg", f"home = {base}/bin\ninclude-system-site-packages = false\n")
        self.at(VENV / "bin").mkdir()
        self.at(VENV / "bin" / "python").symlink_to(base / "bin" / f"python{version}")
        paths = [PACKAGES, TREE / "supervisor", TREE / "django_app", TREE]
        self.put(VENV / f"lib/python{version}/site-packages/box.pth", "".join(f"{path}\n" for path in paths))
        if OWN_PYTHON:  # a libpython that is shared is looked for where it was built, and that is not in the box
            self.put("/etc/ld.so.conf.d/box.conf", f"{base}/lib\n")
            self.run("ldconfig")

    def close(self) -> None:
        """End the box and everything in it at once."""
        if self._process is not None:
            kill([*processes_of(self._process.pid)[:1], self._process.pid])
            self._process.wait()
        for group in self._groups:
            _remove_group(group)
        self._place.rmdir()
        self._log_file.unlink(missing_ok=True)


def _pids_in_namespaces(pid: int) -> list[int]:
    """Return the pids of a process, ours first, that in its own namespace last."""
    (line,) = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return [int(number) for number in line.split()]


def _packages() -> Path:
    """Return the folder of the packages that the tests run with."""
    return Path(sysconfig.get_paths()["purelib"])


def _own_groups() -> Iterator[Path]:
    """Yield our cgroups in the hierarchies in which systemd-nspawn makes one for its box: two boxes would share it."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = mount.split()
        name = "" if kind == "cgroup2" else "name=systemd"
        if name in own and (kind == "cgroup2" or (kind == "cgroup" and name in options.split(","))):
            yield Path(place + own[name])


def _sweep() -> None:
    """Remove what is left of the boxes of test runs that were killed."""
    for folder in [RUN, *_own_groups()]:
        for path in folder.glob(f"{PREFIX}*"):
            owner = re.match(rf"{PREFIX}(\d+)-", path.name)
            if owner and not is_alive(int(owner[1])):
                if folder == RUN:
                    path.unlink() if path.is_file() else path.rmdir()
                else:
                    _remove_group(path)


def _remove_group(group: Path) -> None:
    """Remove a cgroup and all below it, as soon as the kernel has let go of its last process."""
    deadline = time.monotonic() + 10
    while group.is_dir():
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                assert time.monotonic() < deadline, f"processes are left in {folder}"
        time.sleep(0.01)
