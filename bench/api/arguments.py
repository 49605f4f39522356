"""What callers from Python give, looked at before anything long begins: each mistake has its cure."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.system.home import Home
from bench.system.text import kind_of


def home_at(home: Path | str | Home | None) -> Home:
    """The home a caller names; None: what BENCH_HOME names, or the current folder."""
    if isinstance(home, Home):
        return home
    if home is None:
        home = os.environ.get("BENCH_HOME") or "."
    if not isinstance(home, (str, os.PathLike)):
        raise BenchError(f"home={home!r} is no folder.\nGive its path, or None for BENCH_HOME or the current folder.")
    return Home.at(Path(home))


def whole(name: str, value: Any, least: int, what: str) -> int:
    """A whole number, as int, NumPy's or a tensor of one; `what`: what it should be, for the message."""
    if not isinstance(value, bool):
        with suppress(TypeError):
            number = operator.index(value)
            if number >= least:
                return number
    hint = f" Without quotes: {name}={value}." if isinstance(value, str) and value.strip().isdigit() else ""
    raise BenchError(f"{name}={value!r}: {what}.{hint}")


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    """One of a few words."""
    if isinstance(value, str) and value in known:
        return value
    raise BenchError(f"{name}={value!r}: there are {' and '.join(repr(each) for each in known)}.")


def yes_or_no(name: str, value: Any) -> bool:
    """True or False, and nothing that Python takes for them."""
    if isinstance(value, bool):
        return value
    raise BenchError(f"{name}={value!r}: give True or False.")


def names_in(name: str, value: Any, example: str, or_none: bool = False) -> list[str]:
    """One name, several with commas between them, or a list of names; `or_none`: an empty one, too."""
    if or_none and isinstance(value, (tuple, list)) and not value:
        return []
    several = [value] if isinstance(value, str) else value
    if isinstance(several, Mapping) or not isinstance(several, Sequence):
        several = [None]
    if not several or any(not isinstance(each, str) or not each.strip() for each in several):
        raise BenchError(f"{name}={value!r}: give a name, or a list of names: {name}={example}.")
    return list(dict.fromkeys(part.strip() for each in several for part in each.split(",") if part.strip()))


def settings(name: str, given: Any, example: str) -> tuple[str, ...]:
    """Parameters by name as the texts `key=value` that commands take."""
    if given is not None and not isinstance(given, Mapping):
        raise BenchError(f"{name} is {kind_of(given)}.\nGive parameters by name: {name}={example}.")
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in (given or {}).items()}
    return tuple(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in plain.items())


def text(name: str, value: Any) -> str | None:
    """A text, or None."""
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise BenchError(f"{name}={value!r}: give a text.")
