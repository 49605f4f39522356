"""AdaAD, AdaIAD, IGDM and SAAD against NumPy (`ref`, in conftest.py); as `test_objectives.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.defense import Batch
from methods.adaad import AdaAD
from methods.adaiad import AdaIAD
from methods.igdm import AdaADWithIGDM, ARDWithIGDM, RSLADWithIGDM, SATWithIGDM, TRADESWithIGDM
from methods.saad import SAAD

from .test_objectives import EPS, gaussian_start, uniform_start, variant

EPOCH, EPOCHS = 90, 150


def against_both(case: Any, ref: SimpleNamespace, **lengths: float) -> np.ndarray:
    """x* of AdaAD: the teacher first, gradient through both networks."""
    gradient = ref.disagreement_gradient(case.np_robust, case.np_student)
    return ref.climb(case.np_x, gaussian_start(case), gradient, **lengths)


@pytest.mark.parametrize(("name", "alpha"), [("paper", 1.0), ("official", 1.0), ("wide", 1.0), ("official", 0.6)])
@pytest.mark.parametrize("classes", [10, 100])
def test_adaad(make_case: Any, ref: SimpleNamespace, classes: int, name: str, alpha: float) -> None:
    case = make_case(classes)
    loss = case.loss(variant(AdaAD, name, alpha=alpha))
    lengths = {"eps": 16 / 255, "step_size": 4 / 255} if name == "wide" else {}
    x_adv = against_both(case, ref, **lengths)
    assert np.abs(x_adv - case.np_x).max() == pytest.approx(lengths.get("eps", EPS))
    target_adv, target_clean = (ref.softmax(case.np_robust(x)) for x in (x_adv, case.np_x))
    kl = ref.batch_kl if name == "paper" else ref.mean_kl

    def outer(s: Any) -> float:
        clean, adv = s(case.np_x, train=True), s(x_adv, train=True)
        return alpha * kl(target_adv, adv) + (1 - alpha) * kl(target_clean, clean)

    case.check(loss, outer(case.np_student), outer)
    assert ("kl_clean" in loss.terms) == (alpha < 1)


def own_kl(ref: SimpleNamespace, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """KL(p(first) || p(second)) of each sample."""
    log_p = ref.log_softmax(first)
    return (np.exp(log_p) * (log_p - ref.log_softmax(second))).sum(1)


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize(("classes", "alpha"), [(10, 1.0), (100, 1.0), (10, 0.6)])
@pytest.mark.parametrize("epoch", [45, 46])
def test_adaiad(make_case: Any, ref: SimpleNamespace, classes: int, alpha: float, name: str, epoch: int) -> None:
    """Of 150 epochs the 46th is what the 61st is of 200."""
    case = make_case(classes)
    loss = case.loss(variant(AdaIAD, name, alpha=alpha), epoch=epoch, epochs=EPOCHS)
    x_adv = against_both(case, ref)
    z, y = case.np_robust(x_adv), case.np_y
    trust = ref.softmax(z)[np.arange(len(y)), y] ** 0.1

    def outer(s: Any) -> float:
        clean, adv = s(case.np_x, train=True), s(x_adv, train=True)
        for _ in range((1 + (epoch > 45)) * (name == "official")):
            s(case.np_x, train=True)
        k = 900 * own_kl(ref, z / 30, adv / 30)
        if epoch > 45:
            k = (trust if name == "paper" else 1) * k + (1 - trust) * own_kl(ref, clean, adv)
        return alpha * float(k.mean()) + (1 - alpha) * ref.cross_entropy(clean, y)

    case.check(loss, outer(case.np_student), outer)


Base = Callable[[SimpleNamespace, np.ndarray, np.ndarray], float]
"""A base's loss from the targets of the robust teacher, and s(x) and s(x*)."""


def igdm(case: Any, ref: SimpleNamespace, defense: Any, x_adv: np.ndarray, order: str, base: Base) -> None:
    """Check a first step of 150 epochs; order: of the passes, on x, on x* (a), on x + d (p) and x - d (m)."""
    loss = case.loss(defense, epoch=EPOCH, epochs=EPOCHS)
    d = x_adv - case.np_x
    images = {"x": case.np_x, "a": x_adv, "p": case.np_x + d, "m": case.np_x - d}
    assert images["m"].min() < 0 or images["m"].max() > 1
    teacher = {name: case.np_robust(x) for name, x in images.items()}
    target = ref.softmax(teacher["p"] - teacher["m"])
    ramp = EPOCH / (defense.ramp_epochs or EPOCHS)
    targets = SimpleNamespace(clean=ref.softmax(teacher["x"]), adv=ref.softmax(teacher["a"]))

    def outer(s: Any) -> float:
        z = {name: s(images[name], train=True) for name in order}
        addition = ref.batch_kl(target, z["a"] - z["m"])
        return base(targets, z.get("x", np.empty(0)), z["a"]) + defense.igdm_weight * ramp * addition

    case.check(loss, outer(case.np_student), outer)


names = pytest.mark.parametrize("name", ["paper", "official"])
classes_ = pytest.mark.parametrize("classes", [10, 100])


@names
@classes_
def test_sat_with_igdm(make_case: Any, ref: SimpleNamespace, classes: int, name: str) -> None:
    case = make_case(classes, noise="uniform")
    x_adv = ref.climb(case.np_x, uniform_start(case), ref.ce_gradient(case.np_student, case.np_y))
    defense = variant(SATWithIGDM, name)
    assert (defense.igdm_weight, defense.ramp_epochs) == (60, 200 if name == "official" else 0)
    igdm(case, ref, defense, x_adv, "am", lambda targets, clean, adv: ref.cross_entropy(adv, case.np_y))


