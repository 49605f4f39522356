"""Sets samples of a split aside, with the classes in proportion: for validation, or as a test split."""

from __future__ import annotations

import numpy as np
import torch

from bench.data.dataset import Split
from bench.errors import BenchError


def hold_out(split: Split, n: int, seed: int = 0) -> tuple[Split, Split]:
    """Split into what stays for training and n samples held out, drawn at random within each class.

    Each class gives its share of n, to within one sample. Both parts keep the order of `split`; the same
    arguments give the same parts on every machine.

    Returns:
        (train, heldout), with len(split) - n and n samples.

    Raises:
        BenchError: n is less than 1, or leaves nothing to train on.
    """
    if not 1 <= n < len(split):
        raise BenchError(f"Cannot hold out {n} of {len(split)} samples.\nChoose a number from 1 to {len(split) - 1}.")
    labels = split.labels.cpu().numpy()
    # RandomState's streams are frozen by NumPy's policy: a later version draws the same samples.
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    chosen = torch.from_numpy(np.sort(shuffled[_spread(labels[shuffled])[:n]]))
    heldout = torch.zeros(len(labels), dtype=torch.bool)
    heldout[chosen] = True
    rest = torch.arange(len(labels))[~heldout]
    device = split.labels.device
    return split.take(rest.to(device)), split.take(chosen.to(device))


def _spread(labels: np.ndarray) -> np.ndarray:
    """Positions ordered so that every beginning holds each class in proportion.

    The k-th sample (from 0) of a class with c samples stands at (k + 1/2) / c of the way.
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(labels))
    place[by_class] = (np.arange(len(labels)) - starts + 0.5) / counts[labels[by_class]]
    return np.argsort(place, kind="stable")
