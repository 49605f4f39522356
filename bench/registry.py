"""Finds methods, attacks, models and datasets: all of them are entry points, the built-in ones too.

A package of a stranger's, installed beside this one, adds to a kind by declaring an entry point in the group
`bench.methods`, `bench.attacks`, `bench.models` or `bench.datasets`. Entry points are read without importing what
they name, so a plug-in that fails to import breaks only itself.

An entry point's name may hold `*` (`wrn-*-*`, `timm:*`, `parquet:*`): it then serves every name that matches, unless
another entry point has exactly that name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bench.errors import BenchError, unknown_name

KINDS = {"methods": "method", "attacks": "attack", "models": "model", "datasets": "dataset"}
"""Each kind of plug-in with its name in the singular; the entry-point group is `bench.KIND`."""

_OWN_PACKAGES = ("methods", "attacks")


@cache
def _entries(kind: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"bench.{kind}"):
        earlier = found.get(entry.name)
        if earlier is not None and earlier.value != entry.value:
            raise BenchError(
                f"Two installed packages both call a {KINDS[kind]} {entry.name!r}: {origin(earlier)} and "
                f"{origin(entry)}.\nUninstall one of them or rename its entry point."
            )
        found[entry.name] = entry
    if not found:
        raise BenchError(
            f"No {kind} are registered: the package's metadata is missing.\nInstall it: pip install -e . in its folder."
        )
    return found


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
        return entries[name]
    matching = [entry for pattern, entry in entries.items() if "*" in pattern and fnmatchcase(name, pattern)]
    if not matching:
        raise unknown_name(KINDS[kind], name, entries)
    return max(matching, key=lambda entry: len(entry.name))


def load(kind: str, name: str) -> Any:
    """Import what a name stands for.

    Raises:
        BenchError: the name is unknown, or its plug-in cannot be imported (named, with the reason).
    """
    entry = find(kind, name)
    try:
        loaded = entry.load()
    except BenchError:
        raise
    except Exception as error:  # a stranger's module may raise anything while it is imported
        _name_intruder(entry)
        raise BenchError(
            f"The {KINDS[kind]} {entry.name!r} of {origin(entry)} cannot be imported ({entry.value}): "
            f"{type(error).__name__}: {error}\nRepair or uninstall that package; everything else works without it."
        ) from error
    _name_intruder(entry)
    return loaded


def load_all(kind: str) -> Iterator[tuple[str, Any | BenchError]]:
    """Every plug-in of a kind: its name with what it loads to, or with the error that its import gave."""
    for name in names(kind):
        try:
            # A pattern serves no name of its own, but what it would load is the same for all of them.
            yield name, load(kind, name.replace("*", "0"))
        except BenchError as error:
            yield name, error


def _name_intruder(entry: EntryPoint) -> None:
    """Say so when a user's own `methods/` or `attacks/` was imported in place of the harness's."""
    package = entry.value.split(":")[0].split(".")[0]
    if package not in _OWN_PACKAGES:
        return
    home = Path(import_module("bench").__path__[0]).resolve().parent
    module = sys.modules.get(package)
    where = [Path(path).resolve() for path in getattr(module, "__path__", [])]
    if module is not None and home / package not in where:
        raise BenchError(
            f"Python imported {where[0] if where else module} instead of the harness's own {package!r} package.\n"
            "Take that folder off PYTHONPATH (or start from another folder) and run the command again."
        )
