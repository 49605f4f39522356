"""Each defense's loss, its gradient and what it does to batch-norm, against NumPy (`ref`, in conftest.py).

Every expectation below is written from the definition: the start, the attack, the forward passes in their order, the
loss. `case.check` compares value, gradient and running statistics.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.attack import Start
from methods.ard import ARD
from methods.b_mtard import BMTARD
from methods.dard import DARD
from methods.losses import mean_entropy
from methods.mtard import MTARD
from methods.natural import Natural
from methods.rslad import RSLAD
from methods.sat import SAT
from methods.score import SCORE
from methods.trades import TRADES

EPS = 8 / 255


def uniform_start(case: Any, eps: float = EPS) -> np.ndarray:
    return np.clip(case.np_x + eps * case.np_noise, 0, 1)


def gaussian_start(case: Any) -> np.ndarray:
    return case.np_x + 0.001 * case.np_noise


def variant(method: type[Any], name: str, **settings: Any) -> Any:
    return method(**{**method.variants[name], **settings})


def test_natural(make_case: Any, ref: SimpleNamespace) -> None:
    case = make_case()
    loss = case.loss(Natural())
    expected = ref.cross_entropy(case.np_student(case.np_x, train=True), case.np_y)
    case.check(loss, expected, lambda s: ref.cross_entropy(s(case.np_x, train=True), case.np_y))


@pytest.mark.parametrize("name", ["paper", "official"])
def test_sat(make_case: Any, ref: SimpleNamespace, name: str) -> None:
    case = make_case(noise="uniform")
    loss = case.loss(variant(SAT, name))
    s, official = case.np_student, name == "official"
    x_adv = ref.climb(case.np_x, uniform_start(case), ref.ce_gradient(s, case.np_y, train=official))
    expected = ref.cross_entropy(s(x_adv, train=True), case.np_y)
    case.check(loss, expected, lambda s: ref.cross_entropy(s(x_adv, train=True), case.np_y))
    assert s.count == (11 if official else 1)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_trades(make_case: Any, ref: SimpleNamespace, name: str) -> None:
    case = make_case()
    loss = case.loss(variant(TRADES, name))

    step_size, eps = (0.007, 0.031) if name == "official" else (2 / 255, EPS)
    s = case.np_student
    target = ref.softmax(s(case.np_x))
    x_adv = ref.climb(case.np_x, gaussian_start(case), ref.kl_gradient(s, target), step_size=step_size, eps=eps)

    def outer(s: Any) -> float:
        clean = s(case.np_x, train=True)
        adv = s(x_adv, train=True)
        if name == "official":
            s(case.np_x, train=True)  # once more for the second term: the same values, further statistics
        return ref.cross_entropy(clean, case.np_y) + 6 * ref.batch_kl(ref.softmax(clean), adv)

    case.check(loss, outer(s), outer)


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize(("classes", "clip"), [(10, 0.3), (100, 0.3), (10, 0.9), (100, 0.9)])
def test_score(make_case: Any, ref: SimpleNamespace, name: str, classes: int, clip: float) -> None:
    case = make_case(classes)
    loss = case.loss(variant(SCORE, name, clip=clip))
    s = case.np_student
    target, hot = ref.softmax(s(case.np_x)), ref.one_hot(case.np_y, classes)

    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        p = ref.softmax(s(x))
        by_p = 2 * (p - target)
        return s.input_gradient(p * (by_p - (p * by_p).sum(1, keepdims=True)))

    start = gaussian_start(case)
    x_adv = ref.climb(case.np_x, np.clip(start, 0, 1) if name == "official" else start, gradient)
    bound = clip**2 + (classes - 1) * (clip / (classes - 1)) ** 2

    def each(s: Any) -> np.ndarray:
        adv, clean = ref.softmax(s(x_adv, train=True)), ref.softmax(s(case.np_x, train=True))
        return ((clean - hot) ** 2).sum(1) + 6 * ((adv - clean) ** 2).sum(1) - bound

    def outer(s: Any) -> float:
        return float(np.maximum(each(s), 0).mean())

    below = int((each(copy.deepcopy(s)) < 0).sum())
    assert 0 < below < len(hot) or clip == 0.3
    case.check(loss, outer(s), outer)


@pytest.mark.parametrize("start", ["uniform", "uniform-unclamped", "gaussian", "gaussian-clamped"])
def test_where_the_inner_attack_starts(make_case: Any, ref: SimpleNamespace, start: Start) -> None:
    """One step alone: more of them hide whether the start was clamped to [0, 1]."""
    kind = start.removesuffix("-unclamped").removesuffix("-clamped")
    case = make_case(noise=kind)
    loss = case.loss(SAT(start=start, steps=1))
    as_it_is = case.np_x + (EPS if kind == "uniform" else 0.001) * case.np_noise
    starts = {"unclamped": as_it_is, "clamped": np.clip(as_it_is, 0, 1)}
    gradient = ref.ce_gradient(case.np_student, case.np_y)
    ends = {name: ref.climb(case.np_x, first, gradient, steps=1) for name, first in starts.items()}
    assert np.abs(ends["unclamped"] - ends["clamped"]).max() > 1e-4
    x_adv = ends["clamped" if start in ("uniform", "gaussian-clamped") else "unclamped"]
    expected = ref.cross_entropy(case.np_student(x_adv, train=True), case.np_y)
    case.check(loss, expected, lambda s: ref.cross_entropy(s(x_adv, train=True), case.np_y))


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize(("classes", "alpha"), [(10, 1.0), (100, 1.0), (10, 0.6)])
def test_ard(make_case: Any, ref: SimpleNamespace, name: str, classes: int, alpha: float) -> None:
    case = make_case(classes, noise="uniform")
    loss = case.loss(variant(ARD, name, alpha=alpha))

    s, official = case.np_student, name == "official"
    start = case.np_x + EPS * case.np_noise if official else uniform_start(case)
    x_adv = ref.climb(case.np_x, start, ref.ce_gradient(s, case.np_y, train=official))
    target = ref.softmax(case.np_robust(case.np_x), 30)

    def outer(s: Any) -> float:
        adv, clean = s(x_adv, train=True), s(case.np_x, train=True)
        return alpha * 900 * ref.mean_kl(target, adv, 30) + (1 - alpha) * ref.cross_entropy(clean, case.np_y)

    case.check(loss, outer(s), outer)
    assert s.count == (12 if official else 2)


@pytest.mark.parametrize("log_offset", [0.0, 1e-5])
@pytest.mark.parametrize(("classes", "scale"), [(10, 1), (100, 10), (200, 20)])
def test_rslad(make_case: Any, ref: SimpleNamespace, classes: int, scale: float, log_offset: float) -> None:
    case = make_case(classes)
    loss = case.loss(RSLAD(log_offset=log_offset))
    target = ref.softmax(case.np_robust(case.np_x))
    x_adv = ref.climb(case.np_x, gaussian_start(case), ref.kl_gradient(case.np_student, target))

    def outer(s: Any) -> float:
        adv, clean = s(x_adv, train=True), s(case.np_x, train=True)
        kl = 5 / 6 * ref.mean_kl(target, adv) + 1 / 6 * ref.mean_kl(target, clean)
        return scale * (kl + (target * np.log(1 + log_offset / target)).mean())

    case.check(loss, outer(case.np_student), outer)


@pytest.mark.parametrize(("classes", "log_offset"), [(10, 0.0), (100, 0.0), (10, 1e-5)])
@pytest.mark.parametrize(("method", "t_adv", "t_nat"), [(MTARD, 1.0, 1.0), (BMTARD, 2.5, 1.75)])
def test_mtard_and_b_mtard(
    make_case: Any, ref: SimpleNamespace, method: type, t_adv: float, t_nat: float, classes: int, log_offset: float
) -> None:
    case, scale = make_case(classes), classes / 10
    defense = method(log_offset=log_offset)
    defense.begin(case.models, 300)
    defense.weights.first_adv = case.batch().x.new_tensor(scale * 0.7)
    defense.weights.first_nat = case.batch().x.new_tensor(scale * 0.2)
    defense.weights.nat = case.batch().x.new_tensor(0.3)
    if method is BMTARD:
        defense.temperatures.adv += t_adv - 1
        defense.temperatures.nat += t_nat - 1
    case.student.train()
    loss = defense.loss(case.batch(), case.models)

    s = case.np_student
    x_adv = ref.climb(case.np_x, gaussian_start(case), ref.ce_gradient(s, case.np_y))
    target_adv = ref.softmax(case.np_robust(x_adv), t_adv)
    target_nat = ref.softmax(case.np_clean(case.np_x), t_nat)

    def kl(target: np.ndarray, z: np.ndarray) -> float:
        return float((target * (np.log(target + log_offset) - ref.log_softmax(z))).mean())

    def terms(s: Any) -> tuple[float, float]:
        adv, clean = s(x_adv, train=True), s(case.np_x, train=True)
        return scale * kl(target_adv, adv), scale * kl(target_nat, clean)

    adv, nat = terms(s)
    a, n = adv / (scale * 0.7), nat / (scale * 0.2)
    w_nat = 0.3 - 0.025 * (0.3 - n / (a + n))

    def outer(s: Any) -> float:  # the weights are constants to the gradient
        adv, nat = terms(s)
        return (1 - w_nat) * adv + w_nat * nat

    case.check(loss, (1 - w_nat) * adv + w_nat * nat, outer)
    assert defense.weights.nat.item() == pytest.approx(w_nat, rel=1e-12)
    assert {name: loss.terms[name].item() for name in ("kl_adv", "kl_nat", "w_adv", "w_nat")} == pytest.approx(
        {"kl_adv": adv, "kl_nat": nat, "w_adv": 1 - w_nat, "w_nat": w_nat}, rel=1e-9
    )
    if method is BMTARD:
        up = np.sign(ref.entropy(target_adv) / ref.entropy(target_nat) - 1)
        assert float(loss.terms["t_adv"]) == t_adv  # what this step used
        assert defense.temperatures.adv.item() == pytest.approx(t_adv - 0.001 * up, abs=1e-12)
        assert defense.temperatures.nat.item() == pytest.approx(t_nat + 0.001 * up, abs=1e-12)


def test_the_first_step_of_mtard_sets_the_scale_of_both_losses(make_case: Any) -> None:
    case = make_case()
    defense = MTARD()
    loss = case.loss(defense)
    assert float(loss.terms["w_nat"]) == 0.5
    assert defense.weights.first_adv == loss.terms["kl_adv"]
    assert defense.weights.first_nat == loss.terms["kl_nat"]


@pytest.mark.parametrize("attack", ["dpgd", "pgd"])
@pytest.mark.parametrize("temperature", [3.0, 1.0])
def test_dard_of_the_paper(make_case: Any, ref: SimpleNamespace, temperature: float, attack: str) -> None:
    case = make_case()
    loss = case.loss(variant(DARD, "paper", temperature=temperature, attack=attack))
    s = case.np_student
    gradient = (ref.dice_gradient if attack == "dpgd" else ref.ce_gradient)(s, case.np_y)
    x_adv = ref.climb(case.np_x, case.np_x, gradient)
    target = 0.5 * ref.softmax(case.np_robust(case.np_x)) + 0.5 * ref.softmax(case.np_robust(x_adv))

    def outer(s: Any) -> float:
        adv = s(x_adv, train=True)
        return 0.3 * ref.cross_entropy(adv, case.np_y) + 0.7 * temperature**2 * ref.batch_kl(target, adv, temperature)

    case.check(loss, outer(s), outer)


def test_dard_of_the_released_code(make_case: Any, ref: SimpleNamespace) -> None:
    case = make_case()
    loss = case.loss(variant(DARD, "released"))
    s = case.np_student
    x_adv = ref.climb(case.np_x, case.np_x, ref.dice_gradient(s, case.np_y, train=True))
    x_adv_teacher = ref.climb(case.np_x, case.np_x, ref.dice_gradient(case.np_robust, case.np_y))
    target_clean = ref.softmax(ref.softmax(case.np_robust(case.np_x)), 3)
    target_adv = ref.softmax(ref.softmax(case.np_robust(x_adv_teacher)), 3)

    def branch(z: np.ndarray, target: np.ndarray) -> float:
        return 0.3 * ref.cross_entropy(z, case.np_y) + 0.7 * 9 * ref.batch_kl(target, z, 3)

    def outer(s: Any) -> float:
        clean, adv = s(case.np_x, train=True), s(x_adv, train=True)
        return (branch(clean, target_clean) + branch(adv, target_adv)) / 2

    case.check(loss, outer(s), outer)
    assert s.count == 12


def test_a_prediction_that_underflows_gives_trades_a_finite_gradient(make_case: Any) -> None:
    case = make_case()
    case.student.float().last.weight.data.mul_(1000)
    case.np_x, case.np_noise = case.np_x.astype(np.float32), case.np_noise.astype(np.float32)
    loss = case.loss(TRADES())
    loss.total.backward()
    assert all(value.grad.isfinite().all() for value in case.student.parameters())


@pytest.mark.parametrize("log_offset", [0.0, 1e-5, 0.1])
def test_entropy_with_and_without_the_offset_inside_its_logarithm(log_offset: float) -> None:
    p = np.random.default_rng(0).dirichlet(np.full(6, 0.3), 5)
    expected = -(p * np.log(p + log_offset)).sum() / 5
    assert mean_entropy(torch.from_numpy(p), log_offset).item() == pytest.approx(expected, rel=1e-12)
    assert mean_entropy(torch.eye(3), log_offset).item() == pytest.approx(-np.log(1 + log_offset), abs=1e-6)