@names
@classes_
def test_trades_with_igdm(make_case: Any, ref: SimpleNamespace, classes: int, name: str) -> None:
    case = make_case(classes)
    s = case.np_student
    x_adv = ref.climb(case.np_x, gaussian_start(case), ref.kl_gradient(s, ref.softmax(s(case.np_x))))

    def base(targets: SimpleNamespace, clean: np.ndarray, adv: np.ndarray) -> float:
        return ref.cross_entropy(clean, case.np_y) + 6 * ref.batch_kl(ref.softmax(clean), adv)

    igdm(case, ref, variant(TRADESWithIGDM, name), x_adv, "xam", base)


@names
@classes_
def test_ard_with_igdm(make_case: Any, ref: SimpleNamespace, classes: int, name: str) -> None:
    """Its base is at T = 1, over the batch; the student is in eval mode in the attack."""
    case = make_case(classes, noise="uniform")
    step_size = 2 / 225 if name == "official" else 2 / 255
    gradient = ref.ce_gradient(case.np_student, case.np_y)
    x_adv = ref.climb(case.np_x, uniform_start(case), gradient, step_size=step_size)
    base = lambda targets, clean, adv: ref.batch_kl(targets.clean, adv)  # noqa: E731
    igdm(case, ref, variant(ARDWithIGDM, name), x_adv, "axm", base)


@names
@classes_
def test_rslad_with_igdm(make_case: Any, ref: SimpleNamespace, classes: int, name: str) -> None:
    case = make_case(classes)
    target = ref.softmax(case.np_robust(case.np_x))
    x_adv = ref.climb(case.np_x, gaussian_start(case), ref.kl_gradient(case.np_student, target))
    offset = 1e-5 if name == "official" else 0.0

    def base(targets: SimpleNamespace, clean: np.ndarray, adv: np.ndarray) -> float:
        a, n = ((target * (np.log(target + offset) - ref.log_softmax(z))).sum(1).mean() / 10 for z in (adv, clean))
        return 5 / 6 * a + 1 / 6 * n

    igdm(case, ref, variant(RSLADWithIGDM, name), x_adv, "apxm", base)


@names
@classes_
def test_adaad_with_igdm(make_case: Any, ref: SimpleNamespace, classes: int, name: str) -> None:
    """Averaged over the batch in both variants."""
    case = make_case(classes)
    base = lambda targets, clean, adv: ref.batch_kl(targets.adv, adv)  # noqa: E731
    igdm(case, ref, variant(AdaADWithIGDM, name), against_both(case, ref), "pxma", base)


@pytest.mark.parametrize("clean_weight", [0.0, 0.7])
@pytest.mark.parametrize("inner_weight", [1.0, 0.4])
@classes_
def test_saad(make_case: Any, ref: SimpleNamespace, classes: int, inner_weight: float, clean_weight: float) -> None:
    case = make_case(classes)
    defense = SAAD(igdm_weight=10, inner_weight=inner_weight, clean_weight=clean_weight)
    loss = case.loss(defense, epoch=EPOCH, epochs=EPOCHS)
    s, r, hot = case.np_student, case.np_robust, ref.one_hot(case.np_y, classes)
    teacher_clean = r(case.np_x)
    g = r.input_gradient(hot)

    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        change = (g * (x - case.np_x)).sum((1, 2, 3))
        log_c, log_s = ref.log_softmax(teacher_clean + inner_weight * change[:, None] * hot), ref.log_softmax(s(x))
        c = np.exp(log_c)
        by_c = c * (log_c - log_s - (c * (log_c - log_s)).sum(1, keepdims=True))
        through_teacher = inner_weight * (by_c * hot).sum(1)[:, None, None, None] * g
        return through_teacher + s.input_gradient(np.exp(log_s) - c)

    x_adv = ref.climb(case.np_x, gaussian_start(case), gradient)
    minus = 2 * case.np_x - x_adv
    teacher_adv, teacher_minus = r(x_adv), r(minus)
    p = ref.softmax(teacher_adv)
    h = -(p * np.log(p + 1e-12)).sum(1)
    w = 5 * (h - h.min())
    u = (w - w.min()) / (w.max() - w.min() + 1e-8)
    assert (u.min(), u.max()) == pytest.approx((0, 1))

    def outer(s: Any) -> float:
        z_adv, z_minus, z_clean = (s(x, train=True) for x in (x_adv, minus, case.np_x))
        matching = 10 * (EPOCH / EPOCHS) * own_kl(ref, teacher_adv - teacher_minus, z_adv - z_minus)
        clean = clean_weight * (1 - u) * own_kl(ref, teacher_clean, z_clean)
        return float((w * (own_kl(ref, teacher_adv, z_adv) + matching) + clean).mean())

    case.check(loss, outer(s), outer)
    assert float(loss.terms["weight"]) == pytest.approx(w.mean())


def test_a_teacher_that_is_as_unsure_of_every_image_gives_saad_weights_of_0(make_case: Any) -> None:
    case = make_case()
    with torch.no_grad():
        case.robust.last.weight.zero_()
    loss = case.loss(SAAD(clean_weight=0.5))
    assert float(loss.terms["weight"]) == 0
    assert loss.total.item() == pytest.approx(0.5 * loss.terms["kl_clean"].item())


def test_the_least_and_the_greatest_have_no_gradient() -> None:
    values = torch.tensor([3.0, -1.0, 2.0], requires_grad=True)
    found = Batch(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64)).extremes(values)
    assert [(float(each), each.requires_grad) for each in found] == [(-1, False), (3, False)]


def test_a_ramp_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="ramp_epochs"):
        SATWithIGDM(ramp_epochs=-1)
    with pytest.raises(ValueError, match="eps must lie"):  # the base's own check
        SATWithIGDM(eps=0)
