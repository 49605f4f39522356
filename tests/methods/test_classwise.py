"""Fair-ARD's class weights and ABSLD's class temperatures against NumPy (`ref`, in conftest.py)."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.defense import Batch
from methods.absld import ABSLD
from methods.fair_ard import FairARD

VARIANTS = ["paper", "official"]


def make(method: type[Any], name: str, **settings: Any) -> Any:
    return method(**{**method.variants[name], **settings})


def labelled(y: torch.Tensor) -> Batch:
    return Batch(torch.rand(len(y), 1, 1, 1), y)


def by_class(values: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    return np.array([values[y == label].sum() for label in range(classes)])


class Kappa:
    """Counts, while it passes on cross-entropy's gradient, in how many iterations each sample is still right."""

    def __init__(self, ref: SimpleNamespace, network: Any, y: np.ndarray, train: bool) -> None:
        self.ref, self.network, self.y, self.train = ref, network, y, train
        self.counts = np.zeros(len(y))

    def __call__(self, x: np.ndarray, iteration: int) -> np.ndarray:
        z = self.network(x, self.train)
        self.counts += z.argmax(1) == self.y
        return self.network.input_gradient(self.ref.softmax(z) - self.ref.one_hot(self.y, z.shape[1]))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("classes", "alpha"), [(10, 1.0), (10, 0.6), (100, 0.6)])
def test_fair_ard(make_case: Any, ref: SimpleNamespace, name: str, classes: int, alpha: float) -> None:
    case = make_case(classes, noise="uniform")
    weights = np.random.default_rng(1).uniform(5 / 6, 5 / 2, classes)
    defense = make(FairARD, name, alpha=alpha)
    defense.begin(case.models, 300)
    defense.class_weights = torch.from_numpy(weights)
    case.student.train()
    loss = defense.loss(case.batch(), case.models)

    s, w = case.np_student, weights[case.np_y]
    kappa = Kappa(ref, s, case.np_y, train=name == "official")
    start = case.np_x + 8 / 255 * case.np_noise
    x_adv = ref.climb(case.np_x, start if name == "official" else np.clip(start, 0, 1), kappa)
    target = ref.softmax(case.np_robust(case.np_x), 30)

    def outer(s: Any) -> float:
        adv, clean = s(x_adv, train=True), s(case.np_x, train=True)
        kl = (target * (np.log(target) - ref.log_softmax(adv, 30))).sum(1) / classes
        ce = -ref.log_softmax(clean)[np.arange(len(w)), case.np_y]
        return float((w * (alpha * 900 * kl + (1 - alpha) * ce)).mean())

    case.check(loss, outer(s), outer)
    assert len(set(kappa.counts)) > 1
    assert float(loss.terms["kappa"]) == pytest.approx(kappa.counts.mean(), rel=1e-12)
    np.testing.assert_array_equal(defense.kappa.sums.numpy(), by_class(kappa.counts, case.np_y, classes))
    np.testing.assert_array_equal(defense.kappa.counts.numpy(), np.bincount(case.np_y, minlength=classes))


def test_fair_ards_weights_after_an_epoch(make_case: Any) -> None:
    """By hand: two batches; of the five classes the last has no sample."""
    defense = FairARD()
    defense.begin(make_case().models, 300)
    defense.kappa.add(torch.tensor([10, 8, 4]), labelled(torch.tensor([0, 0, 1])), 5)
    defense.kappa.add(torch.tensor([6, 2, 4]), labelled(torch.tensor([1, 2, 3])), 5)
    defense.after_epoch(1)
    kappa = np.array([9.0, 5.0, 2.0, 4.0])
    raw = (1 / (kappa + 1e-5)) ** 2
    scaled = raw / raw.sum() * 4
    expected = [5 / 6, 5 / 6, 2.5, 5 / 6, 1]
    assert scaled[0] < scaled[1] < scaled[3] < 5 / 6
    assert scaled[2] > 2.5
    assert defense.class_weights is not None
    np.testing.assert_allclose(defense.class_weights.numpy(), expected, rtol=1e-12)

    defense.kappa.add(torch.tensor([9, 10, 8, 9, 7]), labelled(torch.arange(5)), 5)  # the first epoch is forgotten
    defense.after_epoch(2)
    raw = (1 / (np.array([9.0, 10.0, 8.0, 9.0, 7.0]) + 1e-5)) ** 2
    scaled = raw / raw.sum() * 5
    assert ((scaled > 5 / 6) & (scaled < 5 / 2)).sum() == 4
    assert defense.class_weights is not None
    np.testing.assert_allclose(defense.class_weights.numpy(), np.clip(scaled, 5 / 6, 5 / 2), rtol=1e-12)


