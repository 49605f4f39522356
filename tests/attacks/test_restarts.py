"""Several starts: a sample is fooled if one fools it, and costs nothing once it is, or its iterates repeat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.bim import BIM
from attacks.cw_inf import CWInf
from attacks.dpgd import DPGD
from attacks.loop import GradientAttack
from attacks.pgd import PGD, PGDSAT
from attacks.restarts import settled
from attacks.t_pgd import TPGD
from bench.attack import check_images
from bench.evaluation.attack_run import start_noise
from bench.threat import Threat
from bench.vocabulary import Norm

EPS = 8 / 255


def several(attack: GradientAttack, x: Tensor, restarts: int = 5) -> tuple[GradientAttack, Tensor]:
    """The attack with restarts, and their noise: a sample's own."""
    attack = replace(attack, restarts=restarts)
    noise = start_noise(attack, x, 0, 0, "pgd")
    assert noise is not None
    return attack, noise


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", [PGDSAT, TPGD, DPGD])
def test_a_sample_is_fooled_where_any_start_fools_it(
    linear: Any, make_images: Any, kind: type[GradientAttack], norm: Norm
) -> None:
    model = linear(seed=4)
    x, y = make_images(model, n=48)
    radius = {"linf": 0.02, "l2": 0.05, "l1": 0.1}[norm]
    single = kind.for_protocol("official", Threat(norm, radius))
    assert isinstance(single, GradientAttack)
    single = replace(single, start="uniform", steps=3, step_size=radius / 5)
    attack, noise = several(single, x)
    assert noise.shape == (48, 5, 3, 2, 2)
    finals, always = [], []
    for restart in range(5):
        each = single.run(model, x, y, noise=noise[:, restart], track=True)
        assert each.always_right is not None
        finals.append(model(each.x_adv).argmax(1) == y)
        always.append(each.always_right)
    outcome = attack.run(model, x, y, noise=noise, track=True)
    assert outcome.always_right is not None
    assert outcome.witnesses is not None
    right = model(outcome.x_adv).argmax(1) == y
    assert torch.equal(right, torch.stack(finals).all(0))
    assert (right.sum() <= finals[0].sum()).all()
    still = right & outcome.always_right
    assert torch.equal(still, right & torch.stack(always).all(0))
    for images in (outcome.x_adv, outcome.witnesses):
        check_images("restarts", attack.threat, images, x)
    assert (model(outcome.witnesses).argmax(1) != y)[~outcome.always_right].all()
    survivors = attack.survivors(model, x, y, noise=noise, batch_size=7)
    if survivors is not None:
        assert survivors.always_right is not None
        assert torch.equal(survivors.always_right, torch.stack(always).all(0) & torch.stack(finals).all(0))


def test_the_first_start_is_that_of_the_attack_without_restarts(linear: Any, make_images: Any) -> None:
    x, _ = make_images(linear(), n=6)
    _, noise = several(PGDSAT(), x)
    alone = start_noise(PGDSAT(), x, 0, 0, "pgd")
    assert alone is not None
    assert torch.equal(noise[:, 0], alone)
    _, part = several(PGDSAT(), x[:2], restarts=3)
    assert torch.equal(part, noise[:2, :3])


def test_fooled_samples_cost_nothing_more(linear: Any, make_images: Any) -> None:
    model = linear(seed=4)
    x, y = make_images(model, n=48)
    attack, noise = several(PGD(steps=10), x)
    model.iterates.clear()
    outcome = attack.run(model, x, y, noise=noise)
    passes = sum(map(len, model.iterates))
    standing = int((model(outcome.x_adv).argmax(1) == y).sum())
    assert 0 < standing < 40
    assert passes < 0.8 * 5 * 10 * 48
    model.iterates.clear()
    PGD(steps=10, restarts=5, start="none").run(model, x, y)  # each start would be the same
    assert sum(map(len, model.iterates)) == 10 * 48


def test_restarts_are_a_parameter_where_there_are_several() -> None:
    assert "restarts" not in PGDSAT().parameters()
    assert replace(PGDSAT(), restarts=5).parameters()["restarts"] == 5


@pytest.mark.parametrize("steps", [20, 21, 22, 23])
@pytest.mark.parametrize("kind", [PGD, BIM, CWInf])
def test_iterates_that_repeat_are_not_computed_again(
    linear: Any, make_images: Any, kind: type[GradientAttack], steps: int
) -> None:
    """A linear network's signs stand still: the corner is reached in a few steps. Outcomes are those of all steps."""
    model = linear(seed=4)
    x, y = make_images(model, n=32)
    options: dict[str, Any] = {"clamp_each_step": True} if kind is CWInf else {}
    attack = kind(steps=steps, start="uniform", **options)
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(0))
    expected = attack.run(model, x, y, noise=noise, track=True)
    model.iterates.clear()
    outcome = settled(attack, model, x, y, noise, True)
    assert sum(map(len, model.iterates)) < 0.7 * steps * len(x)
    assert torch.equal(outcome.x_adv, expected.x_adv)
    assert torch.equal(outcome.always_right, expected.always_right)  # type: ignore[arg-type]


class ToAndFro(torch.nn.Module):
    """The gradient of its margin changes sign at a pixel value of 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        bump = -(x.flatten(1)[:, :1] - 0.5).abs()
        return torch.cat([1 - bump, bump], 1)


@pytest.mark.parametrize("steps", range(4, 10))
def test_two_images_in_turn_end_with_the_right_one(steps: int) -> None:
    x = torch.tensor([0.5, 0.25, 0.46875], dtype=torch.float64).view(3, 1, 1, 1)
    y = torch.zeros(3, dtype=torch.int64)
    attack = PGD(eps=0.25, step_size=0.0625, steps=steps, start="none")
    outcome = settled(attack, ToAndFro(), x, y, None, True)
    expected = attack.run(ToAndFro(), x, y, track=True)
    assert torch.equal(outcome.x_adv, expected.x_adv)


def test_an_objective_that_may_look_at_the_step_is_followed_to_the_end(linear: Any, make_images: Any) -> None:
    class Late(PGD):
        label = "Late"
        same_every_step = False

        def objective(self, logits: Tensor, y: Tensor, step: int) -> Tensor:
            return super().objective(logits, y, step) * (0 if step < 15 else 1)

    model = linear(seed=4)
    x, y = make_images(model, n=32)
    attack, noise = several(Late(steps=20), x)
    outcome = attack.run(model, x, y, noise=noise)
    alone = PGD(steps=5).run(model, x, y, noise=noise[:, 0])
    assert (model(outcome.x_adv).argmax(1) != y).sum() >= (model(alone.x_adv).argmax(1) != y).sum()


def test_a_callers_objective_is_refused(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)
    with pytest.raises(ValueError, match="restarts"):
        PGD(restarts=2).run(model, x, y, objective=lambda logits, x_adv, step: logits.sum())
