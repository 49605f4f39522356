"""A run's state: what is saved of it stays what it was, so that runs begun by earlier versions go on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.compute.ranks import ranks
from bench.defense import Defense
from bench.recipes.training import Selection
from bench.training.loss_means import LossMeans
from bench.training.monitor import CollapseWatch
from bench.training.run_state import RunState

CPU = torch.device("cpu")


class Counting(Defense):
    """With a state of its own."""

    count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Any) -> None:
        self.count = state["count"]


def fresh() -> RunState:
    student = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    return RunState(student, optimizer, Counting(), CollapseWatch(0.1, 100), LossMeans(ranks()))


@pytest.fixture
def saved() -> dict[str, Any]:
    """In the words of the first version that kept it under a checksum."""
    weights = {"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "bias": torch.tensor([5.0, 6.0])}
    group = fresh().optimizer.state_dict()["param_groups"]
    momentum = {"state": {0: {"momentum_buffer": torch.ones(2, 2)}, 1: {"momentum_buffer": torch.ones(2)}}}
    return {
        "epoch": 4,
        "step": 7,
        "student": weights,
        "optimizer": {**momentum, "param_groups": group},
        "defense": {"count": 3},
        "best": {"score": 0.5, "epoch": 3, "accuracy": {"clean": 0.6, "robust": 0.4}, "checkpoint": "ab"},
        "best_weights": {name: value - 1 for name, value in weights.items()},
        "ended": False,
        "watch": {"learned": (0.6, 3), "ever_above": True, "warned": False},
        "seconds": 120.0,
        "sums": {"loss": torch.tensor(14.0, dtype=torch.float64)},
        "count": 7,
        "logged": {"loss": 4.0},
        "logged_count": 2,
    }


def test_what_was_saved_is_loaded_and_saved_again(saved: dict[str, Any]) -> None:
    state = fresh()
    state.load(saved, CPU)
    assert state.place == (4, 7)
    assert state.means.since_logged(state.means.read()) == {"loss": (14 - 4) / (7 - 2)}
    state.load(saved, CPU)
    again = state.to_dict()
    assert again.keys() == saved.keys()
    assert 120 <= again["seconds"] < 180
    assert again["best"] == saved["best"]
    for left in (again, saved):  # in which there are words, and times
        del left["best"], left["seconds"]
    torch.testing.assert_close(again, saved)


@pytest.mark.parametrize("missing", ["epoch", "watch", "sums"])
def test_a_state_that_lacks_something_is_no_state(saved: dict[str, Any], missing: str) -> None:
    del saved[missing]
    with pytest.raises(LookupError):
        fresh().load(saved, CPU)


def test_the_better_weights_are_selected_and_kept_as_they_were() -> None:
    state = fresh()
    best, last = (Selection(split="heldout", keep=keep) for keep in ("best", "last"))
    assert state.select({"clean": 0.6, "robust": 0.2}, best)
    first = state.best
    assert not state.select({"clean": 0.4, "robust": 0.4}, best)  # as good is not better
    assert state.best is first
    state.next_epoch()
    assert state.place == (2, 0)
    assert state.select({"clean": 0.1, "robust": 0.1}, last)
    assert state.best["epoch"] == 2
    nn.init.zeros_(state.student.get_parameter("weight"))
    assert state.best_weights is not None
    assert state.best_weights["weight"].any()


def test_the_best_may_be_the_most_robust() -> None:
    state, by_robust = fresh(), Selection(split="test", by="robust")
    assert state.select({"clean": 0.9, "robust": 0.2}, by_robust)
    assert state.select({"clean": 0.3, "robust": 0.3}, by_robust)
    assert not state.select({"clean": 0.9, "robust": 0.3}, by_robust)
    assert state.best["score"] == 0.3
