"""The loop of all gradient attacks: starts, steps, projections, objectives and what it tells of the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacks.bim import BIM
from attacks.cw_inf import CWInf
from attacks.dpgd import DPGD
from attacks.fgsm import FGSM
from attacks.loop import GradientAttack
from attacks.pgd import PGD, PGD20, PGDSAT, PGDTRADES
from attacks.t_pgd import TPGD
from bench.attack import Start, check_images
from bench.vocabulary import Protocol

EPS = 8 / 255
ALL = [FGSM, BIM, PGD, PGDSAT, PGD20, PGDTRADES, TPGD, CWInf, DPGD]


def softmax(z: np.ndarray) -> np.ndarray:
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def ce_gradient(model: Any, x: np.ndarray, y: Tensor) -> np.ndarray:
    z = model.numpy(x)
    return model.input_gradient(softmax(z) - np.eye(z.shape[1])[y.numpy()], x.shape)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    eps=st.floats(1e-3, 1.0),
    relative_step=st.floats(0.05, 3.0),
    steps=st.integers(1, 6),
    start=st.sampled_from(["none", "uniform", "gaussian"]),
    clamp_each_step=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_an_attack_never_leaves_its_ball_nor_the_images(
    kind: type[GradientAttack],
    eps: float,
    relative_step: float,
    steps: int,
    start: str,
    clamp_each_step: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    x = (1.4 * torch.rand(5, 3, 2, 2, dtype=dtype) - 0.2).clamp(0, 1)
    y = torch.randint(3, (5,))
    values: dict[str, Any] = {"eps": eps}
    if kind is not FGSM:
        values |= {"step_size": relative_step * eps, "steps": steps, "start": start}
    if kind is CWInf:
        values |= {"clamp_each_step": clamp_each_step}
    x_adv = kind(**values)(model, x, y)
    assert x_adv.dtype == dtype
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert ((x_adv >= x - eps) & (x_adv <= x + eps)).all()
    assert not x_adv.requires_grad


@pytest.mark.parametrize("eps", [EPS, 0.2, 2 / 16])
def test_fgsm_is_one_step_of_its_radius(linear: Any, make_images: Any, eps: float) -> None:
    model = linear()
    x, y = make_images(model)
    x_adv = FGSM(eps=eps)(model, x, y)
    expected = np.clip(x.numpy() + eps * np.sign(ce_gradient(model, x.numpy(), y)), 0, 1)
    np.testing.assert_allclose(x_adv.numpy(), expected, rtol=0, atol=1e-15)
    assert len(model.iterates) == 1


@pytest.mark.parametrize("steps", [1, 7])
def test_pgd_against_its_definition(linear: Any, make_images: Any, steps: int) -> None:
    model = linear()
    x, y = make_images(model)
    noise = 2 * torch.rand(x.shape, dtype=x.dtype) - 1
    x_adv = PGD(steps=steps)(model, x, y, noise=noise)
    expected = np.clip(x.numpy() + EPS * noise.numpy(), 0, 1)
    for _ in range(steps):
        expected = expected + 2 / 255 * np.sign(ce_gradient(model, expected, y))
        expected = np.clip(np.clip(expected, x.numpy() - EPS, x.numpy() + EPS), 0, 1)
    np.testing.assert_allclose(x_adv.numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", [PGDSAT, PGDTRADES])
def test_pgd_is_torchattacks_pgd_from_the_same_start(make_images: Any, kind: type[PGD]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 5)).double().eval()
    x, y = make_images(model)
    attack = kind.for_protocol("official", EPS)
    assert isinstance(attack, PGD)
    torch.manual_seed(1)
    theirs = torchattacks.PGD(model, eps=attack.eps, alpha=attack.step_size, steps=20, random_start=True)(x, y)
    torch.manual_seed(1)
    noise = torch.empty_like(x).uniform_(-EPS, EPS) / EPS
    torch.testing.assert_close(attack(model, x, y, noise=noise), theirs, rtol=0, atol=1e-12)


def test_t_pgd_against_its_definition(linear: Any, make_images: Any) -> None:
    """Ascent of KL(p(x) || p(x')), whose gradient with respect to the logits of x' is p(x') - p(x); no labels."""
    model = linear()
    x, y = make_images(model)
    noise = torch.randn(x.shape, dtype=x.dtype)
    x_adv = TPGD()(model, x, y, noise=noise)
    clean, expected = softmax(model.numpy(x.numpy())), x.numpy() + 0.001 * noise.numpy()
    for _ in range(20):
        gradient = model.input_gradient(softmax(model.numpy(expected)) - clean, x.shape)
        expected = np.clip(expected + 2 / 255 * np.sign(gradient), x.numpy() - EPS, x.numpy() + EPS).clip(0, 1)
    np.testing.assert_allclose(x_adv.numpy(), expected, rtol=0, atol=1e-15)
    assert torch.equal(TPGD()(model, x, (y + 1) % 5, noise=noise), x_adv)


def test_bim_is_pgd_from_the_image_itself(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)
    expected = x.numpy()
    for _ in range(10):
        moved = expected + 2 / 255 * np.sign(ce_gradient(model, expected, y))
        expected = np.clip(np.clip(moved, x.numpy() - EPS, x.numpy() + EPS), 0, 1)
    np.testing.assert_allclose(BIM()(model, x, y).numpy(), expected, rtol=0, atol=1e-15)
    assert torch.equal(model.iterates[0], x)


class Cut(nn.Module):
    """A network that takes its images out of autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().flatten(1)


@pytest.mark.parametrize("kind", ALL)
def test_without_a_gradient_an_attack_stays_where_it_starts(kind: type[GradientAttack]) -> None:
    x, y = torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    attack = kind()
    noise = attack.start_noise(x.shape, x)
    start = attack.project(attack.first(x, noise, None), x)
    assert torch.equal(attack.run(Cut(), x, y, noise=noise, track=True).x_adv, start)


def test_where_the_starts_lie(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)
    assert ((x == 0) | (x == 1)).any()
    noise = torch.randn(x.shape, dtype=x.dtype).clamp(-1, 1)
    starts = {}
    for start in ("none", "uniform", "gaussian"):
        model.iterates.clear()
        PGD(steps=1, start=start)(model, x, y, noise=noise)
        starts[start] = model.iterates[0]
    assert torch.equal(starts["none"], x)
    assert torch.equal(starts["uniform"], (x + EPS * noise).clamp(0, 1))
    assert torch.equal(starts["gaussian"], x + 0.001 * noise)  # only the steps after it are projected


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_start_noise_comes_from_the_generator(linear: Any, make_images: Any, start: Start) -> None:
    model = linear()
    x, y = make_images(model)
    attack = PGD(steps=2, start=start)
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(3))
    given = attack(model, x, y, noise=noise)
    before = torch.get_rng_state()
    drawn = attack(model, x, y, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(given, drawn)
    large = attack.start_noise((100_000,), x, torch.Generator().manual_seed(3))
    assert large is not None
    if start == "uniform":
        assert -1 <= large.min() < -0.999 < 0.999 < large.max() <= 1
        assert large.mean().abs() < 0.01
    else:
        assert large.std().item() == pytest.approx(1, abs=0.01)


def margin_ascent(model: Any, x: np.ndarray, y: Tensor, confidence: float, clamp: bool) -> list[np.ndarray]:
    """CW-inf by hand: 30 iterates after x, of a step against z_y - max_{j != y} z_j where it exceeds -confidence."""
    iterates, rows = [x], np.arange(len(x))
    for _ in range(30):
        z = model.numpy(iterates[-1])
        others = z.copy()
        others[rows, y.numpy()] = -np.inf
        best = others.argmax(1)
        active = z[rows, y.numpy()] - z[rows, best] + confidence > 0
        ascent = np.zeros_like(z)
        ascent[rows, best] += active
        ascent[rows, y.numpy()] -= active
        moved = iterates[-1] + 2 / 255 * np.sign(model.input_gradient(ascent, x.shape))
        moved = np.clip(moved, x - EPS, x + EPS)
        iterates.append(np.clip(moved, 0, 1) if clamp else moved)
    return iterates


@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_cw_inf_against_its_definition(linear: Any, make_images: Any, protocol: Protocol) -> None:
    model = linear()
    x, y = make_images(model)
    attack = CWInf.for_protocol(protocol, EPS)
    x_adv = attack(model, x, y)
    official = protocol == "official"
    expected = margin_ascent(model, x.numpy(), y, 50 if official else 0, clamp=not official)
    for seen, iterate in zip(model.iterates, expected[:30], strict=True):
        np.testing.assert_allclose(seen.numpy(), iterate, rtol=0, atol=1e-14)
    np.testing.assert_allclose(x_adv.numpy(), np.clip(expected[-1], 0, 1), rtol=0, atol=1e-14)
    outside = max(
        -min(seen.min().item() for seen in model.iterates), max(seen.max().item() for seen in model.iterates) - 1
    )
    assert (outside > 0) == official


def test_cw_inf_lowers_the_margin_and_leaves_alone_what_it_has_won(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)

    def margin(images: Tensor) -> np.ndarray:
        z = model.numpy(images.numpy())
        own = z[np.arange(len(z)), y]
        z[np.arange(len(z)), y] = -np.inf
        return own - z.max(1)

    x_adv = CWInf.for_protocol("paper", EPS)(model, x, y)
    won = margin(x) < 0
    assert won.any()
    assert (margin(x_adv)[~won] < margin(x)[~won]).all()
    assert torch.equal(x_adv[won], x[won])
    x_adv = CWInf.for_protocol("official", EPS)(model, x, y)  # a confidence of 50: no sample is ever won
    assert (margin(x_adv) < margin(x)).all()


@pytest.mark.parametrize("kind", [PGDSAT, CWInf, DPGD, FGSM])
def test_what_the_loop_tells_of_its_iterates(linear: Any, make_images: Any, kind: type[GradientAttack]) -> None:
    model = linear(seed=4)
    x, y = make_images(model, n=64)
    attack = kind()
    outcome = attack.run(model, x, y, noise=2 * torch.rand(x.shape, dtype=x.dtype) - 1, track=True)
    seen = model.iterates[: attack.steps]  # what is classified a second time, clamped, comes after the loop
    assert outcome.always_right is not None
    assert outcome.witnesses is not None
    saved_right = np.array([model.numpy(image.clamp(0, 1).numpy()).argmax(1) == y.numpy() for image in seen])
    assert (outcome.always_right.numpy() == saved_right.all(0)).all()
    assert outcome.always_right.any()
    assert not outcome.always_right.all()
    check_images("witnesses", EPS, outcome.witnesses, x)
    fooled = ~outcome.always_right
    assert (model(outcome.witnesses).argmax(1) != y)[fooled].all()


@pytest.mark.parametrize("kind", [FGSM, BIM, PGDSAT, PGDTRADES, TPGD, CWInf])
@pytest.mark.parametrize("protocol", ["official", "paper"])
def test_leaving_fooled_samples_alone_finds_the_same_survivors_with_fewer_passes(
    linear: Any, make_images: Any, kind: type[GradientAttack], protocol: Any
) -> None:
    model = linear(seed=4)
    x, y = make_images(model, n=64)
    attack = kind.for_protocol(protocol, EPS)
    noise = 2 * torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3)) - 1
    outcome = attack.run(model, x, y, noise=noise, track=True)
    assert outcome.always_right is not None
    expected = outcome.always_right & (model(outcome.x_adv).argmax(1) == y)
    plain = sum(map(len, model.iterates))
    model.iterates.clear()
    survivors = attack.survivors(model, x, y, noise=noise, batch_size=7)
    assert survivors is not None
    assert survivors.always_right is not None
    assert torch.equal(survivors.always_right, expected)
    check_images("survivors", EPS, survivors.x_adv, x)
    assert torch.equal(model(survivors.x_adv).argmax(1) == y, expected)  # each sample by the image it was judged by
    assert expected.any()
    assert not expected.all()
    if kind not in (FGSM, TPGD):  # one step; and a second look at x for every part of every step
        assert sum(map(len, model.iterates)) < plain


def test_an_attack_that_couples_its_samples_leaves_none_alone(linear: Any, make_images: Any) -> None:
    model = linear()
    assert DPGD().survivors(model, *make_images(model)) is None


class Threshold(nn.Module):
    """Right (class 0) on an image whose pixel is below 1.005."""

    def forward(self, x: Tensor) -> Tensor:
        excess = 100 * (x.flatten(1)[:, :1] - 1.005)
        return torch.cat([torch.zeros_like(excess), excess], dim=1)


@pytest.mark.parametrize(
    ("attack", "noise"),
    [(CWInf.for_protocol("official", EPS), None), (PGD(start="gaussian", steps=3, step_size=0.0), 10.0)],
)
def test_an_iterate_counts_as_it_would_be_saved(attack: GradientAttack, noise: float | None) -> None:
    """Outside [0, 1] the model is wrong; on the image clamped to [0, 1], the one an attacker could hand in, right."""
    x, y = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    given = None if noise is None else torch.full_like(x, noise)
    outcome = attack.run(Threshold(), x, y, noise=given, track=True)
    assert outcome.always_right is not None
    assert outcome.always_right.all()
    assert (outcome.x_adv <= 1).all()


def test_a_start_beyond_a_small_ball_counts_as_the_image_in_it() -> None:
    """A gaussian start knows no eps: 0.001 * 10 is further than eps, and the model is wrong from 1.005 on."""
    attack = PGD(eps=0.002, start="gaussian", steps=1, step_size=0.0)
    x, y = torch.full((1, 1, 1, 1), 0.998, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    model, given = lambda images: Threshold()(images + 0.004), torch.full_like(x, 10.0)
    for outcome in (attack.run(model, x, y, noise=given, track=True), attack.survivors(model, x, y, noise=given)):
        assert outcome is not None
        assert outcome.always_right is not None
        assert outcome.always_right.all()


def test_without_tracking_nothing_is_told(linear: Any, make_images: Any) -> None:
    model = linear()
    outcome = PGD().run(model, *make_images(model))
    assert (outcome.always_right, outcome.witnesses) == (None, None)
    assert len(model.iterates) == 10


def test_another_objective_replaces_the_attacks_own(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)
    calls = []

    def objective(logits: Tensor, x_adv: Tensor, step: int) -> Tensor:
        calls.append((step, x_adv.requires_grad, tuple(logits.shape)))
        return -x_adv.sum()

    x_adv = PGD(start="none", steps=4)(model, x, y, objective=objective)
    torch.testing.assert_close(x_adv, (x - EPS).clamp(0, 1), rtol=0, atol=1e-15)
    assert calls == [(step, True, (16, 5)) for step in range(4)]


def test_larger_batches_do_not_change_a_samples_result(linear: Any, make_images: Any) -> None:
    for kind in (FGSM, BIM, PGDSAT, PGDTRADES, TPGD, CWInf):
        assert not kind.couples_batch
        model = linear()
        x, y = make_images(model)
        noise = 2 * torch.rand(x.shape, dtype=x.dtype) - 1
        whole = kind()(model, x, y, noise=noise)
        parts = [kind()(model, x[i : i + 3], y[i : i + 3], noise=noise[i : i + 3]) for i in range(0, len(x), 3)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("training", [True, False])
def test_an_attack_leaves_the_model_as_it_is(kind: type[GradientAttack], training: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 4)).double().train(training)
    touched: list[int] = []
    for value in model.parameters():
        value.register_hook(lambda gradient: touched.append(1))
    x, y = torch.rand(6, 3, 2, 2, dtype=torch.float64), torch.arange(6) % 4
    before = x.clone()
    kind().run(model, x, y, track=True)
    assert model.training == training
    assert touched == []
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert torch.equal(x, before)
    assert not x.requires_grad
    # In train mode batch-norm sees every iterate; in eval mode none.
    assert (model.state_dict()["1.num_batches_tracked"] > 0) == training


def test_an_attack_works_where_gradients_are_switched_off(linear: Any, make_images: Any) -> None:
    model = linear()
    x, y = make_images(model)
    expected = PGD(start="none")(model, x, y)
    with torch.no_grad():
        assert torch.equal(PGD(start="none")(model, x, y), expected)
    assert torch.equal(PGD(start="none")(model.requires_grad_(False), x, y), expected)
