"""Adversarial weight perturbation: three steps against the definition written out, traces, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.defense import Batch, Defense, Loss, Models
from bench.errors import BenchError
from bench.recipes.hyperparameters import method_class
from bench.recipes.schedule import Schedule
from bench.recipes.training import Optimizer, WeightPerturbation
from bench.registry import names
from bench.training.awp import Perturbation
from bench.training.step import TrainingStep
from methods.sat import SAT

from ..compute.script import COMPANIONS, flat

CONSTANT = Schedule(kind="constant")
ALL = [name for name in names("methods") if method_class(name).__module__.startswith("methods.")]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 10))
    return nn.Sequential(*layers).double()


def batch(number: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(number)
    return torch.rand(8, 1, 8, 8, generator=source, dtype=torch.float64), torch.arange(8) % 10


def stepping(method: str, awp: WeightPerturbation | None, **settings: Any) -> TrainingStep:
    teachers: dict[str, nn.Module] = {
        role: network(seed) for seed, role in enumerate(method_class(method).roles, start=1)
    }
    defense = method_class(method)(**({} if method == "natural" else {"steps": 2}), **settings)
    optimizer = Optimizer(lr=0.1, weight_decay=5e-4)
    companions = {name: network(3) for name in COMPANIONS.get(method, ())}
    return TrainingStep(defense, Models(network(), teachers, companions), optimizer, CONSTANT, 4, awp=awp)


def predict(state: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of `network` in train mode from its weights alone, and the batch's mean and unbiased variance."""
    z = F.conv2d(x, state["0.weight"], state["0.bias"])
    mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    z = (z - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    z = torch.tanh(z * state["1.weight"][:, None, None] + state["1.bias"][:, None, None])
    n = z.numel() / z.shape[1]
    return F.linear(z.flatten(1), state["4.weight"], state["4.bias"]), mean, var * n / (n - 1)


def test_three_steps_are_those_of_the_definition() -> None:
    """v = ||w|| g / ||g|| on "weight"s of more dimensions than one; SGD on w + gamma v; then gamma v is taken off."""
    gamma, lr, momentum, decay = 0.02, 0.1, 0.9, 5e-4
    step = stepping("sat", WeightPerturbation(gamma=gamma))
    student = step.models.student
    w = {name: value.detach().clone() for name, value in student.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in w.items()}
    mean, var = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for number in range(3):
        x, y = batch(number)
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 2 - 1
        x_adv = step.defense.inner(Batch(x, y, noise=noise), Models(copy.deepcopy(student)))

        def gradient(state: dict[str, Tensor], x_adv: Tensor = x_adv, y: Tensor = y) -> dict[str, Tensor]:
            leaves = {name: value.clone().requires_grad_() for name, value in state.items()}
            loss = F.cross_entropy(predict(leaves, x_adv)[0], y)
            return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

        g = gradient(w)
        v = {
            name: w[name].norm() * g[name] / g[name].norm() if name in ("0.weight", "4.weight") else torch.zeros(())
            for name in w
        }
        there = {name: value + gamma * v[name] for name, value in w.items()}
        _, batch_mean, batch_var = predict(there, x_adv)
        mean, var = 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var
        for name, slope in gradient(there).items():
            velocity[name] = momentum * velocity[name] + slope + decay * there[name]
            w[name] = there[name] - lr * velocity[name] - gamma * v[name]
        step(x, y, epoch=1, step=number, noise=noise)
        for name, value in student.named_parameters():
            torch.testing.assert_close(value.detach(), w[name], rtol=1e-10, atol=1e-12, msg=f"{name}, step {number}")
        torch.testing.assert_close(student.get_buffer("1.running_mean"), mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(student.get_buffer("1.running_var"), var, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ALL)
def test_every_method_takes_it_and_where_it_moves_nothing_it_changes_nothing(method: str) -> None:
    """With a vanishing gamma the step is that without, the state of the defense and all statistics included.

    But CIARD's attack, which without it sees statistics that this batch's images have moved.
    """
    settings = {"attack_in_train_mode": True} if method == "ciard" else {}
    plain = stepping(method, None, **settings)
    moved = stepping(method, WeightPerturbation(gamma=1e-15), **settings)
    for number in range(2):
        noise = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        losses = [each(*batch(number), step=number, noise=noise) for each in (plain, moved)]
        torch.testing.assert_close(losses[0].total, losses[1].total, rtol=1e-7, atol=1e-9)
    for each in (plain, moved):
        each.end_epoch(1)
    if method == "ciard":
        return
    for name, value in plain.models.student.state_dict().items():
        torch.testing.assert_close(moved.models.student.state_dict()[name], value, rtol=1e-6, atol=1e-8, msg=name)
    for name, companion in plain.models.companions.items():
        theirs = moved.models.companions[name].state_dict()
        torch.testing.assert_close(dict(theirs), dict(companion.state_dict()), rtol=1e-6, atol=1e-8)
    ours, theirs = flat(moved.defense.state_dict(), ""), flat(plain.defense.state_dict(), "")
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_it_begins_at_its_epoch_of_the_schedule_s_length() -> None:
    models = Models(network())
    for stated, epochs, horizon, first in ((10, 100, 0, 10), (10, 50, 100, 5), (1, 5, 100, 1), (100, 2, 200, 1)):
        awp = WeightPerturbation(from_epoch=stated)
        assert Perturbation(awp, SAT(), models, epochs, horizon).begins == first
    step, without = stepping("sat", WeightPerturbation(from_epoch=3)), stepping("sat", None)
    noise = torch.zeros_like(batch()[0])
    for epoch, same in ((2, True), (3, False)):
        for each in (step, without):
            each(*batch(epoch), epoch=epoch, noise=noise)
        pairs = zip(step.models.student.parameters(), without.models.student.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs) == same


def test_a_step_that_fails_leaves_the_weights_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    step = stepping("sat", WeightPerturbation(gamma=0.5))
    before = copy.deepcopy(step.models.student.state_dict())
    real, calls = SAT.outer, iter((True, False))
    monkeypatch.setattr(SAT, "outer", lambda *given: real(*given) if next(calls) else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(*batch())
    for name, value in step.models.student.named_parameters():
        torch.testing.assert_close(value.detach(), before[name], rtol=1e-14, atol=1e-15)


class InOnePiece(SAT):
    """A stranger's loss on top of a built-in one's halves."""

    label = "In one piece"

    def loss(self, batch: Batch, models: Models) -> Loss:
        return super().loss(batch, models)


class Nothing(Defense):
    label = "Nothing"


@pytest.mark.parametrize("method", [InOnePiece, Nothing])
def test_a_loss_in_one_piece_is_refused(method: type[Defense]) -> None:
    with pytest.raises(BenchError, match=f"and {method.label} has it in one piece.\nTrain without it"):
        TrainingStep(method(), Models(network()), Optimizer(lr=0.1), CONSTANT, 4, awp=WeightPerturbation())
