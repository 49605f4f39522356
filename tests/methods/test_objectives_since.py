"""The losses of the defenses since 2020, their gradients and statistics, against NumPy; see test_objectives.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.defense import Defense
from methods.akd import AKD
from methods.dgad import DGAD, corrected
from methods.hat import HAT
from methods.iad import IAD
from methods.mart import MART

EPS = 8 / 255
CLASSES = pytest.mark.parametrize("classes", [10, 100])
VARIANTS = pytest.mark.parametrize("name", ["paper", "official"])


def variant(method: type[Defense], name: str, **settings: Any) -> Any:
    return method(**{**method.variants[name], **settings})


def uniform(case: Any, name: str) -> np.ndarray:
    start = case.np_x + EPS * case.np_noise
    return start if name == "official" else np.clip(start, 0, 1)


def each_kl(ref: SimpleNamespace, log_p: np.ndarray, z: np.ndarray) -> np.ndarray:
    """KL(p || p(z)) of each sample."""
    return (np.exp(log_p) * (log_p - ref.log_softmax(z))).sum(1)


@CLASSES
@VARIANTS
def test_mart(make_case: Any, ref: SimpleNamespace, name: str, classes: int) -> None:
    case = make_case(classes)
    loss = case.loss(variant(MART, name))
    s, y, rows = case.np_student, case.np_y, np.arange(len(case.np_y))
    step_size, eps = (0.007, 0.031) if name == "official" else (2 / 255, EPS)
    start = case.np_x + 0.001 * case.np_noise
    x_adv = ref.climb(case.np_x, start, ref.ce_gradient(s, y), step_size=step_size, eps=eps)
    margin, doubt, log = (1e-4, 1e-7, 1e-12) if name == "official" else (0, 0, 0)

    def outer(s: Any) -> float:
        clean, adv = s(case.np_x, train=True), s(x_adv, train=True)
        p, q = ref.softmax(clean), ref.softmax(adv)
        others = q.copy()
        others[rows, y] = -1
        rest = np.log(1 + margin - others.max(1) + log)
        kl = (p * (np.log(p) - np.log(q + log))).sum(1)
        return ref.cross_entropy(adv, y) - rest.mean() + 5 * (kl * (1 + doubt - p[rows, y])).mean()

    case.check(loss, outer(s), outer)


def test_mart_where_the_rival_is_all_but_certain() -> None:
    """1 - p_j in float32 would be 0, and its logarithm minus infinity."""
    label = torch.eye(3)[:1]
    logits = torch.tensor([[0.0, 40.0, 1.0]], requires_grad=True)
    found = MART().log_of_others(logits, label)
    assert found.item() == pytest.approx(np.log(np.exp(0.0) + np.exp(1.0)) - 40, rel=1e-5)
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@CLASSES
def test_hat(make_case: Any, ref: SimpleNamespace, classes: int) -> None:
    case = make_case(classes)
    loss = case.loss(HAT())
    s, y = case.np_student, case.np_y
    start = case.np_x + 0.001 * case.np_noise
    x_adv = ref.climb(case.np_x, start, ref.kl_gradient(s, ref.softmax(s(case.np_x))))
    helper = case.np_clean(x_adv).argmax(1)
    assert 0 < (helper != y).sum() < len(y)

    def outer(s: Any) -> float:
        clean, adv, far = (s(x, train=True) for x in (case.np_x, x_adv, case.np_x + 2 * (x_adv - case.np_x)))
        kl = ref.batch_kl(ref.softmax(clean), adv)
        return ref.cross_entropy(clean, y) + 2.5 * kl + 0.5 * ref.cross_entropy(far, helper)

    case.check(loss, outer(s), outer)


@CLASSES
@VARIANTS
@pytest.mark.parametrize("epoch", [60, 61])
def test_iad(make_case: Any, ref: SimpleNamespace, name: str, epoch: int, classes: int) -> None:
    case = make_case(classes, noise="uniform")
    loss = case.loss(variant(IAD, name, temperature=2.0, alpha=0.75), epoch=epoch, epochs=200)
    s, y, official = case.np_student, case.np_y, name == "official"
    x_adv = ref.climb(case.np_x, uniform(case, name), ref.ce_gradient(s, y, train=official))
    target = ref.log_softmax(case.np_robust(case.np_x), 2.0)
    a = ref.softmax(case.np_robust(x_adv))[np.arange(len(y)), y] ** 0.1 if epoch == 61 else np.ones(len(y))

    def outer(s: Any) -> float:
        adv = s(x_adv, train=True)
        if official:
            s(x_adv, train=True)
        clean = s(case.np_x, train=True)
        if official and epoch == 61:
            s(case.np_x, train=True)
        taught = 4 * (np.exp(target) * (target - ref.log_softmax(adv, 2.0))).sum(1)
        own = (1 - a) * each_kl(ref, ref.log_softmax(clean), adv)
        both = ((1 if official else a) * taught + own).mean()
        return 0.75 * both + 0.25 * ref.cross_entropy(clean, y)

    case.check(loss, outer(s), outer)


@CLASSES
@VARIANTS
@pytest.mark.parametrize("cross_entropies", [False, True])
def test_akd(make_case: Any, ref: SimpleNamespace, name: str, cross_entropies: bool, classes: int) -> None:
    case = make_case(classes, noise="uniform")
    values = {"robust_weight": 0.6, "clean_weight": 0.1, "temperature": 2.0, "cross_entropies": cross_entropies}
    loss = case.loss(variant(AKD, name, **values))
    s, y = case.np_student, case.np_y
    x_adv = ref.climb(case.np_x, uniform(case, name), ref.ce_gradient(s, y, train=name == "official"))
    targets = [(0.6, ref.softmax(case.np_robust(x_adv), 2.0)), (0.1, ref.softmax(case.np_clean(x_adv), 2.0))]

    def outer(s: Any) -> float:
        z = s(x_adv, train=True)
        soft = sum(
            weight * 4 * (ref.batch_kl(p, z, 2.0) + (ref.entropy(p) if cross_entropies else 0)) for weight, p in targets
        )
        return 0.3 * ref.cross_entropy(z, y) + soft

    case.check(loss, outer(s), outer)


@CLASSES
@VARIANTS
@pytest.mark.parametrize("product", [False, True])
def test_dgad(make_case: Any, ref: SimpleNamespace, name: str, product: bool, classes: int) -> None:
    case = make_case(classes)
    loss = case.loss(variant(DGAD, name, product=product, beta=3.0))
    s, r, y = case.np_student, case.np_robust, case.np_y
    start = case.np_x + 0.001 * case.np_noise
    x_adv = ref.climb(case.np_x, start, ref.disagreement_gradient(r, s))

    def swapped(z: np.ndarray) -> np.ndarray:
        z = z.copy()
        for row, label in zip(z, y, strict=True):
            best = row.argmax()
            row[[label, best]] = row[[best, label]]
        return ref.log_softmax(z)

    wrong = r(case.np_x).argmax(1) != y
    clean_target, adv_target = swapped(r(case.np_x)), swapped(r(x_adv))
    n, size = wrong.sum(), 128 if name == "official" else len(y)
    assert 0 < n < len(y)

    def outer(s: Any) -> float:
        clean, adv = s(case.np_x, train=True), s(x_adv, train=True)
        of_clean, of_adv = each_kl(ref, clean_target, clean)[wrong].mean(), each_kl(ref, adv_target, adv)[~wrong].mean()
        pair = ((ref.softmax(adv) - ref.softmax(clean)) ** 2).mean()
        if product:
            return float(0.5 * (n / size * of_clean + (size - n) / size) * of_adv + 3 * pair)
        return float(n / size * of_clean + (size - n) / size * of_adv + 3 * pair)

    case.check(loss, outer(s), outer)


def test_the_label_and_the_largest_logit_change_places() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])
    assert corrected(logits, torch.tensor([2, 0])).tolist() == [[1.0, 2.0, 5.0], [4.0, 0.0, 3.0]]


def test_a_nominal_batch_is_never_less_than_the_batch(make_case: Any) -> None:
    case, other = make_case(), make_case()
    totals = [each.loss(DGAD(nominal_batch=size)).total for each, size in ((case, 4), (other, 0))]
    assert totals[0] == totals[1]
