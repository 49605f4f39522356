"""What all commands of one process share: home, device, console, the wish to stop, datasets already loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.home import Home
from bench.reporting import Reporter
from bench.stopping import StopRequest


@dataclass
class Session:
    """The surroundings of one command."""

    home: Home
    device: torch.device
    reporter: Reporter
    stop: StopRequest
    _datasets: dict[str, Dataset] = field(default_factory=dict)

    def dataset(self, spec: str) -> Dataset:
        """A dataset by its spec, loaded once."""
        if spec not in self._datasets:
            self._datasets[spec] = load_dataset(spec, self.home.data)
        return self._datasets[spec]


def absolute_spec(spec: str) -> str:
    """A dataset's spec with an absolute path (`parquet:/...`), so that it can be loaded from any folder later."""
    kind, colon, folder = spec.partition(":")
    return f"{kind}:{Path(folder).expanduser().resolve()}" if colon and folder else spec
