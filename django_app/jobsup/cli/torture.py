"""`jobs torture`: supervisors of this installation are hurt at random, on a database made for it, and then judged."""

from __future__ import annotations

import os
import random
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup.cli.desk import DONE, FAILED, INTERRUPTED, Action, Desk
from jobsup.cli.filters import WRONG_USAGE
from jobsup.torture import scratch
from jobsup.torture.plan import FAULTS, Plan

JOBS, FAULTS_COUNT, SECONDS, WORKERS = 3000, 40, 40.0, 2
RESTART = "restart-database"


def _declare(parser: CommandParser) -> None:
    group = parser.add_argument_group("how much")
    group.add_argument("--jobs", type=_whole(1, 10**7), default=JOBS, metavar="N", help=f"enqueue so many ({JOBS})")
    group.add_argument(
        "--faults", type=_whole(0, 10**6), default=FAULTS_COUNT, metavar="N", help=f"strike so often ({FAULTS_COUNT})"
    )
    group.add_argument(
        "--seconds", type=_whole(1, 7 * 86400), default=int(SECONDS), metavar="S",
        help=f"over so many seconds ({SECONDS:.0f}), or longer where the machine is not fast enough",
    )  # fmt: skip
    group.add_argument("--seed", type=_whole(0, 2**63 - 1), metavar="N", help="make the choices of that run again")
    group.add_argument(
        "--workers", type=_whole(1, 64), default=WORKERS, metavar="N", help=f"of each of two supervisors ({WORKERS})"
    )
    group.add_argument(
        "--only", action="append", default=[], metavar="FAULT",
        help=f"strike with this only; may be given several times: {', '.join(FAULTS)}, or one of --own-fault",
    )  # fmt: skip
    group = parser.add_argument_group("where")
    group.add_argument(
        "--database", metavar="ALIAS", help="take this entry of DATABASES, which must be empty, instead of making one"
    )
    group.add_argument("--keep", action="store_true", help="leave database, logs and witness there, and say where")
    group = parser.add_argument_group("faults of your own")
    group.add_argument(
        "--database-restart", metavar="COMMAND", help="restart the database server by this, now and then"
    )
    group.add_argument(
        "--own-fault", action="append", default=[], metavar="NAME=COMMAND",
        help="do this now and then; what it breaks must be mended when it ends. May be given several times",
    )  # fmt: skip


def _run(desk: Desk, options: dict[str, Any]) -> int:
    commands = _commands(options)
    if unknown := [kind for kind in options["only"] if kind not in FAULTS and kind not in commands]:
        raise CommandError(
            f"--only {unknown[0]}: there is no such fault, there are {', '.join([*FAULTS, *commands])}",
            returncode=WRONG_USAGE,
        )
    if RESTART in options["only"] and RESTART not in commands:
        raise CommandError(f"--only {RESTART} needs --database-restart COMMAND", returncode=WRONG_USAGE)
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise CommandError("DJANGO_SETTINGS_MODULE is not set: supervisors find the settings by that name only")
    plan = Plan(
        jobs=options["jobs"],
        faults=options["faults"],
        seconds=float(options["seconds"]),
        seed=random.SystemRandom().randrange(10**6) if options["seed"] is None else options["seed"],
        workers=options["workers"],
        only=tuple(options["only"]),
    )
    with _folder(keep=options["keep"]) as name:
        return _torture(desk, plan, options, commands, Path(name))


def _torture(desk: Desk, plan: Plan, options: dict[str, Any], commands: dict[str, str], folder: Path) -> int:
    from jobsup.torture.launch import torture
    from jobsup.torture.report import show

    own, keep = desk.store.alias, options["keep"]
    if options["database"] is None:
        place = scratch.made(own, folder, keep=keep)
    else:
        place = scratch.given(options["database"], own, keep=keep)
    with place as found:
        desk.screen.remark(f"{found.words}: {plan.jobs:,} jobs and {plan.faults:,} faults, seed {plan.seed}")
        result = torture(plan, found, folder, commands, quiet=options["verbosity"] == 0)
    result["command"] = _again(plan, options)
    if desk.screen.as_json:
        desk.screen.json(result)
    else:
        show(desk.screen, result)
        desk.screen.say(_said(result))
        desk.screen.say(f"the same choices again: {result['command']}")
    if keep:
        desk.screen.remark(f"kept: {found.words}, and what was written in {folder}")
    if result["interrupted"]:
        return INTERRUPTED
    return DONE if result["held"] and result["failure"] is None else FAILED


def _said(result: dict[str, Any]) -> str:
    broken = sum(bool(each["broken"]) for each in result["promises"])
    outcome = f"{broken} promises were broken" if broken else "every promise held"
    if result["failure"] is not None:
        outcome += f", and the load ended with {result['failure']}"
    early = ", ended before its time," if result["interrupted"] else ""
    return (
        f"{result['enqueued']:,} jobs and {result['struck']:,} faults in {result['seconds']:.0f} s{early} "
        f"seed {result['seed']}: {outcome}"
    )


def _again(plan: Plan, options: dict[str, Any]) -> str:
    """Return the command that makes the same choices."""
    words = [
        "manage.py jobs torture", f"--seed {plan.seed}", f"--jobs {plan.jobs}", f"--faults {plan.faults}",
        f"--seconds {plan.seconds:.0f}", f"--workers {plan.workers}", *(f"--only {kind}" for kind in plan.only),
    ]  # fmt: skip
    if options["database"] is not None:
        words.append(f"--database {options['database']}")
    if options["database_restart"] is not None:
        words.append("--database-restart ...")
    return " ".join(words + ["--own-fault ..." for _ in options["own_fault"]])


def _commands(options: dict[str, Any]) -> dict[str, str]:
    """Return the commands that were given, by the names of their faults."""
    commands = {} if options["database_restart"] is None else {RESTART: options["database_restart"]}
    for text in options["own_fault"]:
        name, equals, command = text.partition("=")
        if not equals or not name or not command or name in FAULTS:
            raise CommandError(
                f"--own-fault {text}: expected NAME=COMMAND, the name that of no other fault", returncode=WRONG_USAGE
            )
        commands[name] = command
    return commands


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r}: expected a whole number from {least} to {most}")
        return int(text)

    return read


def _folder(*, keep: bool) -> AbstractContextManager[str]:
    prefix = "jobsup-torture-"
    return nullcontext(tempfile.mkdtemp(prefix=prefix)) if keep else tempfile.TemporaryDirectory(prefix=prefix)


TORTURE = Action(
    "torture", "hurt supervisors at random on a database made for it, and judge what came of it", _declare, _run
)
