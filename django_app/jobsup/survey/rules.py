"""What a survey knows of a library: names that occur in source, and what each would become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple


class Fit(StrEnum):
    """How well something maps."""

    SAME = "same"
    """One to one."""
    DECIDE = "decide"
    """Somebody has to look and decide."""
    MISSING = "missing"
    """jobsup does not have it."""


class Rule(NamedTuple):
    """What one name would become."""

    fit: Fit
    advice: str


def same(advice: str) -> Rule:
    """Return the rule for what maps one to one."""
    return Rule(Fit.SAME, advice)


def decide(advice: str) -> Rule:
    """Return the rule for what needs a decision."""
    return Rule(Fit.DECIDE, advice)


def missing(advice: str) -> Rule:
    """Return the rule for what jobsup does not have."""
    return Rule(Fit.MISSING, advice)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Library:
    """A library, or another way to run something in the background.

    Args:
        name: as people call it.
        roots: dotted names that everything of it begins with.
        objects: classes and functions whose objects have tasks or take them, such as "celery.Celery".
        hint: what a module or a variable with such an object has in its name, where its making is not seen.
        tasks: decorators that make a task of a function; an object's own is "<app>.task".
        rules: what each name would become. A key is

            a.b.c, <app>.c      a name of the library, or of one of its objects; called: with its keywords as a.b.c(k)
            @(k)                a keyword of a decorator in `tasks`
            .m, .m(k), ()       a method of a task, its keyword; the task called as the function that it was
            self.x              what a task that is bound reads of itself
            NAME, NAME[k]       a setting and a key in it
            'text'              an entry in INSTALLED_APPS, or the BACKEND of an entry of TASKS
            on_commit           `transaction.on_commit` around a method of a task
            view:a.b            a name, where a request is answered

            and may have `*` in it, for what no other key names.
    """

    name: str
    roots: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    hint: str = ""
    tasks: tuple[str, ...] = ()
    rules: Mapping[str, Rule]

    @property
    def vague(self) -> frozenset[str]:
        """The rules for whatever there is no other rule for."""
        return frozenset(f"{root}.*" for root in self.roots)

    def owns(self, dotted: str) -> bool:
        """Tell whether a dotted name is one of the library's."""
        return any(dotted == root or dotted.startswith(f"{root}.") for root in self.roots)

    def find(self, *keys: str) -> tuple[str, Rule] | None:
        """Return the first of the keys that there is a rule for, or else a pattern that one of them matches."""
        return _find(self, keys)


@cache
def _find(library: Library, keys: tuple[str, ...]) -> tuple[str, Rule] | None:
    for key in keys:
        if (rule := library.rules.get(key)) is not None:
            return key, rule
    for pattern, rule in library.rules.items():
        if "*" in pattern and any(_matches(key, pattern) for key in keys):
            return pattern, rule
    return None


def _matches(key: str, pattern: str) -> bool:
    """Match with `*` alone, between names of one kind."""
    return _kind(key) == _kind(pattern) and fnmatchcase(key.replace("[", "<"), pattern.replace("[", "<"))


def _kind(key: str) -> str:
    """Return what a key is of: a keyword, a key in a setting, or a name."""
    return "" if key.endswith("()") or key[-1] not in ")]" else key[-1]
