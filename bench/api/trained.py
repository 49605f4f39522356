"""A finished run as Python has it, and data sets by name or as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from bench.data import load_dataset
from bench.data.dataset import Dataset, no_dataset
from bench.errors import BenchError
from bench.runs.config import RunConfig
from bench.runs.folder import Summary
from bench.system.home import Home


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        id: the run's, as `bench status` shows it.
        folder: what it has left: metrics, weights, configuration.
        student: the selected network, in eval mode, where it was trained; of one's own class where it was one's own.
        summary: which epoch was selected, on what, its accuracies, and the time it took.
        config: all that decided the result.
        dataset: what it was trained on.
        home: where its records belong.
    """

    id: str
    folder: Path
    student: nn.Module = field(repr=False)
    summary: Summary = field(repr=False)
    config: RunConfig = field(repr=False)
    dataset: Dataset = field(repr=False)
    home: Home = field(repr=False)


def given_dataset(dataset: str | Dataset, root: Path) -> Dataset:
    """A dataset by its name, or as it is."""
    if isinstance(dataset, Dataset):
        return dataset
    if isinstance(dataset, str):
        return load_dataset(dataset, root)
    raise BenchError(f"dataset is {no_dataset(dataset)}")
