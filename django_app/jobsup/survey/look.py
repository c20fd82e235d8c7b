"""Looks through the source of a project for what belongs to another queue."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jobsup.survey.libraries import LIBRARIES
from jobsup.survey.rules import Fit, Library
from jobsup.survey.sources import Module, Unread, read
from jobsup.survey.world import UNKNOWN, Function, World, dotted

SHOWN_CHARS_MAX = 60


class Finding(NamedTuple):
    """Something that would have to change, or could."""

    path: str
    line: int
    library: str
    what: str
    fit: Fit
    advice: str


class Survey(NamedTuple):
    """What a survey came to."""

    files: int
    findings: list[Finding]
    unread: list[Unread]


def survey(paths: Iterable[Path]) -> Survey:
    """Look through the Python files at or below the paths."""
    found = [*read(paths)]
    modules = [each for each in found if isinstance(each, Module)]
    unread = [each for each in found if isinstance(each, Unread)]
    findings: list[Finding] = []
    world = World(modules)
    for module in modules:
        look = _Look(module, world)
        try:
            look.visit(module.tree)
        except RecursionError:
            unread.append(Unread(module.path, "it is nested too deeply"))
        findings += sorted(dict.fromkeys(look.findings), key=lambda finding: finding.line)
    return Survey(len(modules), findings, unread)


class _Look(ast.NodeVisitor):
    """Visits one module."""

    def __init__(self, module: Module, world: World) -> None:
        self.findings: list[Finding] = []
        self._module, self._world = module, world
        path = Path(module.path)
        self._in_view = path.stem.startswith("views") or path.parent.name == "views"
        self._bound: list[tuple[str, Library]] = []
        """What functions that are bound to their task call it."""

    def _note(self, node: ast.AST, library: Library, keys: Iterable[str], what: str) -> str | None:
        """Note what there is a rule for; return the key of the rule."""
        found = library.find(*keys)
        if found is None:
            return None
        shown = what if len(what) <= SHOWN_CHARS_MAX else f"{what[: SHOWN_CHARS_MAX - 3]}..."
        line: int = getattr(node, "lineno", 0)
        self.findings.append(Finding(self._module.path, line, library.name, shown, *found[1]))
        return found[0]

    def _keywords(self, call: ast.Call, library: Library, key: str) -> None:
        for keyword in call.keywords:
            if keyword.arg is not None:
                self._note(keyword, library, [f"{key}({keyword.arg})"], f"{keyword.arg}=")

    # ---- functions and their decorators

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Look at the decorators, then at what it does."""
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Likewise."""
        self._function(node)

    def _function(self, node: Function) -> None:
        bound: Library | None = None
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            name = call.func if call else decorator
            found = self._world.key_of(self._module, name)
            if found is None:
                self.visit(decorator)
                continue
            library, key = found
            is_task = key in library.tasks
            noted = self._note(decorator, library, [key], f"@{ast.unparse(name)}")
            if call is not None:
                self._keywords(call, library, "@" if is_task else noted or key)
                for value in (*call.args, *(keyword.value for keyword in call.keywords)):
                    self.visit(value)
                if is_task and any(keyword.arg == "bind" for keyword in call.keywords):
                    bound = library
        arguments = node.args.posonlyargs + node.args.args
        was_in_view, self._in_view = self._in_view, self._in_view or any(each.arg == "request" for each in arguments)
        self._bound += [(arguments[0].arg, bound)] if bound and arguments else []
        for part in (node.args, *node.body):
            self.visit(part)
        self._in_view = was_in_view
        if bound and arguments:
            self._bound.pop()

    # ---- names and calls

    def visit_Import(self, node: ast.Import) -> None:
        """What is imported counts where it is used."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Likewise."""

    def visit_Name(self, node: ast.Name) -> None:
        """Look at a name that is used."""
        self._name(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at a dotted name that is used."""
        if self._name(node) is None or isinstance(node.value, ast.Call):
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        """Look at what is called, and with which keywords."""
        noted = self._name(node.func)
        library = self._world.task(self._module, node.func, surely=True) if noted is None else None
        if library is not None and self._note(node, library, ["()"], f"{ast.unparse(node.func)}()"):
            noted = library, "()"
        if noted is None:
            self.visit(node.func)
        else:
            self._keywords(node, *noted)
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
                self.visit(node.func.value)
        name = dotted(self._module, node.func) or ""
        if name.endswith("transaction.on_commit"):
            self._on_commit(node)
        for keyword in node.keywords if _is_update(node) else ():
            self._conf(node.func, keyword.arg or "", keyword.value)
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(value)

    def _name(self, node: ast.expr) -> tuple[Library, str] | None:
        """Note a name if it belongs to a library; return whose it is and the key of its rule."""
        if isinstance(node, ast.Attribute):
            if (noted := self._of_bound(node)) is not None:
                return noted
            method = self._world.method(self._module, node)
            if method is not None and (key := self._note(node, method[0], [method[1]], f".{node.attr}()")):
                return method[0], key
        name = dotted(self._module, node)
        if name is None or not isinstance(node, (ast.Name, ast.Attribute)):
            return None
        found = self._world.key_of(self._module, node)
        candidates = [found] if found else [(each, name) for each in LIBRARIES if not name.startswith(UNKNOWN)]
        for library, own in candidates:
            keys = [own, f"view:{own}"] if self._in_view else [own]
            if own.startswith("<app>.conf.") and not own.endswith(".update"):
                keys = [f"CELERY_{own.removeprefix('<app>.conf.').upper()}"]
            if "()" in own and (rule := library.find(*keys)) is not None and rule[0] in library.vague:
                continue  # what is called is known better
            if key := self._note(node, library, keys, ast.unparse(node)):
                return library, key
        return None

    def _of_bound(self, node: ast.Attribute) -> tuple[Library, str] | None:
        """Note what a bound task reads of itself."""
        chain = dotted(self._module, node)
        for name, library in reversed(self._bound):
            prefix = f"{UNKNOWN}{name}."
            if chain is not None and chain.startswith(prefix) and "()" not in chain:
                rest = chain.removeprefix(prefix)
                if key := self._note(node, library, [f"self.{rest}"], f"{name}.{rest}"):
                    return library, key
        return None

    def _on_commit(self, call: ast.Call) -> None:
        for node in (each for argument in call.args for each in ast.walk(argument)):
            if isinstance(node, ast.Attribute) and (found := self._world.method(self._module, node)) is not None:
                self._note(call, found[0], ["on_commit"], "transaction.on_commit()")

    # ---- settings

    def visit_Assign(self, node: ast.Assign) -> None:
        """Look at a setting."""
        for target in node.targets:
            self._setting(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Likewise."""
        if node.value is not None:
            self._setting(node.target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Likewise."""
        self._setting(node.target, node.value)
        self.generic_visit(node)

    def _setting(self, target: ast.expr, value: ast.expr) -> None:
        root = target
        while isinstance(root, ast.Subscript):
            root = root.value
        if isinstance(root, ast.Attribute):
            self._conf(root, "", value)
        if not isinstance(root, ast.Name) or not root.id.isupper():
            return
        for library in LIBRARIES:
            self._note(root, library, [root.id], root.id)
            self._entries(library, root.id, value, [] if root is target else ["..."])
            for text, node in _texts(value) if root.id.endswith(("APPS", "MIDDLEWARE")) else ():
                self._note(node, library, [f"'{text}'", f"'{text.split('.apps.')[0]}'"], f"'{text}'")

    def _entries(self, library: Library, setting: str, value: ast.expr, above: list[str]) -> None:
        """Note the entries of a dict; a pattern counts for those right below the setting only."""
        for name, node, under in entries(value):
            keys = [f"{setting}[{name}]"]
            if not above or keys[0] in library.rules:
                self._note(node, library, keys, f"{setting}{''.join(f'[{key}]' for key in [*above, repr(name)])}")
            if name == "BACKEND" and above and isinstance(under, ast.Constant):
                self._note(under, library, [f"'{under.value!s}'"], repr(under.value))
            self._entries(library, setting, under, [*above, "..."])

    def _conf(self, node: ast.expr, name: str, value: ast.expr) -> None:
        """Note a setting of an app object: `app.conf.NAME = value` (name is empty) or `app.conf.update(NAME=value)`."""
        found = self._world.key_of(self._module, node)
        if found is None or not found[1].startswith("<app>.conf."):
            return
        setting = f"CELERY_{(name or found[1].removeprefix('<app>.conf.')).upper()}"
        if name:
            self._note(value, found[0], [setting], f"{name}=")
        self._entries(found[0], setting, value, [])


def _is_update(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "update"


def entries(value: ast.expr) -> list[tuple[str, ast.AST, ast.expr]]:
    """Return the entries of a dict whose keys are texts: each with where it stands and its value."""
    if isinstance(value, ast.Dict):
        pairs = zip(value.keys, value.values, strict=True)
        return [(k.value, k, v) for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)]
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
        return [(each.arg, each, each.value) for each in value.keywords if each.arg is not None]
    return []


def _texts(value: ast.expr) -> list[tuple[str, ast.AST]]:
    found = (each for each in ast.walk(value) if isinstance(each, ast.Constant))
    return [(each.value, each) for each in found if isinstance(each.value, str)]
