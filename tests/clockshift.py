"""Setting the clock of some processes, as if somebody had set that of their machine.

A library that is loaded before all others adds an offset, which stands in a file and may change at any time, to the
clock that can be set; monotonic clocks go on. Needs a C compiler; `why_not` says what is missing.
"""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long nothing, *offset = &nothing;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCKSHIFT_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) offset = page;
    if (fd >= 0) close(fd);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int answer = syscall(SYS_clock_gettime, id, now);
    if (!answer && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return answer;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


def why_not() -> str | None:
    """Return what is missing, None if nothing."""
    return None if shutil.which("cc") else "setting the clock of some processes needs a C compiler: apt-get install gcc"


class Clock:
    """A clock that can be set.

    Args:
        folder: where its files are made.
    """

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / "clockshift.offset", folder / "clockshift.so"
        self.set(timedelta(0))
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-"]
        subprocess.run(command, input=SOURCE.encode(), check=True)
        self.env = {"LD_PRELOAD": str(library), "CLOCKSHIFT_FILE": str(self._file)}
        """What the processes are started with."""

    def set(self, ahead: timedelta) -> None:
        """Set it, by an offset to the real time."""
        with self._file.open("r+b" if self._file.exists() else "w+b", buffering=0) as file:
            file.write(int(ahead.total_seconds()).to_bytes(8, "little", signed=True))
