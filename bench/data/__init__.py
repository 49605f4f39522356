"""Datasets: `load_dataset("cifar10")`, `load_dataset("parquet:DIR")`; one file a source."""

from __future__ import annotations

from pathlib import Path

from bench import registry
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError

__all__ = ["Dataset", "Split", "load_dataset", "to_float"]


def load_dataset(name: str, root: Path) -> Dataset:
    """Load a dataset by its name.

    Args:
        name: a registered name ("digits", "cifar10") or one with an argument ("parquet:DIR", "imagefolder:DIR").
        root: the folder that holds (or will hold) downloaded data.

    Raises:
        BenchError: the name is unknown, or files are missing, truncated or not what they should be.
    """
    dataset = registry.load("datasets", name)(name, root)
    if not isinstance(dataset, Dataset):
        raise BenchError(
            f"The dataset plug-in for {name!r} returned a {type(dataset).__name__}, not a bench.data.Dataset.\n"
            "Its author has to repair it."
        )
    return dataset
