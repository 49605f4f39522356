"""Datasets: `load_dataset("cifar10")`, `load_dataset("parquet:DIR")`; one file a source."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from bench import registry
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError, unknown_name
from bench.system.home import own_datasets

__all__ = ["Dataset", "Split", "find", "load_dataset", "to_float"]


def find(name: str, root: Path) -> str:
    """What loads a dataset: its name where that is registered; of one of the user's own in `root`, "npz:FILE", say.

    Raises:
        BenchError: there is none of that name (lists those there are).
    """
    own, registered = own_datasets(root), registry.names("datasets")
    if any(fnmatchcase(name, pattern) for pattern in registered):
        return name
    if name not in own:
        raise unknown_name("dataset", name, [*registered, *own])
    return own[name]


def load_dataset(name: str, root: Path) -> Dataset:
    """Load a dataset by its name.

    Args:
        name: a registered name ("digits", "cifar10"), one with an argument ("parquet:DIR", "npz:FILE"), or that of a
            file or folder in `root` (`bench.system.home.own_datasets`).
        root: the folder that holds (or will hold) downloaded data.

    Raises:
        BenchError: the name is unknown, or files are missing, truncated or not what they should be.
    """
    spec = find(name, root)
    dataset = registry.load("datasets", spec)(spec, root)
    if not isinstance(dataset, Dataset):
        raise BenchError(
            f"The dataset plug-in for {name!r} returned a {type(dataset).__name__}, not a bench.data.Dataset.\n"
            "Its author has to repair it."
        )
    return dataset if spec == name else replace(dataset, name=name)
