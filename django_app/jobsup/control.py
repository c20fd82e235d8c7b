"""What `manage.py jobsupervisor drain`, `stop`, `reload`, `quiet`, `resume` and `status` do: ask, print, exit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from jobsup import conf
from jobsup.places import run_path
from jobsup.text import duration
from spawnpool import client
from spawnpool.control import refusal
from spawnpool.pools import who
from spawnpool.states import ExitCode

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

ANSWER_WAIT_S = 30.0
"""How long an answer may take that waits for nothing: the supervisor's loop can be held up by its database."""
TIMEOUT_MAX_S = 7 * 86400
"""As long as the longest grace."""
SERVICES = Path("/run")
"""systemd makes the folder of RuntimeDirectory= there, and tells it to the service alone."""
_MB = 2**20


class Outcome(IntEnum):
    """What the exit code of a command to a running supervisor says."""

    DONE = 0
    FAILED = 1  # it said no, or ended before it answered
    REFUSED = ExitCode.BOOT_FAILED  # a reload: the new code cannot start, the old workers stay
    NOT_ALLOWED = ExitCode.BAD_CONFIG  # asked as the wrong user
    NOT_RUNNING = 9  # no supervisor of that name runs here
    AWAY = 10  # status: it runs, and cannot reach its database
    TIMED_OUT = 124  # as timeout(1) says it; what was asked for goes on
    INTERRUPTED = 130  # as a shell says it after Ctrl-C; what was asked for goes on


def run(
    command: str,
    settings: conf.Conf,
    *,
    wait: bool,
    as_json: bool,
    alive: bool = False,
    timeout_s: float | None,
    stdout: SupportsWrite[str],
) -> int:
    """Ask the supervisor of the configured name, print its answer and return the exit code.

    Args:
        command: one of `spawnpool.control.COMMANDS`.
        settings: whose name and run folder say which supervisor is meant.
        wait: whether to wait for the fact.
        as_json: print the answer as it came; what goes wrong is printed in the same form.
        alive: whether a supervisor that waits for its database is well, too.
        timeout_s: how long to wait, in seconds; None for as long as the fact takes.
        stdout: where the answer goes.

    Raises:
        CommandError: there is no good answer, and `as_json` was not asked for; it has the exit code.
    """
    if timeout_s is None and not wait:
        timeout_s = ANSWER_WAIT_S
    if timeout_s is not None and not 0 <= timeout_s <= TIMEOUT_MAX_S:
        raise CommandError(f"--timeout is {timeout_s}: must lie between 0 and {TIMEOUT_MAX_S}", returncode=2)
    try:
        answer = client.ask(_place(settings), command, wait=wait, timeout_s=timeout_s)
    except client.AskingFailed as error:
        words, code = _failure(error, settings)
        answer = refusal(words)
    except KeyboardInterrupt:
        answer, code = refusal("no longer waiting; what was asked for goes on"), Outcome.INTERRUPTED
    else:
        code = _outcome(command, answer)
    if as_json:
        stdout.write(json.dumps(answer) + "\n")
    elif code not in (Outcome.DONE, Outcome.AWAY):
        raise CommandError(answer["words"], returncode=code)
    else:
        stdout.write("".join(f"{line}\n" for line in _lines(command, answer, settings)))
    return Outcome.DONE if alive and code is Outcome.AWAY else code


# -- which supervisor -------------------------------------------------------------------------------------------------


def _place(settings: conf.Conf) -> Path:
    """Return the run file that the settings mean; that of a service if only there somebody runs."""
    path = run_path(settings)
    places = [path]
    if settings.run_dir is None:
        places += sorted(SERVICES.glob(f"jobsup*/{path.name}"))
    return next(filter(_is_held, places), path)


def _running_beside(path: Path, name: str) -> list[str]:
    """Return the names of the supervisors of the same database that run in the same folder."""
    tail = path.name.removeprefix(name)
    return [other.name.removesuffix(tail) for other in sorted(path.parent.glob(f"*{tail}")) if _is_held(other)]


