"""What the recipes have for defenses with a network of their own."""

from __future__ import annotations

import pytest

from bench.recipes.schedule import Schedule

from .test_published import BESIDE, resolved
from .test_schedule import rates


@pytest.mark.parametrize("method", BESIDE)
def test_later_defenses_have_their_own_papers_schedules_in_the_paper_recipe(method: str) -> None:
    variant, training, _ = resolved("paper", method)
    official = resolved("official", method).training
    assert (variant, training.batch_size, training.epochs) == ("paper", 128, official.epochs)
    assert (training.schedule.milestones, training.schedule.first) == (official.schedule.milestones, 1)
    assert training.optimizer.weight_decay == official.optimizer.weight_decay
    assert not training.optimizer.nesterov
    assert (training.average, training.selection.keep) == (official.average, official.selection.keep)
    assert method == "lbgat" or (training.selection.by, training.selection.steps) == ("robust", 10)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_what_later_defenses_have_by_data_set(name: str) -> None:
    assert resolved(name, "peeraid")[2] == resolved(name, "adr")[2] == resolved(name, "lbgat")[2] == {}
    assert resolved(name, "peeraid", "cifar100")[2] == {"gamma2": 1.0}
    assert resolved(name, "adr", "cifar100")[2] == {"temperatures": [1.5, 1.0]}
    _, training, settings = resolved(name, "peeraid", "tiny-imagenet")
    weights = {"gamma2": 100.0, "lambda1": 0.035, "lambda2": 35.0, "lambda3": 20.0}
    assert settings == {"temperature": 1.0, **weights}
    assert (training.epochs, training.schedule.milestones, str(training.average)) == (
        *(200, (99, 149)),
        "swa, from epoch 100",
    )
    _, training, settings = resolved(name, "adr", "tiny-imagenet")
    assert settings == {"temperatures": [2.0, 1.5], "interpolations": [0.5, 0.9]}
    assert (training.epochs, training.schedule.milestones) == (80, (40, 60))
    assert resolved(name, "lbgat", "digits")[2] == {"guide": "digits-cnn"}


@pytest.mark.parametrize("epochs", [4, 100])
def test_the_first_epoch_s_rate_is_a_share_of_what_follows_in_a_run_of_any_length(epochs: int) -> None:
    plain, first = (Schedule(kind="multistep", milestones=(50,), horizon=100, first=share) for share in (1, 0.2))
    before, now = rates(plain, epochs), rates(first, epochs)
    assert now[1] == pytest.approx(0.2 * before[1])
    assert now[2:] == before[2:]
