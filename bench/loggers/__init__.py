"""What hears of a run's metrics besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow, a stranger's own.

A logger is an entry point in the group `bench.loggers`. It gets every line of metrics.jsonl once and in order, over all
sittings of a run: how many it has is kept in the run folder, so a continued run repeats none, and a logger that was
added later, or failed for a while, gets what it missed. Loggers are conduct, not setting: a run's id and result are the
same with and without them, and one that fails is left out with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from bench import registry
from bench.errors import BenchError


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger logs.

    Attributes:
        id: of the run. folder: of the run; a logger may keep files in a folder of its own there.
        config: the resolved configuration, plain values.
        memory: what the logger wants to find again in the next sitting (a remote id); `--restart` empties it.
    """

    id: str
    folder: Path
    config: Mapping[str, Any]
    memory: dict[str, str]


class Logger:
    """Base of all loggers. Whatever a method raises is said once, and the logger is left out of the sitting.

    Class attributes:
        needs: packages that it imports, and only when `begin` is called. install: what installs them.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = "Install it"

    def begin(self, run: LoggedRun) -> None:
        """Called before the first line of a sitting."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take a line; step: training steps done since the run began. It must not be lost if the process dies now."""
        raise NotImplementedError

    def end(self, finished: bool) -> None:
        """Called after the last line of a sitting; finished: whether the run has come to its end."""


def make(names: Sequence[str]) -> dict[str, Logger]:
    """The loggers of these names, each once; a `BenchError` where one is unknown or its package is missing."""
    found: dict[str, Logger] = {}
    for name in names:
        kind = registry.load("loggers", name)
        if not (isinstance(kind, type) and issubclass(kind, Logger)):
            raise BenchError(
                f"The logger plug-in {name!r} is no bench.loggers.Logger class.\nIts author has to repair it."
            )
        missing = [package for package in kind.needs if find_spec(package) is None]
        if missing:
            raise BenchError(
                f"--logger {name} needs {' and '.join(missing)}, not installed.\n"
                f"{kind.install}, or train without --logger {name}."
            )
        found[name] = kind()
    return found


def flat(line: Mapping[str, Any]) -> dict[str, float]:
    """A line of metrics.jsonl as numbers: `train/loss`, `epoch/loss`, `progress/lr`, `accuracy/student/robust`."""
    if line["kind"] == "steps":
        return {f"train/{name}": value for name, value in line["terms"].items()}
    values = {f"epoch/{name}": value for name, value in line["terms"].items()}
    # No name may be the beginning of another one's path: MLflow's store in files has a folder for each part.
    values |= {f"progress/{name}": line[name] for name in ("epoch", "lr", "seconds")}
    for network, accuracies in (line["accuracy"] or {}).items():
        values |= {f"accuracy/{network.replace(' ', '_')}/{kind}": value for kind, value in accuracies.items()}
    return values
