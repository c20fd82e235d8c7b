"""The exceptions of spawnpool; the docstring of each is its default message."""

from __future__ import annotations


class SpawnpoolError(Exception):
    """The process pool cannot go on."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


class LimitError(SpawnpoolError, ValueError):
    """A limit has a value that cannot work."""


class SourceUnavailable(SpawnpoolError):
    """The source of work cannot be reached at the moment; trying again later may help."""


class SourceCrowded(SourceUnavailable):
    """The source of work has no room for one more of us: somebody has to leave it first."""


class SourceRefused(SpawnpoolError):
    """The source of work refuses this supervisor; trying again will not help."""


class RunOver(SpawnpoolError):
    """This run was declared over by somebody else; what it had was given away."""


class AlreadyRunning(SpawnpoolError):
    """Another process holds the run file."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class BrokenReport(SpawnpoolError):
    """A worker sent bytes that are no report."""


class LaneLost(SpawnpoolError):
    """The worker's own descriptors were closed or replaced by a job."""


class NotMainThread(SpawnpoolError):
    """Workers are spawned from the main thread only: PR_SET_PDEATHSIG fires when the spawning thread ends."""
