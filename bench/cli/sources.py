"""A method's hyper-parameters, read from its source: completion cannot wait until PyTorch is imported."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bench import registry


def hyperparameters(method: str) -> dict[str, tuple[str, ...]]:
    """The hyper-parameters of a registered method, in their order, each with its values where they are named ones.

    Raises:
        BenchError: there is no such method.
    """
    entry = registry.find("methods", method)
    return _fields(entry.module, entry.attr)


def _fields(module: str, name: str) -> dict[str, tuple[str, ...]]:
    """The fields of a dataclass, those of its bases first; nothing of a class whose source is not there."""
    place = _defined(module, name)
    if place is not None and isinstance(place[1], ast.Assign) and isinstance(place[1].value, ast.Call):
        (made_of, *_) = [*place[1].value.args, None]  # `named(...)` makes a class of its first argument
        return _fields(place[0], made_of.id) if isinstance(made_of, ast.Name) else {}
    if place is None or not isinstance(place[1], ast.ClassDef):
        return {}
    module, cls = place[0], place[1]
    found: dict[str, tuple[str, ...]] = {}
    for base in reversed(cls.bases):
        if isinstance(base, ast.Name):
            found |= _fields(module, base.id)
    if not any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list):
        return found
    for statement in cls.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and _is_set(statement):
            found[statement.target.id] = _choices(module, statement.annotation)
    return found


def _is_set(field: ast.AnnAssign) -> bool:
    """Whether it is the user who sets a field, rather than the class."""
    made = "" if field.value is None else ast.unparse(field.value)
    return "ClassVar" not in ast.unparse(field.annotation) and "init=False" not in made


def _choices(module: str, annotation: ast.expr) -> tuple[str, ...]:
    """The values of a type that names them all: truth values, and `Literal`s of strings."""
    if isinstance(annotation, ast.Name):
        if annotation.id == "bool":
            return "true", "false"
        place = _defined(module, annotation.id)
        return _choices(place[0], place[1].value) if place is not None and isinstance(place[1], ast.Assign) else ()
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        values = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    return ()


def _defined(module: str, name: str) -> tuple[str, ast.ClassDef | ast.Assign] | None:
    """The module and the statement that define a name, which a module may import from another one."""
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.Assign) and name in map(ast.unparse, statement.targets):
            return module, statement
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _defined(statement.module, alias.name)
    return None


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    """A module's top level; nothing where its source cannot be read."""
    try:
        spec = find_spec(module)
        return tuple(ast.parse(Path(spec.origin or "").read_bytes()).body) if spec is not None else ()
    except (ImportError, OSError, SyntaxError, ValueError):
        return ()
