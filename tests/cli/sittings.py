"""A command that is to get a signal at a moment: it rings when that has come (see `sit` in conftest.py).

Its argument is a JSON object: `argv`, the command; `event` and `count`, the moment (its `count`-th step, say), or none;
`save_seconds` and `step_seconds`, how long it takes to save and for a step to end; `largest_file`: no file may grow
beyond so many bytes. In place of its input it has the bell, a pipe to write to.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from attacks import loop
from bench import export, registry
from bench.cli.main import LazyGroup, main
from bench.cost import measure
from bench.models import resnet
from bench.report import site
from bench.runs import resume
from bench.training import monitor, trainer


def tell(target: Any, name: str, count: int, bell: int, stay: str) -> None:
    """Have the `count`-th call of a function ring.

    `stay`: and wait there "until" its signal, or "for ever", which it rings too; "": neither.
    """
    real: Callable[..., Any] = getattr(target, name)
    left = count

    def called(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(bell, b"z" if stay else b"!")
            while stay:
                signal.pause()
                if stay == "until":
                    break
        return real(*arguments, **options)

    setattr(target, name, called)


def keep_final_state() -> None:
    """Have a run save its state once more when all is trained, and keep that."""
    real = trainer.Trainer._finish

    def finish(self: trainer.Trainer) -> Any:
        self._save()
        shutil.copy(self.folder.path / resume.LAST, self.folder.path / "final.pt")
        return real(self)

    trainer.Trainer._finish = finish  # type: ignore[method-assign]


TARGETS: dict[str, tuple[Any, str, str]] = {
    "begin": (trainer.Trainer, "_begin", ""),
    "step": (trainer.Trainer, "_step", ""),
    "attack step": (loop.GradientAttack, "advance", "for ever"),
    "flush": (os, "fsync", "until"),
    "rename": (os, "replace", "until"),
    "look": (monitor.Monitor, "look", "until"),
    "pass": (resnet.ResNet, "forward", "until"),
    "export": (export, "agreement", "for ever"),
    "page": (site, "_write_page", "for ever"),
    "profile": (measure.Runner, "run", "for ever"),
    "import": (registry, "load", "for ever"),
    "command": (LazyGroup, "get_command", "for ever"),
}


def sit(order: dict[str, Any]) -> None:
    bell = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    trainer._SAVE_SECONDS = order["save_seconds"]
    trainer._STEP_SECONDS = order["step_seconds"]
    keep_final_state()
    if order["largest_file"]:
        sys.dont_write_bytecode = True  # of a module: cut short, it would be there for all that import it later
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"],) * 2)
    if order["event"]:
        target, name, stay = TARGETS[order["event"]]
        tell(target, name, order["count"], bell, stay)
    sys.argv = ["bench", *order["argv"]]
    main()


if __name__ == "__main__":
    sit(json.loads(sys.argv[1]))
