"""DPGD against its definition, and the two consequences that its docstring states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.dpgd import DPGD, dice_loss
from attacks.pgd import PGD
from bench.compute import ranks

EPS, STEPS = 8 / 255, 10


def dice(p: np.ndarray, hot: np.ndarray) -> float:
    return 1 - (2 * (p * hot).sum() + 1e-5) / ((p**2).sum() + (hot**2).sum() + 1e-5)


@pytest.mark.parametrize("chosen", [[0, 1, 2], [1], []])
def test_dice_loss(chosen: list[int]) -> None:
    rng = np.random.default_rng(0)
    p, hot = rng.dirichlet(np.ones(4), 3), np.eye(4)[[0, 3, 1]]
    members = torch.zeros(3, dtype=torch.bool)
    members[chosen] = True
    value = dice_loss(torch.from_numpy(p), torch.from_numpy(hot), members)
    assert value.item() == pytest.approx(dice(p[chosen], hot[chosen]) if chosen else 0.0, abs=1e-15)


def test_dice_loss_by_hand() -> None:
    half, hot = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    assert dice_loss(half, hot, torch.tensor([True])).item() == pytest.approx(1 - 1 / 1.5, abs=1e-5)
    assert dice_loss(hot, hot, torch.tensor([True])).item() == 0
    assert dice_loss(1 - hot, hot, torch.tensor([True])).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("step", [0, 3, 9])
def test_objective(linear: Any, make_images: Any, step: int) -> None:
    model = linear()
    x, y = make_images(model, wrong=5)
    z = model.numpy(x.numpy())
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    hot, right = np.eye(5)[y.numpy()], z.argmax(1) == y.numpy()
    weight = step / (2 * STEPS)
    expected = (1 - weight) * dice(p[right], hot[right]) + weight * dice(p[~right], hot[~right])
    assert DPGD(steps=STEPS).objective(model(x), y, step).item() == pytest.approx(expected, rel=1e-12)


def by_hand(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """DPGD with a central difference in place of the gradient."""
    x_adv = x.copy()
    for i in range(STEPS):
        z = model.numpy(x_adv)
        right, hot = z.argmax(1) == y, np.eye(z.shape[1])[y]

        def f(
            images: np.ndarray, right: np.ndarray = right, hot: np.ndarray = hot, weight: float = i / (2 * STEPS)
        ) -> float:
            z = model.numpy(images)
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            total = 0.0
            for members, share in ((right, 1 - weight), (~right, weight)):
                total += share * dice(p[members], hot[members]) if members.any() else 0.0
            return total

        gradient = np.zeros_like(x_adv)
        for index in np.ndindex(x.shape):
            offset = np.zeros_like(x_adv)
            offset[index] = 1e-5
            gradient[index] = f(x_adv + offset) - f(x_adv - offset)
        gradient[np.abs(gradient) < 1e-15] = 0
        x_adv = np.clip(np.clip(x_adv + 2 / 255 * np.sign(gradient), x - EPS, x + EPS), 0, 1)
    return x_adv


def test_dpgd_against_its_definition(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model, n=6, wrong=2)
    x_adv = DPGD(steps=STEPS)(model, x, y)
    np.testing.assert_allclose(x_adv.numpy(), by_hand(model, x.numpy(), y.numpy()), rtol=0, atol=1e-14)


def test_the_ratio_couples_the_samples_of_a_batch(linear: Any, make_images: Any) -> None:
    assert DPGD.couples_batch
    model = linear()
    x, y = make_images(model, n=64)
    alone = torch.cat([DPGD()(model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    assert not torch.equal(DPGD()(model, x, y), alone)
    # PGD, in contrast, treats each sample for itself.
    alone = torch.cat([PGD(start="none")(model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    assert torch.equal(PGD(start="none")(model, x, y), alone)


def test_an_evaluation_asks_no_other_process(linear: Any, make_images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several processes evaluates alone: what it waited for would never come."""
    model = linear()
    x, y = make_images(model, n=6, wrong=2)
    expected = DPGD(steps=2)(model, x, y)
    monkeypatch.setattr(ranks, "_current", ranks.Ranks(rank=0, size=2, share=0.5))
    assert torch.equal(DPGD(steps=2)(model, x, y), expected)


def test_the_first_step_leaves_the_wrongly_classified_in_place(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model, n=32, wrong=8)
    moved = (DPGD(steps=1)(model, x, y) != x).flatten(1).any(1)
    assert moved[:24].all()
    assert not moved[24:].any()
    assert (DPGD(steps=2)(model, x, y) != x).flatten(1).any(1).all()


def test_after_the_first_step_the_dynamic_weight_is_inert(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model, n=32, wrong=8)
    expected = DPGD(steps=STEPS)(model, x, y)
    for weight in (0.001, 0.5, 0.999):

        def objective(logits: Tensor, x_adv: Tensor, step: int, weight: float = weight) -> Tensor:
            p, hot = logits.softmax(1), F.one_hot(y, 5).double()
            right = logits.argmax(1) == y
            share = weight if step else 0.0
            return (1 - share) * dice_loss(p, hot, right) + share * dice_loss(p, hot, ~right)

        assert torch.equal(DPGD(steps=STEPS)(model, x, y, objective=objective), expected)
