"""Means of loss terms over an epoch and between two logging steps, also of a run that is continued."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.compute.ranks import ranks
from bench.training.loss_means import LossMeans

CPU = torch.device("cpu")


def terms(value: float) -> dict[str, Tensor]:
    return {"loss": torch.tensor(value), "kl": torch.tensor(10 * value)}


def test_means_of_the_epoch_and_since_they_were_logged() -> None:
    means = LossMeans(ranks())
    for value in (1.0, 2.0):
        means.add(terms(value))
    assert means.since_logged(means.read()) == {"loss": 1.5, "kl": 15}
    means.add(terms(6.0))
    read = means.read()
    assert means.since_logged(read) == {"loss": 6, "kl": 60}
    assert means.of_epoch(read) == {"loss": 3, "kl": 30}
    means.forget()
    assert means.read() == {}


@pytest.mark.parametrize("logged", [False, True])
def test_a_continued_run_goes_on_with_the_sums(logged: bool) -> None:
    one, other = LossMeans(ranks()), LossMeans(ranks())
    one.add(terms(1.0))
    if logged:
        one.since_logged(one.read())
    other.load_state_dict(one.state_dict(), CPU)
    for means in (one, other):
        means.add(terms(3.0))
    assert one.read() == other.read() == {"loss": 4, "kl": 40}
    assert one.since_logged(one.read()) == other.since_logged(other.read())