def _is_held(path: Path) -> bool:
    try:
        return client.holder(path) is not None
    except client.NotAllowed:
        return False


def _failure(error: client.AskingFailed, settings: conf.Conf) -> tuple[str, Outcome]:
    match error:
        case client.NotRunning():
            others = ", ".join(_running_beside(run_path(settings), settings.name))
            running = f"running here: {others}; choose one with --name" if others else "start it with jobsupervisor"
            return f"no supervisor {settings.name} runs here ({error}): {running}", Outcome.NOT_RUNNING
        case client.NotAllowed():
            return str(error), Outcome.NOT_ALLOWED
        case client.TimedOut():
            return f"{error}; what was asked for goes on", Outcome.TIMED_OUT
    return str(error), Outcome.FAILED


def _outcome(command: str, answer: Mapping[str, Any]) -> Outcome:
    if answer["ok"]:
        away = command == "status" and (answer.get("status") or {}).get("trouble")
        return Outcome.AWAY if away else Outcome.DONE
    return Outcome.REFUSED if command == "reload" else Outcome.FAILED


# -- for a human ------------------------------------------------------------------------------------------------------


def _lines(command: str, answer: Mapping[str, Any], settings: conf.Conf) -> list[str]:
    try:
        return [answer["words"]] if command != "status" else list(status_lines(answer["status"], settings.node_name))
    except (KeyError, TypeError, ValueError):  # during a deployment a supervisor of another version may answer
        return [json.dumps(answer)]


def status_lines(status: Mapping[str, Any], node: str) -> Iterator[str]:
    """Yield what a snapshot says: the supervisor, what is special about it, each worker."""
    workers, wanted = status["workers"], status["workers_wanted"]
    facts = [
        status["state"] + (", quiet" if status["quiet"] else ""),
        f"{len(workers)} worker{'s' * (len(workers) != 1)}" + (f" of {wanted}" if len(workers) != wanted else ""),
        f"{sum(worker['job'] is not None for worker in workers)} busy",
        f"{_rate(status['per_s'])} jobs/s",
        *([] if status["ready"] is None else [f"{status['ready']:,} ready"]),
        f"up {duration(status['uptime_s'])}",
    ]
    yield f"supervisor {status['name']} on {node} (pid {status['pid']}): {', '.join(facts)}"
    if trouble := status.get("trouble"):
        yield trouble
    if status["degraded"]:
        yield f"degraded: {status['degraded']}"
    if reload := status["reload"]:
        yield f"{reload['words']} ({duration(reload['ago_s'])} ago)"
    several = len(pools := status.get("pools", ())) > 1
    yield from (f"pool {_pool(each)}" for each in pools if several)
    for each in workers:
        yield f"{who(each['number'], each['pid'], each['pool'] if several else '')}: {_doing(each)}"


def _pool(pool: Mapping[str, Any]) -> str:
    there, wanted = pool["workers"], pool["workers_wanted"]
    workers = f"{there} worker{'s' * (there != 1)}" + (f" of {wanted}" if there != wanted else "")
    queues = "every queue" if pool["feeds"] is None else ", ".join(pool["feeds"])
    limits = ", ".join(f"{queue} at most {most} at once" for queue, most in pool["at_once"].items())
    return f"{pool['name']}: {workers}, {pool['busy']} busy, serves {queues}" + (f" ({limits})" if limits else "")


def _doing(worker: Mapping[str, Any]) -> str:
    facts = [] if worker["state"] == "serving" else [worker["state"]]
    if worker["job"] is not None:
        ran = "" if worker["for_s"] is None else f" for {duration(worker['for_s'])}"
        facts.append(f"job {worker['job']}{ran}")
    elif not facts:
        facts.append("idle")
    if worker["waiting"]:
        facts.append(f"{worker['waiting']:,} more on its lane")
    if worker["rss_bytes"] is not None:
        facts.append(f"{worker['rss_bytes'] / _MB:,.0f} MB")
    return ", ".join(facts)


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s == 0 or per_s >= 9.95 else f"{per_s:.1f}"
