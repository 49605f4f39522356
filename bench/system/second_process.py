"""A second process that takes a part of a long list of small work over.

It is given the name of a function and the items, and is no more than help: whatever it did not do, or did not say
that it did, is done by whoever asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any

LEAST = 1000
"""Items from which on a second process is worth its start."""


def share(items: Sequence[str]) -> int:
    """How many of some items, counted from the end, a second process should take over; 0: it is not worth it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(items) // 2 if len(items) >= LEAST and cores > 1 else 0


class Helper:
    """Works off items in a process of its own, which ends with the block.

    Args:
        function: `module:name`; called with each item, it returns plain values.
        items: none starts no process.
    """

    def __init__(self, function: str, items: Sequence[str]) -> None:
        self.items = items
        self._process: subprocess.Popen[bytes] | None = None
        if items:
            with suppress(OSError):  # no space for the files, or no more processes
                self._start(function)

    def _start(self, function: str) -> None:
        # Files, and no pipes: neither process ever waits for the other to read.
        with tempfile.TemporaryFile() as asked:
            asked.write(json.dumps({"function": function, "items": list(self.items)}).encode())
            asked.seek(0)
            self._answer = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the block)
            paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from bench.system.second_process import work; work()"],
                stdin=asked,
                stdout=self._answer,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **paths, "OMP_NUM_THREADS": "1"},
            )

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._answer.close()

    def results(self) -> dict[str, Any]:
        """What the function returned, by item, once all is done; empty where the process came to grief."""
        if self._process is None or self._process.wait() != 0:
            return {}
        self._answer.seek(0)
        try:
            return dict(zip(self.items, json.loads(self._answer.read()), strict=True))
        except (ValueError, TypeError):
            return {}


def work() -> None:
    """What the second process does."""
    asked = json.load(sys.stdin)
    module, _, name = asked["function"].partition(":")
    function = getattr(import_module(module), name)
    json.dump([function(item) for item in asked["items"]], sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # to take PyTorch apart would take a third of a second and a hundred megabytes
