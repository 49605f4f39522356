"""Steps, projections and starts under each norm: by definition, against a solver, and against other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor, nn

from attacks.bim import BIM
from attacks.cw_inf import CWInf
from attacks.dpgd import DPGD
from attacks.fgsm import FGSM
from attacks.loop import GradientAttack
from attacks.norms import GEOMETRY
from attacks.pgd import PGD, PGDSAT, PGDTRADES
from attacks.t_pgd import TPGD
from bench.attack import check_images, distance
from bench.errors import BenchError
from bench.threat import Threat
from bench.vocabulary import Norm

ALL = [FGSM, BIM, PGD, PGDSAT, PGDTRADES, TPGD, CWInf, DPGD]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def images(n: int, seed: int = 0, side: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images with some pixels at 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(n, 3, side, side, generator=generator, dtype=dtype) - 0.2).clamp(0, 1)


def network(classes: int = 5, side: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * side**2, classes))
        return nn.Sequential(*layers).double().eval().requires_grad_(False)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    norm=st.sampled_from(["l2", "l1"]),
    eps=st.floats(1e-3, 30.0),
    relative_step=st.floats(0.05, 3.0),
    start=st.sampled_from(["none", "uniform", "gaussian-clamped"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_no_iterate_leaves_ball_or_range(
    kind: type[GradientAttack], norm: Any, eps: float, relative_step: float, start: str, dtype: torch.dtype, seed: int
) -> None:
    x, y = images(3, seed, dtype=dtype), torch.arange(3)
    seen: list[Tensor] = []
    inner = network(seed=seed % 7).to(dtype)

    def model(given: Tensor) -> Tensor:
        seen.append(given.detach())
        logits: Tensor = inner(given)
        return logits

    values: dict[str, Any] = {"eps": eps, "norm": norm}
    if kind is not FGSM:
        values |= {"step_size": relative_step * eps, "steps": 4, "start": start}
    if kind is CWInf:
        values |= {"clamp_each_step": True}
    attack = kind(**values)
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(seed))
    outcome = attack.run(model, x, y, noise=noise, track=True)
    for iterate in (*seen, outcome.x_adv):
        check_images(kind.label, Threat(norm, eps), iterate, x)
    assert outcome.x_adv.dtype == dtype


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), eps=st.floats(0.01, 8.0), length=st.floats(0.01, 5.0), in_range=st.booleans())
def test_the_l1_projection_is_the_nearest_point(seed: int, eps: float, length: float, in_range: bool) -> None:
    """SciPy's solver on the parts p, q >= 0 of z = x + p - q: a smooth problem with the same solution."""
    rng = np.random.default_rng(seed)
    d = 6
    x = np.clip(1.4 * rng.random(d) - 0.2, 0, 1)
    u = x + length * rng.standard_normal(d)
    mine = GEOMETRY["l1"].project(torch.from_numpy(u[None]), torch.from_numpy(x[None]), eps, in_range)[0].numpy()
    bounds = [(0, 1 - value if in_range else None) for value in x] + [(0, value if in_range else None) for value in x]
    solved = minimize(
        lambda parts: ((x + parts[:d] - parts[d:] - u) ** 2).sum(),
        np.zeros(2 * d),
        jac=lambda parts: np.concatenate([g := 2 * (x + parts[:d] - parts[d:] - u), -g]),
        bounds=bounds,
        constraints={"type": "ineq", "fun": lambda parts: eps - parts.sum(), "jac": lambda parts: -np.ones(2 * d)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    theirs = x + solved.x[:d] - solved.x[d:]
    assert np.abs(mine - x).sum() <= eps * (1 + 1e-9)
    if in_range:
        assert mine.min() >= 0
        assert mine.max() <= 1
    assert ((mine - u) ** 2).sum() <= ((theirs - u) ** 2).sum() + 1e-7
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_inside_is_left_where_it_is(norm: Norm) -> None:
    x = images(4)
    inside = (x + 1e-3 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    projected = GEOMETRY[norm].project(inside, x, 2.0, True)
    torch.testing.assert_close(projected, inside, rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_step_has_length_one_however_small_the_gradient(norm: Norm, scale: float) -> None:
    gradient = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradient[3] = 0
    direction = GEOMETRY[norm].step(scale * gradient, torch.full_like(gradient, 0.5))
    lengths = distance(direction, torch.zeros_like(direction), norm)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    reference = GEOMETRY[norm].step(gradient, torch.full_like(gradient, 0.5))
    torch.testing.assert_close(direction, reference)


def test_a_step_in_l1_goes_along_the_largest_that_can_move() -> None:
    gradient = torch.arange(1.0, 401.0).view(1, 1, 20, 20)
    x_adv = torch.full_like(gradient, 0.5)
    x_adv.view(-1)[-1] = 1.0  # the largest of all, and at the end of the range
    (moved,) = GEOMETRY["l1"].step(gradient, x_adv).view(-1).nonzero(as_tuple=True)
    assert moved.tolist() == [395, 396, 397, 398]
    assert GEOMETRY["l1"].step(gradient, x_adv).sum() == 1
    (moved,) = GEOMETRY["l1"].step(-gradient, x_adv).view(-1).nonzero(as_tuple=True)
    assert moved.tolist() == [396, 397, 398, 399]


@pytest.mark.parametrize("norm", NORMS)
def test_starts_are_uniform_in_the_ball(norm: Norm) -> None:
    """Of points uniform in a ball of d dimensions r^d lies within r, and one coordinate is like another."""
    like, d, n = torch.zeros(1, dtype=torch.float64), 3, 40_000
    points = GEOMETRY[norm].ball((n, d, 1, 1), like, torch.Generator().manual_seed(0))
    lengths = distance(points, torch.zeros_like(points), norm)
    assert lengths.max() <= 1
    for radius in (0.5, 0.8, 0.95):
        assert (lengths < radius).double().mean().item() == pytest.approx(radius**d, abs=0.01)
    assert points.mean(0).abs().max() < 0.01
    spread = points.flatten(1).square().mean(0)
    torch.testing.assert_close(spread, spread.mean().expand(d), rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", [BIM, PGDSAT, CWInf, TPGD])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_samples_result_does_not_depend_on_its_batch(kind: type[GradientAttack], norm: Norm) -> None:
    model, x = network(), images(7)
    y = model(x).argmax(1)
    attack = kind.for_protocol("official", Threat(norm, 0.5 if norm == "l2" else 4.0))
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(0))
    whole = attack(model, x, y, noise=noise)
    parts = [
        attack(model, x[i : i + 2], y[i : i + 2], noise=None if noise is None else noise[i : i + 2])
        for i in (0, 2, 4, 6)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    assert (distance(whole, x, norm) > 0.5 * attack.eps).any()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_survivors_are_those_of_the_plain_pass(norm: Norm) -> None:
    model, x = network(seed=3), images(24)
    y = model(x).argmax(1)
    attack = PGDSAT.for_protocol("official", Threat(norm, 0.25 if norm == "l2" else 1.0))
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(0))
    outcome = attack.run(model, x, y, noise=noise, track=True)
    survivors = attack.survivors(model, x, y, noise=noise, batch_size=5)
    assert outcome.always_right is not None
    assert survivors is not None
    assert survivors.always_right is not None
    assert torch.equal(survivors.always_right, outcome.always_right & (model(outcome.x_adv).argmax(1) == y))
    assert 0 < int(survivors.always_right.sum()) < len(x)


@pytest.mark.parametrize("kind", ALL)
def test_numbers_under_each_norm(kind: type[GradientAttack]) -> None:
    """Evaluation steps: 2.5 eps / steps in L2 (Madry et al.), 2 eps / steps in L1; FGSM's one step is its radius."""
    for norm, eps, reach in (("l2", 0.5, 2.5), ("l1", 12.0, 2.0)):
        attack = kind.for_protocol("official", Threat(norm, eps))  # type: ignore[arg-type]
        assert isinstance(attack, GradientAttack)
        assert (attack.norm, attack.eps) == (norm, eps)
        assert attack.step_size == pytest.approx(eps if kind is FGSM else reach * eps / attack.steps)
        assert attack.parameters()["norm"] == norm
        wider = kind.for_protocol("official", Threat(norm, 2 * eps))  # type: ignore[arg-type]
        assert isinstance(wider, GradientAttack)
        assert wider.step_size == pytest.approx(2 * attack.step_size)
    assert "norm" not in kind.for_protocol("official", 8 / 255).parameters()


def test_pgd_in_l2_is_torchattacks_pgdl2() -> None:
    model, x = network(), images(8)
    y = model(x).argmax(1)
    attack = PGDSAT.for_protocol("official", Threat("l2", 0.5))
    assert isinstance(attack, GradientAttack)
    for random_start in (False, True):
        torch.manual_seed(1)
        library = torchattacks.PGDL2(model, eps=0.5, alpha=attack.step_size, steps=20, random_start=random_start)
        theirs = library(x, y)
        torch.manual_seed(1)
        noise = torch.empty_like(x).normal_()
        noise *= torch.zeros(len(x), 1, 1, 1, dtype=x.dtype).uniform_(0, 1) / noise.flatten(1).norm(dim=1).view(
            -1, 1, 1, 1
        )
        ours = attack(model, x, y, noise=noise if random_start else torch.zeros_like(x))
        assert (ours - theirs).abs().max() < 1e-6
        assert torch.equal(model(ours).argmax(1), model(theirs).argmax(1))


def test_pgd_in_l2_is_foolboxs() -> None:
    foolbox = pytest.importorskip("foolbox")
    model, x = network(), images(8)
    y = model(x).argmax(1)
    attack = PGDSAT(norm="l2", eps=0.5, step_size=0.0625, start="none")
    theirs = foolbox.attacks.L2PGD(abs_stepsize=0.0625, steps=20, random_start=False)
    _, clipped, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=0.5)
    assert (attack(model, x, y) - clipped).abs().max() < 1e-9


def test_a_step_in_l1_is_foolboxs_slide() -> None:
    """One step within a ball that is large enough for both: their projections differ, ours is the nearest point."""
    foolbox = pytest.importorskip("foolbox")
    model, x = network(side=16), images(8, side=16)
    y = model(x).argmax(1)
    attack = PGD(norm="l1", eps=12.0, step_size=3.0, steps=1, start="none")
    theirs = foolbox.attacks.SparseL1DescentAttack(quantile=0.99, abs_stepsize=3.0, steps=1, random_start=False)
    _, clipped, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=12.0)
    assert (attack(model, x, y) - clipped).abs().max() < 1e-9
    assert math.ceil(0.01 * x[0].numel()) == int((clipped != x).flatten(1).sum(1).max())


def test_an_attack_is_never_run_in_a_norm_it_does_not_know() -> None:
    class Own(PGD):
        label = "Own"
        norms = ("linf", "l2")

    assert Own.for_protocol("official", Threat("l2", 0.5)).norm == "l2"
    with pytest.raises(BenchError, match=r"Own knows L∞ and L2 alone, and was to be run under l1:12"):
        Own.for_protocol("official", Threat("l1", 12))
