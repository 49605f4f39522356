"""Defenses with a network of their own: the first step against NumPy, for student and companion; what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.defense import Batch, Companion, Defense, Loss, Models, move_towards
from bench.errors import BenchError
from bench.recipes import hyperparameters
from bench.recipes.schedule import Schedule
from bench.recipes.training import Optimizer
from bench.training.step import TrainingStep
from methods.adr import ADR
from methods.lbgat import LBGAT
from methods.peeraid import PeerAiD
from methods.sat import SAT


def central_difference(network: Any, outer: Callable[[Any], float], loss: Tensor, weights: nn.Module) -> None:
    """The gradient that a backward pass left in a network is that of `outer`, its loss by NumPy."""
    rng = np.random.default_rng(1)
    direction = {name: rng.standard_normal(value.shape) for name, value in network.weights.items()}
    slope = sum(
        float((value.grad.numpy() * direction[name]).sum())
        for name, value in weights.named_parameters()
        if value.grad is not None
    )
    h = 1e-6
    numeric = (outer(network.moved(direction, h)) - outer(network.moved(direction, -h))) / (2 * h)
    assert slope == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def loss_of(case: Any, defense: Defense, epoch: int = 1) -> Loss:
    case.peer.train()
    return case.loss(defense, epoch=epoch)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0, "gamma2": 100.0, "lambda1": 0.035, "lambda2": 35.0, "lambda3": 20.0},
    {"gamma1": 0.5, "gamma2": 2.0, "peer_temperature": 3.0},
]


@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.parametrize(("classes", "settings"), [(10, SETTINGS[0]), (100, SETTINGS[1]), (10, SETTINGS[2])])
def test_peeraid(make_case: Any, ref: SimpleNamespace, name: str, classes: int, settings: dict[str, Any]) -> None:
    case = make_case(classes)
    defense = PeerAiD(**{**PeerAiD.variants[name], **settings})
    loss = loss_of(case, defense)
    s, q, official = case.np_student, case.np_peer, name == "official"
    target = ref.softmax(q(case.np_x))
    x_adv = ref.climb(case.np_x, case.np_x + 0.001 * case.np_noise, ref.kl_gradient(s, target))
    q_adv = q(x_adv, train=True)
    fixed = s(x_adv, train=True)  # what the peer learns from
    t, u, d = defense.temperature, defense.peer_temperature, defense

    def losses(student: Any, peer_logits: np.ndarray, moves: bool) -> float:
        """moves: whether the peer's target is the student's here, or what it was."""
        adv, clean = student(x_adv, train=True), student(case.np_x, train=True)
        seen = adv if moves else fixed
        peer = d.gamma1 * ref.cross_entropy(peer_logits, case.np_y)
        peer += d.gamma2 * u**2 * ref.mean_kl(ref.softmax(seen, u), peer_logits, u)
        own = d.lambda1 * ref.cross_entropy(adv, case.np_y)
        own += d.lambda2 * t**2 * ref.mean_kl(ref.softmax(q_adv, t), adv, t)
        own += d.lambda3 * t**2 * ref.mean_kl(ref.softmax(clean, t), adv, t)
        return peer + own

    # The NumPy student anew, for its statistics: x*, x* once more (official), x.
    case.np_student = type(s)(make_case(classes).student)
    s = case.np_student
    if official:
        s(x_adv, train=True)
    expected = losses(s, q_adv, official)
    case.check(loss, expected, lambda student: losses(student, q_adv, official))

    def of_peer(peer: Any) -> float:
        logits = peer(x_adv, train=True)
        peer_loss = d.gamma1 * ref.cross_entropy(logits, case.np_y)
        return peer_loss + d.gamma2 * u**2 * ref.mean_kl(ref.softmax(fixed, u), logits, u)

    central_difference(q, of_peer, loss.total, case.peer)
    np.testing.assert_allclose(case.peer.norm.running_mean.numpy(), case.np_peer.mean, rtol=1e-12)


@pytest.mark.parametrize(("classes", "beta"), [(10, 6.0), (100, 6.0), (10, 0.0)])
def test_lbgat(make_case: Any, ref: SimpleNamespace, classes: int, beta: float) -> None:
    case = make_case(classes)
    loss = loss_of(case, LBGAT(beta=beta))
    s, g = case.np_student, case.np_peer
    target = ref.softmax(s(case.np_x))
    start = case.np_x + 0.001 * case.np_noise
    x_adv = ref.climb(case.np_x, start, ref.kl_gradient(s, target), step_size=0.007, eps=0.031)
    guide = g(case.np_x, train=True)

    def losses(student: Any, guide: np.ndarray) -> float:
        adv, clean = student(x_adv, train=True), student(case.np_x, train=True)
        kl = ref.batch_kl(ref.softmax(clean), adv)
        return float(((adv - guide) ** 2).mean()) + ref.cross_entropy(guide, case.np_y) + beta * kl

    expected = losses(s, guide)
    fixed = copy.deepcopy(s)
    case.check(loss, expected, lambda student: losses(student, guide))
    central_difference(g, lambda network: losses(fixed, network(case.np_x, train=True)), loss.total, case.peer)
    np.testing.assert_allclose(case.peer.norm.running_var.numpy(), case.np_peer.var, rtol=1e-12)


def rectified(ref: SimpleNamespace, logits: np.ndarray, y: np.ndarray, tau: float, lam: float) -> np.ndarray:
    p = ref.softmax(logits, tau)
    a = np.clip(lam - (p.max(1) - p[np.arange(len(y)), y]), 0, 1)[:, None]
    return a * p + (1 - a) * ref.one_hot(y, p.shape[1])


@pytest.mark.parametrize(
    ("classes", "epoch", "lams"), [(10, 1, (0.7, 0.95)), (100, 150, (0.7, 0.95)), (10, 30, (0, 0.2))]
)
def test_adr(make_case: Any, ref: SimpleNamespace, classes: int, epoch: int, lams: tuple[float, float]) -> None:
    case = make_case(classes, noise="uniform")
    loss = loss_of(case, ADR(interpolations=lams), epoch)
    wave = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / 300))
    tau, lam = 2.0 + 0.5 * wave, lams[1] + (lams[0] - lams[1]) * wave
    q = rectified(ref, case.np_mean(case.np_x), case.np_y, tau, lam)
    if lams[0] == 0:
        assert (q.max(1) == 1).any()  # where the teacher is surely wrong, the label alone counts
    s = case.np_student

    def gradient(x: np.ndarray, iteration: int) -> np.ndarray:
        return s.input_gradient(ref.softmax(s(x, train=True)) - q)

    x_adv = ref.climb(case.np_x, np.clip(case.np_x + 8 / 255 * case.np_noise, 0, 1), gradient)

    def outer(student: Any) -> float:
        return float(-(q * ref.log_softmax(student(x_adv, train=True))).sum(1).mean())

    case.check(loss, outer(s), outer)
    assert s.count == 11


def test_what_adr_anneals_moves_with_every_step(make_case: Any) -> None:
    case, defense = make_case(), ADR()
    defense.begin(case.models, 10)
    ends = (4.0, 2.0)
    seen = [defense.annealed(ends, case.batch(epoch, step, 5)) for epoch in range(1, 11) for step in range(5)]
    assert seen == pytest.approx([2 + (1 + math.cos(math.pi * i / 50)) for i in range(50)], abs=1e-12)


def test_adrs_teacher_is_the_moving_average_of_weights_and_statistics(make_case: Any) -> None:
    case, defense = make_case(), ADR(decay=0.9)
    before, now = (copy.deepcopy(each.state_dict()) for each in (case.mean, case.student))
    defense.after_step(case.batch(), case.models)
    for name, value in case.mean.state_dict().items():
        expected = 0.9 * before[name] + 0.1 * now[name] if value.is_floating_point() else now[name]
        torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "settings", [{"decay": 1.5}, {"temperatures": (1.0,)}, {"temperatures": (0.0, 1.0)}, {"interpolations": ()}]
)
def test_adr_refuses_what_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        ADR(**settings)


def test_moving_the_whole_way_is_becoming_the_other(make_case: Any) -> None:
    case = make_case()
    move_towards(case.mean, case.student, 1.0)
    assert all(torch.equal(value, case.student.state_dict()[name]) for name, value in case.mean.state_dict().items())


def stepping(defense: Defense, models: Models, **options: Any) -> TrainingStep:
    return TrainingStep(defense, models, Optimizer(lr=0.1, **options), Schedule(kind="constant"), 4)


def test_companions_are_asked_for_by_name(make_case: Any) -> None:
    case = make_case()
    for defense, given, words in (
        (PeerAiD(), {}, "PeerAiD has the networks of its own peer, not none"),
        (LBGAT(), {"peer": case.peer}, "LBGAT has the networks of its own guide, not peer"),
        (SAT(), {"peer": case.peer}, "SAT has the networks of its own none, not peer"),
        (ADR(), {"mean-teacher": case.mean}, "ADR has the networks of its own none, not mean-teacher"),
    ):
        with pytest.raises(BenchError, match=words):
            stepping(defense, Models(case.student, {}, given))
    case.peer.first.weight.data[0, 0] = float("nan")
    with pytest.raises(BenchError, match="the peer has NaN"):
        stepping(PeerAiD(), Models(case.student, {}, {"peer": case.peer}))


def test_a_copy_begins_as_the_student_and_is_frozen(make_case: Any) -> None:
    case = make_case()
    teacher = stepping(ADR(), Models(case.student)).models.companions["mean-teacher"]
    assert not teacher.training
    assert not any(value.requires_grad for value in teacher.parameters())
    for name, value in case.student.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])
        assert value.data_ptr() != teacher.state_dict()[name].data_ptr()


def test_gradients_are_clipped_each_network_s_by_itself(make_case: Any) -> None:
    case = make_case()
    step = stepping(PeerAiD(), Models(case.student, {}, {"peer": case.peer}), clip=0.01, momentum=0.0, weight_decay=0.0)
    before = [copy.deepcopy(list(network.parameters())) for network in (case.student, case.peer)]
    batch = case.batch()
    step(batch.x, batch.y, noise=batch.noise)
    for network, weights in zip((case.student, case.peer), before, strict=True):
        moved = torch.cat([(a - b).flatten() for a, b in zip(network.parameters(), weights, strict=True)])
        assert moved.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-4)


class Odd(SAT):
    """A stranger's defense whose companion cannot be kept."""

    label = "Odd"
    called: Any = "best"

    def companions(self) -> dict[str, Companion]:
        return {self.called: Companion()}


@pytest.mark.parametrize("called", ["best", "last-plain", "robust-teacher", "student", "../peer", "Peer", ""])
def test_a_companion_s_name_is_that_of_a_file_of_its_own(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "called", called)
    monkeypatch.setattr(hyperparameters, "method_class", lambda name: Odd)
    with pytest.raises(BenchError, match=f"The method plug-in 'odd' has .* as its companion '{called}'"):
        hyperparameters.make("odd", {})
    monkeypatch.setattr(Odd, "called", "peer-2")
    assert hyperparameters.make("odd", {}).companions() == {"peer-2": Companion("student", True)}


def test_one_step_of_the_optimizer_moves_weights_and_statistics_of_both(make_case: Any) -> None:
    case = make_case()
    step = stepping(LBGAT(), Models(case.student, {}, {"guide": case.peer}))
    assert len(step.optimizer.param_groups) == 2
    before = copy.deepcopy(case.peer.state_dict())
    batch: Batch = case.batch()
    step(batch.x, batch.y, noise=batch.noise)
    assert all(not torch.equal(value, before[name]) for name, value in case.peer.state_dict().items())
    assert {group["lr"] for group in step.optimizer.param_groups} == {0.1}
