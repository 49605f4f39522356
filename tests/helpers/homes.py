"""What is found in a home, and homes that are made once for all tests."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

Contents = Callable[[Path], dict[str, tuple[int, bytes]]]
"""contents(folder): every file below it, when it was changed and its bytes."""


class Find(Protocol):
    """runs(home, "sat") or records(home, "sat"): those of a home with that in their names."""

    def __call__(self, home: Path, kind: str = "") -> list[Path]: ...


def once_for_all(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills: once for all of pytest's workers, the first that asks for it; each gets a copy."""
    mine = factory.getbasetemp()
    common = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    made = common / f"{name}-made"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(common / f"{name}-making", ignore_errors=True)
            (common / f"{name}-making").mkdir()
            make(common / f"{name}-making")
            (common / f"{name}-making").rename(made)
    return Path(shutil.copytree(made, factory.mktemp(name) / name))


def json_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def logged(run: Path) -> list[dict[str, Any]]:
    """A run's metrics.jsonl but for times and what seals a line."""
    lines = json_lines(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in ("seconds", "digest")} for line in lines]


def measured(record: Path) -> dict[str, Any]:
    """A record's file but for when it was written and how long things took."""
    content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    for part in (*content["results"].values(), content["checks"] or {}):
        part.pop("seconds", None)
    return {key: value for key, value in content.items() if key not in ("created", "seconds", "digest")}
