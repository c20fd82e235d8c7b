"""What is found in one Python file: the work of the demo.

Pure: text in, facts out, the same facts in every process. No Django, no database, no clock; that is what makes "the
parallel result equals the serial one" a fair claim.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case)
NAME_CHARS_MAX = 200
ERROR_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one file; `error` is empty unless the file is not valid Python."""

    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest_name: str = ""
    longest_lines: int = 0
    knottiest_name: str = ""
    knottiest_paths: int = 0
    paths: int = 0
    identifiers: int = 0
    imports: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class Scope:
    """One function (or the module itself) while its paths are counted."""

    name: str
    lines: int = 0
    paths: int = 1


@dataclass(slots=True)
class Survey:
    """What a walk over one syntax tree has seen so far."""

    functions: list[Scope] = field(default_factory=list)
    classes: int = 0
    identifiers: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)


def examine(source: str) -> Facts:
    """Return the facts about the text of one Python file; text that does not parse gives an `error`."""
    lines = source.count("\n") + (not source.endswith("\n") and bool(source))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as problem:
        return Facts(
            lines=lines, error=f"{type(problem).__name__}: {problem.msg}, line {problem.lineno}"[:ERROR_CHARS_MAX]
        )
    except (ValueError, RecursionError, MemoryError) as problem:
        return Facts(lines=lines, error=f"{type(problem).__name__}: {problem}"[:ERROR_CHARS_MAX])
    return summarise(lines, survey(tree))


def survey(tree: ast.Module) -> Survey:
    """Walk the tree once, without recursion, so that deep nesting gives the same answer at every stack depth."""
    seen = Survey()
    stack: list[tuple[ast.AST, Scope, str]] = [(tree, Scope(""), "")]
    while stack:
        node, scope, prefix = stack.pop()
        if isinstance(node, FUNCTIONS):
            prefix = f"{prefix}{node.name}."
            scope = Scope(prefix[:-1], (node.end_lineno or node.lineno) - node.lineno + 1)
            seen.functions.append(scope)
        elif isinstance(node, ast.ClassDef):
            prefix = f"{prefix}{node.name}."
            seen.classes += 1
        note(node, scope, seen)
        stack.extend((child, scope, prefix) for child in ast.iter_child_nodes(node))
    return seen


def note(node: ast.AST, scope: Scope, seen: Survey) -> None:
    """Add what one node tells: a branch, a name, an import."""
    if isinstance(node, ast.Name):
        seen.identifiers.add(node.id)
    elif isinstance(node, ast.Attribute):
        seen.identifiers.add(node.attr)
    elif isinstance(node, ast.arg):
        seen.identifiers.add(node.arg)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        seen.imports.update(imported(node))
    elif isinstance(node, BRANCHES):
        scope.paths += 1
    elif isinstance(node, ast.BoolOp):
        scope.paths += len(node.values) - 1
    elif isinstance(node, ast.comprehension):
        scope.paths += 1 + len(node.ifs)


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the top-level modules that an import statement names; relative imports stay at home and do not count."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif node.level == 0 and node.module:
        yield node.module.partition(".")[0]


def summarise(lines: int, seen: Survey) -> Facts:
    """Return the facts of a finished walk; among equals the first name in the alphabet is chosen."""
    nothing = Scope("", 0, 0)
    longest = min(seen.functions, key=lambda scope: (-scope.lines, scope.name), default=nothing)
    knottiest = min(seen.functions, key=lambda scope: (-scope.paths, scope.name), default=nothing)
    return Facts(
        lines=lines,
        functions=len(seen.functions),
        classes=seen.classes,
        longest_name=longest.name[:NAME_CHARS_MAX],
        longest_lines=longest.lines,
        knottiest_name=knottiest.name[:NAME_CHARS_MAX],
        knottiest_paths=knottiest.paths,
        paths=sum(scope.paths for scope in seen.functions),
        identifiers=len(seen.identifiers),
        imports=sorted(seen.imports),
    )
