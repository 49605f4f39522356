"""hold_out: deterministic, in proportion to the classes, nothing lost and nothing twice."""

from __future__ import annotations

import pytest
import torch

from bench.data.dataset import Split
from bench.data.holdout import hold_out
from bench.errors import BenchError


def numbered(labels: list[int]) -> Split:
    """A split whose images are their own numbers."""
    images = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Split(images, torch.tensor(labels))


def test_every_class_gives_its_share() -> None:
    split = numbered([0] * 100 + [1] * 50 + [2] * 10)
    for n in (1, 7, 16, 80, 159):
        train, heldout = hold_out(split, n)
        assert (len(train), len(heldout)) == (160 - n, n)
        shares = heldout.labels.bincount(minlength=3) - torch.tensor([100, 50, 10]) * n / 160
        assert shares.abs().max() < 1


def test_every_sample_is_in_one_part_in_its_old_order() -> None:
    split = numbered([i % 3 for i in range(90)])
    train, heldout = hold_out(split, 30)
    kept, out = train.images.flatten().tolist(), heldout.images.flatten().tolist()
    assert sorted(kept + out) == list(range(90))
    assert kept == sorted(kept)
    assert out == sorted(out)
    assert heldout.labels.tolist() == [i % 3 for i in out]


def test_the_seed_decides() -> None:
    split = numbered([i % 3 for i in range(90)])
    drawn = [hold_out(split, 30, seed)[1].images.flatten().tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_classes_without_samples_and_single_samples_are_no_trouble() -> None:
    _, heldout = hold_out(numbered([5] * 10 + [2]), 5)
    assert len(heldout) == 5


@pytest.mark.parametrize("n", [-1, 0, 90, 91])
def test_an_impossible_number_is_refused(n: int) -> None:
    with pytest.raises(BenchError, match=r"Cannot hold out .* of 90 samples"):
        hold_out(numbered([0] * 90), n)