def test_a_class_that_is_never_right_weighs_most(make_case: Any) -> None:
    defense = FairARD()
    defense.begin(make_case().models, 300)
    defense.kappa.add(torch.tensor([0, 0, 10, 10]), labelled(torch.tensor([0, 0, 1, 2])), 3)
    defense.after_epoch(1)
    assert defense.class_weights is not None
    np.testing.assert_allclose(defense.class_weights.numpy(), [2.5, 5 / 6, 5 / 6], rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("log_offset", [0.0, 1e-5])
def test_absld(make_case: Any, ref: SimpleNamespace, name: str, classes: int, log_offset: float) -> None:
    case = make_case(classes)
    t_adv, t_nat = np.random.default_rng(1).uniform(0.5, 2, (2, classes))
    defense = make(ABSLD, name, log_offset=log_offset)
    defense.begin(case.models, 300)
    defense.t_adv, defense.t_nat = torch.from_numpy(t_adv), torch.from_numpy(t_nat)
    case.student.train()
    loss = defense.loss(case.batch(), case.models)

    s, z = case.np_student, case.np_robust(case.np_x)
    by_adv, by_nat = t_adv[case.np_y][:, None], t_nat[case.np_y][:, None]
    if name == "official":
        by_adv = by_nat = by_adv * by_nat
    target_adv, target_nat = ref.softmax(z / by_adv), ref.softmax(z / by_nat)
    x_adv = ref.climb(case.np_x, case.np_x + 0.001 * case.np_noise, ref.kl_gradient(s, target_adv))

    def kl(target: np.ndarray, z: np.ndarray) -> float:
        return float((target * (np.log(target + log_offset) - ref.log_softmax(z))).mean())

    def outer(s: Any) -> float:
        adv, clean = s(x_adv, train=True), s(case.np_x, train=True)
        return classes / 10 * (5 / 6 * kl(target_adv, adv) + 1 / 6 * kl(target_nat, clean))

    logits = [copy.deepcopy(s)(images, train=True) for images in (x_adv, case.np_x)]
    case.check(loss, outer(s), outer)
    for sums, z in zip((defense.ce_adv, defense.ce_nat), logits, strict=True):
        ce = -ref.log_softmax(z)[np.arange(len(z)), case.np_y]
        np.testing.assert_allclose(sums.sums.numpy(), by_class(ce, case.np_y, classes), rtol=1e-9)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(1, 0.1), (214, 0.1), (215, 0.01), (259, 0.01), (260, 1e-3), (285, 1e-4), (300, 1e-4)]
)
def test_the_temperatures_of_absld_after_an_epoch(make_case: Any, epoch: int, rate: float) -> None:
    """Sums, not means: a class without a sample counts as one the student is best at. Rates have dropped by then."""
    defense = ABSLD()
    defense.begin(make_case().models, 300)
    before = np.array([1.0, 2.0, 0.5, 4.95])
    defense.t_adv, defense.t_nat = torch.from_numpy(before), torch.from_numpy(before[::-1].copy())
    for sums, scale in ((defense.ce_adv, 1.0), (defense.ce_nat, 3.0)):
        for _ in range(2):
            sums.add(scale * torch.tensor([1.0, 0.5, 2.0]), labelled(torch.tensor([0, 0, 2])), 4)
    defense.after_epoch(epoch)
    total = np.array([3.0, 0.0, 4.0, 0.0])
    gap = total - 1.75
    for temperatures, old in ((defense.t_adv, before), (defense.t_nat, before[::-1])):
        expected = np.clip(old - rate * gap / 2.25, 0.5, 5.0)
        np.testing.assert_allclose(temperatures.numpy(), expected, rtol=1e-12)
    assert defense.t_adv[2] == 0.5
    assert epoch > 214 or defense.t_adv[3] == 5.0
    assert defense.ce_adv.sums is None


def test_classes_that_are_all_alike_move_no_temperature(make_case: Any) -> None:
    defense = ABSLD()
    defense.begin(make_case().models, 300)
    for sums in (defense.ce_adv, defense.ce_nat):
        sums.add(torch.tensor([0.75, 0.75]), labelled(torch.tensor([0, 1])), 2)
    defense.after_epoch(1)
    assert defense.t_adv is not None
    assert defense.t_nat is not None
    assert defense.t_adv.tolist() == defense.t_nat.tolist() == [1, 1]
