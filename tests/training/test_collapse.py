"""A student at chance is told of once, where it has learned before or should have; short runs are left in peace."""

from __future__ import annotations

import pytest

from bench.training.monitor import CollapseWatch

EPOCHS, STEPS = 30, 100


def warnings(accuracies: list[float], chance: float = 0.1, n: int = 1000, steps: int = STEPS) -> list[tuple[int, str]]:
    """(epoch, warning) for a run with these clean accuracies; its state survives a resume after every epoch."""
    watch, found = CollapseWatch(chance, n), []
    for epoch, accuracy in enumerate(accuracies, start=1):
        again = CollapseWatch(chance, n)
        again.load_state_dict(watch.state_dict())
        watch = again
        said = watch.judge(accuracy, epoch, epoch / len(accuracies), epoch * steps)
        found += [] if said is None else [(epoch, said)]
    return found


def test_a_run_that_learns_is_left_in_peace() -> None:
    assert warnings([0.1, 0.15, 0.3] + [0.5] * 27) == []
    assert warnings([0.1] * 9 + [0.2] * 21) == []  # late, but before a third of it is over
    assert warnings([0.5, 0.2, 0.15, 0.5]) == []  # a setback is no collapse


def test_a_collapse_is_said_once() -> None:
    (found,) = warnings([0.3, 0.5, 0.45, 0.1, 0.1, 0.5, 0.1])
    assert found[0] == 4
    assert "10.0%, no better than chance (10.0%), after 45.0% at epoch 3" in found[1]


def test_never_learning_is_said_once_after_a_third() -> None:
    (found,) = warnings([0.1] * EPOCHS)
    assert found[0] == 10
    assert "was never better" in found[1]


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_a_short_run_is_not_expected_to_have_learned(epochs: int) -> None:
    assert warnings([0.1] * epochs, steps=10) == []


def test_a_lucky_look_at_few_images_is_no_learning() -> None:
    """3 of 16 right is what guessing gives now and then; so is 0 of 16 the look after."""
    assert warnings([3 / 16, 0.0] * 5, n=16, steps=10) == []


@pytest.mark.parametrize(("chance", "high"), [(0.5, 0.9), (0.01, 0.3), (0.005, 0.2)])
def test_any_number_of_classes(chance: float, high: float) -> None:
    assert [epoch for epoch, _ in warnings([chance, high, high, chance, chance], chance=chance)] == [4]
    assert warnings([chance, high, high], chance=chance) == []
