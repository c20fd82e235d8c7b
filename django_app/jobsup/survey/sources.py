"""Python files below paths, parsed; never imported."""

from __future__ import annotations

import ast
import os
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LEFT_OUT = frozenset({"node_modules", "site-packages", "__pycache__"})
"""Folders that hold other people's code, besides virtual environments and hidden ones."""


HERE = "<here>"
"""Stands before the name of what is imported relatively."""


class Unread(NamedTuple):
    """A path that could not be looked at, and why not."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Module:
    """A file.

    Args:
        path: as it is shown.
        tree: what it says.
        imported: dotted names by what they are called in it.
        own: names that it gives to something at its top level.
    """

    path: str
    tree: ast.Module
    imported: Mapping[str, str]
    own: frozenset[str]


def read(paths: Iterable[Path]) -> Iterator[Module | Unread]:
    """Yield each Python file at or below the paths, in the order of their names, and what could not be read."""
    for given in paths:
        if given.is_dir():
            for path in _below(given):
                yield _module(path)
        elif given.exists():
            yield _module(given)
        else:
            yield Unread(str(given), "it does not exist")


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in LEFT_OUT and not name.startswith(".") and not Path(root, name, "pyvenv.cfg").exists()
        )
        yield from (Path(root, name) for name in sorted(files) if name.endswith(".py"))


def _module(path: Path) -> Module | Unread:
    try:
        with tokenize.open(path) as file:
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, such as an invalid escape sequence
            tree = ast.parse(text)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        return Unread(str(path), f"{where}{error.msg}")
    except OSError as error:
        return Unread(str(path), error.strerror or str(error))
    except (ValueError, RecursionError, MemoryError) as error:  # not its encoding, NUL, or nested too deeply
        return Unread(str(path), str(error) or type(error).__name__)
    return Module(str(path), tree, _imported(tree), _own(tree))


def _imported(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, (HERE if node.level else "", node.module)))
            for name in node.names:
                found[name.asname or name.name] = f"{origin}.{name.name}"
    return found


def _own(tree: ast.Module) -> frozenset[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(found)
