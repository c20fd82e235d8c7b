"""The units for systemd, filled in for a project: pure text in, pure text out.

The texts stand in the folder `systemd` beside this module; <names> in them are filled in. Whatever comes from the
project is written so that systemd reads it back as it was, see systemd.syntax(7) and "COMMAND LINES" in
systemd.service(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TEMPLATES = Path(__file__).parent / "systemd"
STOP_MARGIN_S = 15
"""For the kill ladder and the last accounts, after GRACE; systemd kills everything when this is over, too."""
BOOTS_PER_START = 2
"""How many times JOBSUP["BOOT_TIMEOUT"] a start or a reload may take."""
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\\]")


class UnitError(Exception):
    """Something that no unit can hold, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a unit has to know of a project.

    Args:
        python: its interpreter.
        manage: its manage.py.
        settings: dotted name of its settings module.
        user: whose processes these are.
        grace_s: JOBSUP["GRACE"], in seconds.
        boot_timeout_s: JOBSUP["BOOT_TIMEOUT"], in seconds.
    """

    python: Path
    manage: Path
    settings: str
    user: str
    grace_s: float
    boot_timeout_s: float


def service(
    project: Project, name: str | None = None, queues: Iterable[str] = (), database: str | None = None
) -> tuple[str, str]:
    """Return the name of the unit of one supervisor, and its text.

    Args:
        project: what it is filled in for.
        name: of the supervisor; None for what the settings say.
        queues: what it serves; empty for all queues.
        database: alias of the one whose jobs it runs; None for the router's.

    Raises:
        UnitError: a path or a name cannot stand in a unit.
    """
    unit = f"jobsup-{name}" if name else "jobsup"
    name_option = f" --name {argument(name)}" if name else ""
    name_option += f" --database {argument(database)}" if database else ""
    values = _values(project) | {
        "unit": unit,
        "runtime": unit,
        "name": name_option,
        "options": name_option + "".join(f" --queue {argument(queue)}" for queue in queues),
    }
    return f"{unit}.service", _fill("jobsup.service", values)


def instances(project: Project, name: str | None = None) -> tuple[str, str]:
    """Return the name of the unit of which there is one instance per queue, and its text.

    Args:
        project: what it is filled in for.
        name: what sets it apart from those of other projects on the machine.

    Raises:
        UnitError: a path cannot stand in a unit.
    """
    template = f"jobsup-{name}" if name else "jobsup"
    return f"{template}@.service", _fill("jobsup@.service", _values(project) | {"template": template})


def hardening(unit: str) -> tuple[str, str]:
    """Return the name of the optional drop-in for a unit, and its text."""
    return f"{unit}.d/hardening.conf", (TEMPLATES / "hardening.conf").read_text(encoding="utf-8")


def argument(text: str) -> str:
    """Return a word of a command line as ExecStart= takes it: % begins a specifier there, $ a variable."""
    return _quoted(_literal(text).replace("$", "$$"))


def program(path: Path) -> str:
    """Return the program of a command line as ExecStart= takes it.

    No variable is looked for in the path itself, but one is in the name that the program is called by, and by that name
    Python finds its virtual environment; the sign @ sets the two apart.

    Raises:
        UnitError: it is a path that systemd takes for no program.
    """
    text = str(path)
    if re.search("[\"']", text):
        raise UnitError(
            f"{text!r} cannot be started by systemd: the path of a program must not contain quotation marks"
        )
    return f"{_quoted('@' + _literal(text))} {argument(text)}" if "$" in text else _quoted(_literal(text))


def _values(project: Project) -> dict[str, str]:
    return {
        "project": _literal(project.settings.partition(".")[0]),
        "user": _literal(project.user),
        "folder": _literal(str(project.manage.parent)),  # the rest of the line, whatever is in it
        "settings": _literal(project.settings),
        "manage": f"{program(project.python)} {argument(str(project.manage))}",
        "start_timeout": f"{BOOTS_PER_START * project.boot_timeout_s:.10g}",
        "stop_timeout": f"{project.grace_s + STOP_MARGIN_S:.10g}",
    }


def _fill(template: str, values: dict[str, str]) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub("<([a-z_]+)>", lambda found: values.get(found[1], found[0]), text)


def _literal(text: str) -> str:
    """Return a text in which systemd sees no specifier.

    Raises:
        UnitError: it has characters that mean something else in a unit.
    """
    if UNWRITABLE.search(text):
        raise UnitError(f"{text!r} cannot stand in a unit: it contains a backslash or a control character")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    if not re.search(r"[\s\"';#]", text):
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
