"""What all commands of one process share: home, device, console, the wish to stop, datasets already loaded."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from bench.compute.device import choose_device, name_memory_errors, prepare
from bench.compute.speedups import enabled
from bench.data import load_dataset
from bench.data.dataset import Dataset, Split
from bench.data.npz import load_additional
from bench.loggers import make
from bench.system.console import Reporter
from bench.system.home import Home
from bench.system.provenance import told_commit
from bench.system.signals import StopRequest, stop_on_signals


@dataclass
class Session:
    """The surroundings of one command.

    Attributes:
        speedups: those that are on, of `bench.compute.speedups.SPEEDUPS`.
        loggers: names of those that hear of every run's metrics (`bench.loggers`).
    """

    home: Home
    device: torch.device
    reporter: Reporter
    stop: StopRequest
    speedups: frozenset[str] = field(default_factory=enabled)
    loggers: tuple[str, ...] = ()
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _additional: dict[str, Split] = field(default_factory=dict)

    def dataset(self, spec: str) -> Dataset:
        """A dataset by its spec, loaded once."""
        if spec not in self._datasets:
            with self.stop.at_once():
                self._datasets[spec] = load_dataset(spec, self.home.data)
        return self._datasets[spec]

    def additional(self, spec: str) -> Split:
        """Additional training images by their spec, loaded once."""
        if spec not in self._additional:
            with self.stop.at_once():
                self._additional[spec] = load_additional(spec, self.home.data)
        return self._additional[spec]


@contextmanager
def opened(
    home: Home,
    device: str,
    off: Collection[str] = (),
    deterministic: bool = False,
    reporter: Reporter | None = None,
    tf32: bool = False,
    loggers: Sequence[str] = (),
) -> Iterator[Session]:
    """A session whose work finishes its step when a signal asks it to stop.

    Args:
        device: "auto", "cpu" or "cuda". off: speed-ups to do without. reporter: None for the terminal's.
        deterministic, tf32: see `bench.compute.device.prepare`. loggers: see `Session`.
    """
    make(loggers)  # a mistake in a name, or in a commit, is found before anything is trained
    told_commit()
    speedups = enabled(off)
    chosen = choose_device(device)
    prepare(chosen, autotune="autotune" in speedups, deterministic=deterministic, tf32=tf32)
    with stop_on_signals() as stop, name_memory_errors():
        session = Session(home, chosen, reporter or Reporter(), stop, speedups, tuple(loggers))
        if reporter is None:  # else it is a process among several, whose user another one answers
            stop.tell = lambda text: session.reporter.say(text)
        yield session


def absolute_spec(spec: str) -> str:
    """A dataset's spec with an absolute path (`parquet:/...`), so that it can be loaded from any folder later.

    What is no path of anything here stays as it is: an argument of a plug-in's, the name of a run's dataset, a mistake.
    """
    kind, _, argument = spec.partition(":")
    path = os.path.expanduser(argument)
    return f"{kind}:{os.path.realpath(path)}" if argument and os.path.exists(path) else spec
