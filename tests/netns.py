"""Machines of their own on this one: network namespaces, each on a cable to a bridge in the hub, where the database is.

Nothing of this machine's own network is touched. The namespaces are removed when the network is left, however that
happens; those of a process that was killed are removed by the next one. Needs root and iproute2; `why_not` says what is
missing.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PREFIX = "jobsup-net-"
SUBNET = "10.77.0"
CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_numbers = itertools.count(1)


def why_not() -> str | None:
    """Return what machines of their own lack on this one, None if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "nsenter") if shutil.which(program) is None]
    return f"network namespaces need {' and '.join(missing)}: apt-get install iproute2 util-linux" if missing else None


class Host:
    """A namespace.

    Args:
        network: which it is on.
        name: of the namespace.
        address: of its end of the cable.
    """

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.network, self.name, self.address = network, name, address
        self.port = f"v{address.rpartition('.')[2]}"

    @property
    def prefix(self) -> list[str]:
        """What starts a program there; that program becomes the process that was started."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def cut(self) -> None:
        """Pull the cable: packets vanish, and the machine sees that its link is down."""
        self.network.hub_ip("link", "set", self.port, "down")

    def drop(self) -> None:
        """Have every packet vanish on the way; nobody sees anything."""
        self.network.hub_ip("link", "set", self.port, "nomaster")

    def heal(self) -> None:
        """Undo both."""
        self.network.hub_ip("link", "set", self.port, "master", "bridge0", "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have what this thread starts meanwhile be started there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(before)
            os.close(there)


class Network:
    """A hub and its hosts; use it in a `with` block."""

    def __init__(self) -> None:
        self._stem = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self._hosts: list[Host] = []
        self.hub = Host(self, f"{self._stem}-hub", f"{SUBNET}.1")

    def __enter__(self) -> Self:
        _sweep()
        atexit.register(self.close)
        try:
            ip("netns", "add", self.hub.name)
            self.hub_ip("link", "set", "lo", "up")
            self.hub_ip("link", "add", "bridge0", "type", "bridge")
            self.hub_ip("address", "add", f"{self.hub.address}/24", "dev", "bridge0")
            self.hub_ip("link", "set", "bridge0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def host(self) -> Host:
        """Add a host."""
        number = len(self._hosts) + 11
        host = Host(self, f"{self._stem}-{number}", f"{SUBNET}.{number}")
        self._hosts.append(host)
        ip("netns", "add", host.name)
        ip("-n", host.name, "link", "set", "lo", "up")
        self.hub_ip("link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        host.heal()
        ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.name, "link", "set", "eth0", "up")
        return host

    def hub_ip(self, *words: str) -> None:
        """Change something in the hub."""
        ip("-n", self.hub.name, *words)

    def close(self) -> None:
        """Remove every namespace; the cables go with them."""
        for host in (*self._hosts, self.hub):
            subprocess.run(["ip", "netns", "delete", host.name], check=False, capture_output=True)
        self._hosts.clear()
        atexit.unregister(self.close)


def ip(*words: str) -> str:
    """Run iproute2's command and return what it says."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _sweep() -> None:
    """Remove what test runs have left that were killed."""
    folder = Path("/run/netns")
    for path in folder.glob(f"{PREFIX}*") if folder.is_dir() else ():
        found = re.match(rf"{PREFIX}(\d+)-", path.name)
        if found and not is_alive(int(found[1])):
            subprocess.run(["ip", "netns", "delete", path.name], check=False, capture_output=True)
