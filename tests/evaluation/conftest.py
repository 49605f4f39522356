"""Images that a small network gets right, and how they are batched."""

from __future__ import annotations

import pytest
import torch

from bench.data.dataset import Dataset, Split, to_float
from bench.evaluation import attack_run

from .small import N, network


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Images that `network()` gets right but for every tenth; the last two classes have none."""
    images = torch.randint(256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        labels = network()(to_float(images)).argmax(1)
    labels[::10] = (labels[::10] + 1) % 4
    split = Split(images, labels)
    return Dataset("small", split, split, ("a", "b", "c", "d", "e"), eps=8 / 255)


@pytest.fixture
def all_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where few large batches are the fastest."""
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 250)
