"""A server of sittings: forks a process for every command, so that PyTorch is imported once, and ends it when told to.

Reads a JSON object a line and answers with one: `argv`, the command; `event` and `count`, the moment (its `count`-th
step, say); `delay`, seconds after it; `signal`, what the process gets then. Without `event` it is left alone.
`largest_file`: no file may grow beyond so many bytes.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401  (loaded before the fork)
import torch
import torch._dynamo  # what an optimizer's first step imports
import torchattacks  # noqa: F401

from attacks import loop
from bench import evaluating, exporting, monitor, profiling, registry, resuming, teachers, training  # noqa: F401
from bench.cli import evaluate, run  # noqa: F401
from bench.cli.main import LazyGroup, main
from bench.models import resnet
from bench.report import site

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def tell(target: Any, name: str, count: int, pipe: int, stay: str) -> None:
    """Have the `count`-th call of a function tell the server.

    `stay`: and wait there "until" its signal, or "for ever"; "": neither.
    """
    real: Callable[..., Any] = getattr(target, name)
    left = count

    def called(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(pipe, b"!")
            while stay:
                signal.pause()
                if stay == "until":
                    break
        return real(*arguments, **options)

    setattr(target, name, called)


def keep_final_state() -> None:
    """Have a run save its state once more when all is trained, and keep that."""
    real = training.Trainer._finish

    def finish(self: training.Trainer) -> Any:
        self._save(self.config.epochs + 1, 0)
        shutil.copy(self.folder.path / resuming.LAST, self.folder.path / "final.pt")
        return real(self)

    training.Trainer._finish = finish  # type: ignore[method-assign]


TARGETS: dict[str, tuple[Any, str, str]] = {
    "begin": (training.Trainer, "_begin", ""),
    "step": (training.Trainer, "_step", ""),
    "attack step": (loop.GradientAttack, "advance", "for ever"),
    "flush": (os, "fsync", "until"),
    "rename": (os, "replace", "until"),
    "look": (monitor.Monitor, "look", "until"),
    "pass": (resnet.ResNet, "forward", "until"),
    "export": (exporting, "agreement", "for ever"),
    "page": (site, "_write_page", "for ever"),
    "profile": (profiling.Runner, "run", "for ever"),
    "import": (registry, "load", "for ever"),
    "command": (LazyGroup, "get_command", "for ever"),
}


def sit(order: dict[str, Any], pipe: int) -> None:
    """The command, in the forked process."""
    with open(order["log"], "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    training._SAVE_SECONDS = order["save_seconds"]
    training._STEP_SECONDS = order["step_seconds"]
    keep_final_state()
    if order["largest_file"]:
        sys.dont_write_bytecode = True  # of a module: cut short, it would be there for all that import it later
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"],) * 2)
    if order["event"]:
        target, name, stay = TARGETS[order["event"]]
        tell(target, name, order["count"], pipe, stay)
    sys.argv = ["bench", *order["argv"]]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def await_pause(process: int) -> None:
    """Return once a process that stays is asleep: a signal that came before its pause would leave it there for ever."""
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "SZ":
        time.sleep(0.001)


def serve(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait for the moment, send the signal, wait for the end."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(ours)
        sit(order, theirs)
    os.close(theirs)
    select.select([ours], [], [])
    if os.read(ours, 1):
        time.sleep(order["delay"])
        if TARGETS[order["event"]][2]:
            await_pause(process)
        os.kill(process, order["signal"])
    sent = time.monotonic()
    _, status = os.waitpid(process, 0)
    os.close(ours)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - sent}


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
