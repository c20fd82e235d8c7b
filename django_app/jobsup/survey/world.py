"""What the modules of a project have made with the libraries: objects such as Celery's app, and tasks."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jobsup.survey.libraries import LIBRARIES
from jobsup.survey.rules import Library
from jobsup.survey.sources import Module

Function = ast.FunctionDef | ast.AsyncFunctionDef
UNKNOWN = "?"
"""Before a name that was not imported."""


class Made(NamedTuple):
    """Something that a module has made."""

    library: Library
    origin: str
    """The module's own name, without its packages."""


def dotted(module: Module, node: ast.expr) -> str | None:
    """Return the dotted name that an expression stands for, with `()` for a call; None if it has none."""
    match node:
        case ast.Name(id=name):
            return module.imported.get(name, f"{UNKNOWN}{name}")
        case ast.Attribute(value=value, attr=attribute):
            base = dotted(module, value)
            return base and f"{base}.{attribute}"
        case ast.Call(func=called):
            base = dotted(module, called)
            return base and f"{base}()"
        case _:
            return None


def origin_of(module: Module) -> str:
    """Return what a module is called, without its packages."""
    path = Path(module.path)
    return path.parent.name if path.stem == "__init__" else path.stem


@cache
def owner(name: str) -> Library | None:
    """Return the library that a dotted name belongs to by its beginning."""
    return next((library for library in LIBRARIES if library.owns(name)), None)


class World:
    """All that the modules have made.

    Args:
        modules: of the project.
    """

    def __init__(self, modules: Sequence[Module]) -> None:
        self._objects: dict[str, Made] = {}
        self._own_objects: dict[str, dict[str, Library]] = {}
        self._tasks: dict[str, list[Made]] = {}
        self.used = [library for library in LIBRARIES if any(_imports(module, library) for module in modules)]
        for module in modules:
            self._learn_objects(module)
        for module in modules:
            self._learn_tasks(module)

    def _learn_objects(self, module: Module) -> None:
        own = self._own_objects.setdefault(module.path, {})
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                name = dotted(module, node.value.func)
                library = next((each for each in LIBRARIES if name in each.objects), None)
                for target in node.targets:
                    if library is not None and isinstance(target, ast.Name):
                        own[target.id] = library
                        if target.id in module.own:
                            self._objects[target.id] = Made(library, origin_of(module))

    def _learn_tasks(self, module: Module) -> None:
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and (library := self.maker(module, node)) is not None:
                self._tasks.setdefault(node.name, []).append(Made(library, origin_of(module)))

    def maker(self, module: Module, function: Function) -> Library | None:
        """Return the library whose decorator makes a task of a function, None if none does."""
        for decorator in function.decorator_list:
            found = self.key_of(module, decorator.func if isinstance(decorator, ast.Call) else decorator)
            if found is not None and found[1] in found[0].tasks:
                return found[0]
        return None

    def key_of(self, module: Module, node: ast.expr) -> tuple[Library, str] | None:
        """Return the library that a name belongs to, and the name in the terms of its rules."""
        name = dotted(module, node)
        if name is None:
            return None
        if (library := owner(name)) is None:
            return self._of_object(module, name)
        made, called, rest = name.partition("().")
        return library, f"<app>.{rest}" if called and made in library.objects else name

    def _of_object(self, module: Module, name: str) -> tuple[Library, str] | None:
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            head, rest = parts[:length], ".".join(parts[length:])
            if (library := self._object(module, head)) is not None:
                return library, f"<app>.{rest}"
            for library in LIBRARIES:
                hinted = library.hint and any(library.hint in part for part in head[-2:])
                if hinted and not name.startswith(UNKNOWN) and f"<app>.{rest}" in library.rules:
                    return library, f"<app>.{rest}"
        return None

    def _object(self, module: Module, head: Sequence[str]) -> Library | None:
        name = head[-1]
        if name.startswith(UNKNOWN):
            return self._own_objects[module.path].get(name.removeprefix(UNKNOWN))
        made = self._objects.get(name)
        return made.library if made is not None and len(head) > 1 and head[-2] == made.origin else None

    def task(self, module: Module, node: ast.expr, *, surely: bool = False) -> Library | None:
        """Return whose task an expression names.

        Args:
            module: where it stands.
            node: the expression.
            surely: whether a task of that name in another module than the one that was imported from does not count.
        """
        parts = (dotted(module, node) or "").split(".")
        name = parts[-1].removeprefix(UNKNOWN)
        here = parts[0].startswith(UNKNOWN)
        if here and (len(parts) > 1 or name not in module.own):
            return None
        origin = origin_of(module) if here else parts[-2] if len(parts) > 1 else ""
        known = self._tasks.get(name, [])
        of_origin = [made for made in known if made.origin == origin]
        fits = of_origin or ([] if surely or here else known)
        return fits[0].library if fits else None

    def method(self, module: Module, node: ast.Attribute) -> tuple[Library, str] | None:
        """Return the library of a task whose method an expression names, and the key of the method."""
        key = f".{node.attr}"
        library = self.task(module, node.value)
        if library is not None:
            return (library, key) if key in library.rules else None
        return next(((each, key) for each in self.used if key in _telling(each)), None)


def _imports(module: Module, library: Library) -> bool:
    return any(library.owns(name) for name in module.imported.values())


def _telling(library: Library) -> Iterable[str]:
    """Return the methods that nothing but a task has, so that they tell of one that is not seen."""
    telling = (".delay", ".delay_on_commit", ".apply_async", ".apply_async_on_commit", ".send_with_options")
    return (key for key in telling if key in library.rules)
