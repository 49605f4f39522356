"""Finds methods, attacks, models, datasets and loggers: all of them are entry points, the built-in ones too.

A package of a stranger's, installed beside this one, adds to a kind by declaring an entry point in the group
`bench.methods`, `bench.attacks`, `bench.models`, `bench.datasets` or `bench.loggers`. Entry points are read without
importing what they name, so a plug-in that fails to import breaks only itself.

An entry point's name may hold `*` (`wrn-*-*`, `timm:*`, `parquet:*`): it then serves every name that matches, unless
another entry point has exactly that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, unknown_name

if TYPE_CHECKING:
    from bench.attack import Attack

KINDS = {"methods": "method", "attacks": "attack", "models": "model", "datasets": "dataset", "loggers": "logger"}
"""Each kind of plug-in with its name in the singular; the entry-point group is `bench.KIND`."""

_OWN_PACKAGES = ("methods", "attacks")


@cache
def _entries(kind: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a kind by name; more than one where installed packages disagree."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=f"bench.{kind}"):
        found.setdefault(entry.name, {}).setdefault(entry.value, entry)
    if not found:
        raise BenchError(
            f"No {kind} are registered: the package's metadata is missing.\nInstall it: pip install -e . in its folder."
        )
    return {name: list(entries.values()) for name, entries in found.items()}


def _only(kind: str, name: str) -> EntryPoint:
    """The entry point of exactly this name; an error, for this name alone, where two packages claim it."""
    first, *others = _entries(kind)[name]
    if others:
        raise BenchError(
            f"Two installed packages both call a {KINDS[kind]} {name!r}: {origin(first)} and {origin(others[0])}.\n"
            "Uninstall one of them or rename its entry point."
        )
    return first


def origin(entry: EntryPoint) -> str:
    """The distribution an entry point comes from, for messages."""
    return entry.dist.name if entry.dist is not None else "an unnamed package"


def names(kind: str) -> list[str]:
    """The registered names (patterns as they are written), sorted."""
    return sorted(_entries(kind))


def find(kind: str, name: str) -> EntryPoint:
    """The entry point that serves a name; a `BenchError` with the closest match where there is none."""
    entries = _entries(kind)
    if name in entries and "*" not in name:
        return _only(kind, name)
    matching = [pattern for pattern in entries if "*" in pattern and fnmatchcase(name, pattern)]
    if not matching:
        raise unknown_name(KINDS[kind], name, entries)
    return _only(kind, max(matching, key=len))


def serves(kind: str, name: str) -> bool:
    """Whether an entry point serves a name."""
    try:
        find(kind, name)
    except BenchError:
        return False
    return True


def load(kind: str, name: str) -> Any:
    """Import what a name stands for.

    Raises:
        BenchError: the name is unknown, or its plug-in cannot be imported (named, with the reason).
    """
    entry = find(kind, name)
    _refuse_intruder(entry)
    try:
        return entry.load()
    except BenchError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BenchError(
            f"The {KINDS[kind]} {entry.name!r} of {origin(entry)} cannot be imported ({entry.value}): {reason}\n"
            "Repair or uninstall that package; everything else works without it."
        ) from error


def load_all(kind: str, load_one: Callable[[str], Any]) -> Iterator[tuple[str, Any | BenchError]]:
    """Every plug-in of a kind: its name with what `load_one` gives for it, or with what is wrong with it."""
    for name in names(kind):
        try:
            # A pattern serves no name of its own, but what it would load is the same for all of them.
            yield name, load_one(name if kind == "attacks" else name.replace("*", "0"))
        except Intruder:
            raise
        except BenchError as error:
            yield name, error


def attack_class(name: str) -> type[Attack]:
    """The class of a registered attack."""
    from bench.attack import Attack  # which imports PyTorch

    found = load("attacks", name)
    if not (isinstance(found, type) and issubclass(found, Attack)):
        raise BenchError(f"The attack plug-in {name!r} is no bench.attack.Attack class.\nIts author has to repair it.")
    for attribute in ("label", "source"):
        if not isinstance(getattr(found, attribute, None), str):
            raise BenchError(f"The attack plug-in {name!r} has no `{attribute}`.\nIts author has to repair it.")
    return found.named(name)


class Intruder(BenchError):
    """A folder of the user's hides one of the harness's packages, and so all that is in it."""


def _refuse_intruder(entry: EntryPoint) -> None:
    """Say so where a user's own `methods/` or `attacks/` would be imported in place of the harness's."""
    package = entry.value.split(":")[0].split(".")[0]
    spec = find_spec(package) if package in _OWN_PACKAGES else None
    if spec is None:
        return
    home = Path(import_module("bench").__path__[0]).resolve().parent
    where = [Path(path).resolve() for path in spec.submodule_search_locations or [spec.origin or "?"]]
    if home / package not in where:
        raise Intruder(
            f"Python finds {where[0]} instead of the harness's own {package!r} package.\n"
            "Take that folder off PYTHONPATH (or start from another folder) and run the command again."
        )
