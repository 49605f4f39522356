"""The student's optimizer: PyTorch's own step, where weight decay is left out, clipped gradients, what is refused."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from bench.defense import Models
from bench.errors import BenchError
from bench.recipes.schedule import Schedule
from bench.recipes.training import Optimizer
from bench.training.optimizer import completed, kinds, made
from bench.training.step import TrainingStep
from methods.natural import Natural


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def batch(number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(number)), torch.arange(8) % 10


def gradients(model: nn.Module, number: int = 0) -> None:
    x, y = batch(number)
    nn.functional.cross_entropy(model(x), y).backward()


def step_of(model: nn.Module, optimizer: Optimizer, schedule: Schedule | None = None) -> TrainingStep:
    return TrainingStep(Natural(), Models(model), optimizer, schedule or Schedule(kind="constant"), 4)


def moved(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The weights after three steps."""
    for number in range(3):
        optimizer.zero_grad()
        gradients(model, number)
        optimizer.step()
    return [each.detach() for each in model.parameters()]


@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        ({"lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=2e-4)),
        (
            {"kind": "AdamW", "lr": 0.01, "betas": [0.8, 0.9]},
            lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.9)),
        ),
        ({"kind": "rmsprop", "lr": 0.01}, lambda p: torch.optim.RMSprop(p, lr=0.01)),
    ],
)
def test_it_is_pytorch_s_bit_by_bit(given: dict[str, Any], theirs: Any) -> None:
    one, other = network(), network()
    ours = made(one, completed(Optimizer.model_validate(given)))
    for mine, expected in zip(moved(one, ours), moved(other, theirs(other.parameters())), strict=True):
        assert torch.equal(mine, expected)


def test_the_configuration_holds_what_the_class_has_by_default() -> None:
    assert completed(Optimizer(kind="adamw", lr=0.01)).model_dump() == {
        "kind": "adamw",
        "lr": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "amsgrad": False,
    }
    assert completed(Optimizer(lr=0.1)) == Optimizer(lr=0.1)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_optimizer_that_is_offered_trains_and_goes_on_exactly(kind: str) -> None:
    """Saved after two steps and loaded into a new one, the fourth step leaves the same bits."""
    decays = kind != "rprop"
    optimizer = Optimizer(kind=kind, lr=0.01, clip=0.5, decay_norms=not decays)
    schedule = Schedule(kind="cosine", warmup=1)
    whole, first, second = (copy.deepcopy(network()) for _ in range(3))
    steps = step_of(whole, optimizer, schedule)
    for number in range(4):
        steps(*batch(number), epoch=1 + number, step=number, steps=4)
    before = step_of(first, optimizer, schedule)
    for number in range(2):
        before(*batch(number), epoch=1 + number, step=number, steps=4)
    kept = io.BytesIO()
    torch.save({"student": first.state_dict(), "optimizer": before.optimizer.state_dict()}, kept)
    kept.seek(0)
    saved = torch.load(kept, weights_only=True)
    after = step_of(second, optimizer, schedule)
    second.load_state_dict(saved["student"])
    after.optimizer.load_state_dict(saved["optimizer"])
    for number in range(2, 4):
        after(*batch(number), epoch=1 + number, step=number, steps=4)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), network().parameters(), strict=True))


def test_norms_and_biases_are_left_out_of_weight_decay_on_request() -> None:
    """Without a gradient decay alone moves a weight."""
    for decay_norms in (True, False):
        model = network()
        before = copy.deepcopy(model)
        optimizer = made(model, Optimizer(lr=0.1, weight_decay=0.5, momentum=0.0, decay_norms=decay_norms))
        for each in model.parameters():
            each.grad = torch.zeros_like(each)
        optimizer.step()
        for name, was in before.named_parameters():
            decays = decay_norms or was.ndim > 1
            torch.testing.assert_close(model.get_parameter(name), was * (0.95 if decays else 1.0))


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_a_gradient_is_shortened_to_the_norm_that_is_allowed(clip: float) -> None:
    model = network()
    before = copy.deepcopy(model)
    gradients(before)
    length = torch.linalg.vector_norm(torch.cat([each.grad.flatten() for each in before.parameters()]))  # type: ignore[union-attr]
    optimizer = made(model, Optimizer(lr=1.0, momentum=0.0, weight_decay=0.0, clip=clip))
    gradients(model)
    optimizer.step()
    for mine, was in zip(model.parameters(), before.parameters(), strict=True):
        assert was.grad is not None
        torch.testing.assert_close(mine, was - was.grad * min(1.0, clip / float(length)), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "adamv"}, "Unknown optimizer 'adamv'. Did you mean 'adam'"),
        ({"kind": "lbfgs"}, "Unknown optimizer 'lbfgs'"),
        ({"kind": "adamw", "momentum": 0.5}, r"training.optimizer \(adamw\) 'momentum'"),
        ({"betas": [0.9, 0.99]}, r"Known: clip, dampening, decay_norms"),
        ({"fused": True}, "'fused'"),
        ({"kind": "adamw", "betas": [1.5, 0.9]}, "adamw refuses its arguments: Invalid beta"),
        ({"kind": "adamw", "eps": "tiny"}, "adamw refuses its arguments"),
        ({"momentum": 0.0, "nesterov": True}, "sgd refuses its arguments: Nesterov"),
        ({"kind": "rprop", "decay_norms": False}, "rprop has no weight decay"),
    ],
)
def test_what_an_optimizer_cannot_be_is_said(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        completed(Optimizer.model_validate({"lr": 0.1, **given}))
