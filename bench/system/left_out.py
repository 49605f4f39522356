"""Files that cannot be used are named and left out; nothing of theirs stops a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from bench.errors import BenchError
from bench.system.text import one_line

MOST_NAMED = 5
"""Files that are named one by one; of more, how many there are."""

_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def named_once() -> Iterator[None]:
    """Within one command every file is named once, however often it is met."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def name_left_out(kind: str, errors: Sequence[BenchError]) -> None:
    """Say on stderr which files of a kind ("record") are left out, by the first line of what is wrong with each."""
    here = _said.get()
    said = set() if here is None else here
    lines = [line for error in errors if (line := one_line(str(error).split("\n")[0])) not in said]
    said.update(lines)
    for line in lines[:MOST_NAMED]:
        print(f"Left out: {line}", file=sys.stderr)
    if len(lines) > MOST_NAMED:
        remedy = " `bench results validate` lists all." if kind == "record" else ""
        print(f"Left out: {len(lines) - MOST_NAMED} more {kind}s.{remedy}", file=sys.stderr)
