"""The evaluator's attacks, float32, beside torchattacks' and a plain loop: same images, same start, same outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from attacks.cw_inf import CWInf
from attacks.fgsm import FGSM
from attacks.loop import GradientAttack
from attacks.pgd import PGD
from bench.compute.batches import at_once
from bench.compute.speedups import enabled
from bench.data import load_dataset
from bench.data.dataset import to_float
from bench.evaluation.target import ready, view_of
from bench.models import build_model
from bench.models.checkpoints import load_model
from bench.vocabulary import LINF_EPS
from perf.timing import Row, by_turns

if TYPE_CHECKING:
    from perf.__main__ import Options

N = 128
BASELINE_BATCH = 128
"""Samples at once in the baselines: what the released evaluation scripts use."""
Side = Callable[[nn.Module, GradientAttack, Tensor, Tensor], Tensor]
"""(network, attack, images, labels) -> who is right after the attack, bool, shape (n,)."""


def rows(options: Options) -> Iterator[Row]:
    """One row an attack on random weights; the worst case on the model and images that are named, if any."""
    torch.manual_seed(0)
    network = build_model("resnet18", 10, 3).eval()
    x = torch.rand(N, 3, 32, 32)
    with torch.no_grad():
        y = network(x).argmax(1)
    cw_inf = CWInf.for_protocol("official", LINF_EPS)
    assert isinstance(cw_inf, CWInf)
    compared: dict[str, tuple[str, Side, GradientAttack]] = {
        "fgsm": ("torchattacks", library(lambda net, a: torchattacks.FGSM(net, a.eps)), FGSM()),
        "pgd": ("torchattacks", library(pgd), PGD(steps=20, start="none")),
        "cw-inf": ("plain loop", plain_cw, cw_inf),
    }
    for shown, side, attack in (those for name, those in compared.items() if options.wants(name)):
        yield compare(shown, side, attack, network, x, y, options)
    if options.model is not None and options.dataset is not None and options.wants("worst-case"):
        yield worst_case(options, options.model, options.dataset)


def compare(
    shown: str, side: Side, attack: GradientAttack, network: nn.Module, x: Tensor, y: Tensor, options: Options
) -> Row:
    """One attack, theirs and ours."""
    same = (side(network, attack, x, y) == ours(network, attack, x, y)).float().mean()
    times = by_turns(lambda: side(network, attack, x, y), lambda: ours(network, attack, x, y), options.repeats)
    what = f"{attack.label}, {attack.steps} steps, resnet18, {len(x)} images, outcomes equal on {same:.1%}"
    return Row(
        what, f"{shown}, batch {BASELINE_BATCH}", f"evaluator, batch {at_once(x.shape, x.device)}", *times, target=1.2
    )


def worst_case(options: Options, model: Path, dataset: str) -> Row:
    """PGD-20 in the worst case beside torchattacks' pass to the end, on a robust model or one that is made to look so.

    How much is saved is a matter of how many images survive and how soon the others are lost. A network that keeps a
    fifth of its images at 8/255 is attacked with that; for an undefended one the eps is searched at which half survive.
    """
    data = load_dataset(dataset, Path("data"))
    network, _ = load_model(model, None, data.num_classes, data.in_channels)
    x, y = to_float(data.test.images[:N]), data.test.labels[:N]
    with ready(network):
        view = view_of(network, enabled()) or network

        def survivors(attack: GradientAttack) -> Tensor:
            outcome = attack.survivors(view, x, y, batch_size=at_once(x.shape, x.device))
            assert outcome is not None
            assert outcome.always_right is not None
            return outcome.always_right

        attack = pgd_at(telling_eps(lambda eps: float(survivors(pgd_at(eps)).float().mean())))
        share = float(survivors(attack).float().mean())
        side = library(pgd)
        times = by_turns(lambda: side(network, attack, x, y), lambda: survivors(attack), options.repeats)
    clean = float((network(x).argmax(1) == y).float().mean())
    what = (
        f"PGD, 20 steps, --worst-case, {model.stem}, eps {attack.eps * 255:.3g}/255, {len(x)} images, "
        f"{clean:.0%} right without attack, {share:.0%} survive"
    )
    return Row(what, f"torchattacks to the end, batch {BASELINE_BATCH}", "evaluator, --worst-case", *times, target=2.5)


def telling_eps(survive: Callable[[float], float]) -> float:
    """8/255 where a fifth of the images survive that; else the eps at which about half do."""
    eps, few, many = LINF_EPS, LINF_EPS, 0.0
    share = survive(eps)
    if share >= 0.2:
        return eps
    while abs(share - 0.5) > 0.03 and few - many > LINF_EPS / 1000:
        eps = (few + many) / 2
        share = survive(eps)
        few, many = (eps, many) if share < 0.5 else (few, eps)
    return eps


def pgd_at(eps: float) -> GradientAttack:
    """PGD-20 from the image itself, its step in proportion to eps."""
    attack = PGD(steps=20, start="none").scaled_to(eps)
    assert isinstance(attack, GradientAttack)
    return attack


def ours(network: nn.Module, attack: GradientAttack, x: Tensor, y: Tensor) -> Tensor:
    """As the evaluator does it: a folded copy, small batches; who is right at the end, bool, shape (n,)."""
    right = []
    with ready(network):
        view = view_of(network, enabled()) or network
        size = at_once(x.shape, x.device)
        for images, labels in zip(x.split(size), y.split(size), strict=True):
            outcome = attack.run(view, images, labels, track=True)
            with torch.no_grad():
                right.append(network(outcome.x_adv).argmax(1) == labels)
    return torch.cat(right)


def library(make: Callable[[nn.Module, GradientAttack], Any]) -> Side:
    """An attack of torchattacks' with the parameters of ours, and the prediction after it."""

    def run(network: nn.Module, attack: GradientAttack, x: Tensor, y: Tensor) -> Tensor:
        theirs, right = make(network, attack), []
        for images, labels in zip(x.split(BASELINE_BATCH), y.split(BASELINE_BATCH), strict=True):
            x_adv = theirs(images, labels)
            with torch.no_grad():
                right.append(network(x_adv).argmax(1) == labels)
        return torch.cat(right)

    return run


def pgd(network: nn.Module, attack: GradientAttack) -> Any:
    """torchattacks' PGD from the image itself, so that both sides start alike."""
    return torchattacks.PGD(network, attack.eps, attack.step_size, attack.steps, random_start=False)


def plain_cw(network: nn.Module, attack: GradientAttack, x: Tensor, y: Tensor) -> Tensor:
    """The margin attack as an evaluation script writes it: whole batches, one-hot products, the image clamped last."""
    right, confidence = [], attack.parameters()["confidence"]
    for images, labels in zip(x.split(BASELINE_BATCH), y.split(BASELINE_BATCH), strict=True):
        delta, onehot = torch.zeros_like(images), F.one_hot(labels, 10).float()
        for _ in range(attack.steps):
            delta.requires_grad_()
            logits = network(images + delta)
            own = (onehot * logits).sum(1)
            other = ((1 - onehot) * logits - 1e4 * onehot).max(1)[0]
            loss = -torch.clamp(own - other + confidence, min=0).mean()
            gradient = torch.autograd.grad(loss, [delta])[0]
            delta = (delta.detach() + attack.step_size * gradient.sign()).clamp(-attack.eps, attack.eps)
        with torch.no_grad():
            right.append(network((images + delta).clamp(0, 1)).argmax(1) == labels)
    return torch.cat(right)
