"""Learning rates over a run."""

from __future__ import annotations

import math

import pytest
import torch

from bench.recipes.schedule import Schedule
from bench.training.optimizer import set_pace


def rates(schedule: Schedule, epochs: int, base: float = 0.1) -> list[float]:
    """The rate of epoch 1, 2, ..., with a None in front so that the index is the epoch."""
    return [math.nan, *(schedule.lr(base, epoch, epochs) for epoch in range(1, epochs + 1))]


def test_constant() -> None:
    assert set(rates(Schedule(kind="constant"), 7)[1:]) == {0.1}


def test_multistep_drops_after_each_milestone() -> None:
    lr = rates(Schedule(kind="multistep", milestones=(215, 260, 285)), 300)
    for first, last, expected in ((1, 215, 0.1), (216, 260, 0.01), (261, 285, 1e-3), (286, 300, 1e-4)):
        assert lr[first : last + 1] == pytest.approx([expected] * (last - first + 1))


def test_multistep_scales_with_the_length_of_the_run() -> None:
    lr = rates(Schedule(kind="multistep", milestones=(215, 260, 285), horizon=300), 60)
    for first, last, expected in ((1, 43, 0.1), (44, 52, 0.01), (53, 57, 1e-3), (58, 60, 1e-4)):
        assert lr[first : last + 1] == pytest.approx([expected] * (last - first + 1))


@pytest.mark.parametrize("early", [False, True])
def test_a_milestone_may_fall_within_an_epoch(early: bool) -> None:
    """7.17, 8.67 and 9.5 of ten: the epoch that each is in has the lower rate already."""
    lr = rates(Schedule(kind="multistep", milestones=(215, 260, 285), horizon=300, early=early), 10)
    assert lr[7:] == pytest.approx([0.1, 0.01, 1e-3, 1e-4])


def test_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=300, eta_min=1e-5)
    lr = rates(Schedule(kind="cosine", lr_min=1e-5), 300)
    assert lr[1] == 0.1
    for epoch in range(1, 301):
        assert lr[epoch] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert 1e-5 < lr[300] < 2e-5


def test_one_cycle_moves_with_every_step() -> None:
    schedule = Schedule(kind="one-cycle")

    def at(share: float) -> float:
        """The rate when a share of twenty epochs has passed."""
        epoch = min(int(share * 20), 19)
        return schedule.lr(0.4, epoch + 1, 20, share * 20 - epoch)

    assert [at(share) for share in (0, 0.0625, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 0.1, 0.2, 0.4, 0.2, 0])


@pytest.mark.parametrize(("epochs", "steps"), [(50, 4), (8, 1), (3, 7)])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_cosine_cycle_is_pytorchs(kind: str, epochs: int, steps: int) -> None:
    schedule = Schedule(kind="one-cycle-cosine")
    weight = [torch.nn.Parameter(torch.ones(1))]
    both: list[torch.optim.Optimizer] = [
        torch.optim.SGD(weight, 0.21, momentum=0.9) if kind == "sgd" else torch.optim.Adam(weight, 0.21)
        for _ in range(2)
    ]
    cycle = torch.optim.lr_scheduler.OneCycleLR(both[0], 0.21, epochs=epochs, steps_per_epoch=steps, pct_start=0.25)
    for epoch in range(1, epochs + 1):
        for step in range(steps):
            place = (epoch, epochs, step / steps)
            rate = schedule.lr(0.21, *place, last=step == steps - 1, steps=steps)
            set_pace(both[1], rate, schedule.momentum(*place, steps))
            theirs, ours = (each.param_groups[0] for each in both)
            assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-9)
            name = "momentum" if kind == "sgd" else "betas"
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9)
            both[0].step()
            if (epoch, step) != (epochs, steps - 1):
                cycle.step()
    assert Schedule(kind="one-cycle").momentum(1, 2, 0.0, 1) is None


@pytest.mark.parametrize("kind", ["constant", "multistep", "cosine", "one-cycle", "one-cycle-cosine", "ciard"])
def test_a_warm_up_goes_before_any_schedule(kind: str) -> None:
    """Four epochs of forty, hence two of twenty: linearly from 0 to what the schedule has, step by step."""
    plain = Schedule.model_validate({"kind": kind, "milestones": (20, 30), "horizon": 40})
    warm = plain.model_copy(update={"warmup": 4})
    for epoch, fraction, share in ((1, 0.0, 0.0), (1, 0.5, 0.25), (2, 0.0, 0.5), (2, 0.5, 0.75), (3, 0.0, 1.0)):
        at = (0.4, epoch, 20, fraction, False, 4)
        assert warm.lr(*at) == pytest.approx(share * plain.lr(*at))
    assert warm.lr(0.4, 19, 20, 0.3, steps=4) == plain.lr(0.4, 19, 20, 0.3, steps=4)


@pytest.mark.parametrize("epochs", [300, 60])
def test_ciards_own_decay(epochs: int) -> None:
    lr = rates(Schedule(kind="ciard", milestones=(150,), horizon=300), epochs)
    half = epochs // 2
    assert lr[1 : half + 1] == [0.1] * half
    for epoch in range(half + 1, epochs + 1):
        u = (epoch - half) / half
        expected = 0.1 * (0.5 + 0.5 * math.cos(math.pi * u)) * math.exp(-0.01 * u**2)
        assert lr[epoch] == pytest.approx(expected, abs=1e-16)
    assert lr[epochs] == pytest.approx(0, abs=1e-16)
