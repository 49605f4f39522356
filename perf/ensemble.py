"""APGD, AutoAttack, PGD with restarts and rotations, float32, beside pyautoattack, torchattacks and a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyautoattack
import torch
import torchattacks
from torch import Tensor, nn

from attacks.autoattack import APGD, AutoAttack
from attacks.ensemble import Ensemble
from attacks.geometric import Geometric, transformed
from attacks.pgd import PGD
from bench.attack import Attack
from bench.compute.batches import at_once
from bench.compute.speedups import enabled
from bench.data import load_dataset
from bench.data.dataset import to_float
from bench.evaluation.target import ready, view_of
from bench.models.checkpoints import load_model
from perf.evaluation import pgd_at, telling_eps
from perf.timing import Row, by_turns

if TYPE_CHECKING:
    from perf.__main__ import Options

RESTARTS = 5
BASELINE_BATCH = 128
"""Samples at once in torchattacks' loop; pyautoattack's and ours is AutoAttack's own, 500."""
Side = Callable[[], Tensor]
"""Who is right after the attack, bool, shape (n,)."""


def rows(options: Options) -> Iterator[Row]:
    """One row an attack, on the model and images that are named: none of it tells anything of random weights."""
    if options.model is None or options.dataset is None:
        return
    n = options.batch_size or 64
    network, x, y = subject(options.model, options.dataset, n)
    if options.wants("geometric"):
        yield geometric(network, x, y, options.repeats)
    if not any(map(options.wants, ("restarts", "apgd", "autoattack"))):
        return
    eps = radius_for(network, x, y)
    if options.wants("restarts"):
        yield restarts(network, x, y, eps, options.repeats)
    for name, attack in (("apgd", APGD(eps=eps)), ("autoattack", AutoAttack(eps=eps))):
        if options.wants(name):
            yield ensemble(attack, network, x, y, options.repeats)


def subject(model: Path, spec: str, n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, and images with labels."""
    data = load_dataset(spec, Path("data"))
    network, _ = load_model(model, None, data.num_classes, data.in_channels)
    x, y = to_float(data.test.images[:n]), data.test.labels[:n]
    return network.eval().requires_grad_(False), x, y


def radius_for(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The eps: 8/255 for a robust network, else that at which half survive PGD."""

    def share(eps: float) -> float:
        outcome = pgd_at(eps).survivors(network, x, y, batch_size=at_once(x.shape, x.device))
        assert outcome is not None
        assert outcome.always_right is not None
        return float(outcome.always_right.float().mean())

    return telling_eps(share)


def geometric(network: nn.Module, x: Tensor, y: Tensor, repeats: int) -> Row:
    """Every rotation with every shift on every image, beside those that are still right alone."""
    attack = Geometric()

    def theirs() -> Tensor:
        right = _right(network, x, y)
        for place in attack.grid():
            right &= _right(network, transformed(x, *place), y)
        return right

    def ours() -> Tensor:
        with ready(network):
            view = view_of(network, enabled()) or network
            parts = torch.arange(len(y)).split(at_once(x.shape, x.device))
            return torch.cat([_right(network, attack.run(view, x[part], y[part]).x_adv, y[part]) for part in parts])

    what = f"Geometric, {len(attack.grid())} places"
    return _row(what, f"plain grid, batch {BASELINE_BATCH}", attack, theirs, ours, repeats, target=2.0)


def restarts(network: nn.Module, x: Tensor, y: Tensor, eps: float, repeats: int) -> Row:
    """PGD-100 from five starts: torchattacks' five times to the end, and ours from the very starts that it draws."""
    attack = PGD(steps=100, restarts=RESTARTS).scaled_to(eps)
    assert isinstance(attack, PGD)
    parts = torch.arange(len(y)).split(BASELINE_BATCH)
    noise = torch.stack([torch.cat([_drawn(x[part], restart) for part in parts]) for restart in range(RESTARTS)], 1)

    def theirs() -> Tensor:
        right = torch.ones_like(y, dtype=torch.bool)
        library = torchattacks.PGD(network, eps, attack.step_size, attack.steps, random_start=True)
        for restart in range(RESTARTS):
            for part in parts:
                torch.manual_seed(restart)
                right[part] &= _right(network, library(x[part], y[part]), y[part])
        return right

    def ours(folded: bool = True) -> Tensor:
        right = []
        with ready(network):
            view = view_of(network, enabled()) if folded else None
            for part in torch.arange(len(y)).split(at_once(x.shape, x.device)):
                outcome = attack.run(view or network, x[part], y[part], noise=noise[part])
                right.append(_right(network, outcome.x_adv, y[part]))
        return torch.cat(right)

    what, baseline = f"PGD-100, {RESTARTS} restarts", f"torchattacks, batch {BASELINE_BATCH}"
    return _row(what, baseline, attack, theirs, ours, repeats, target=2.0, plainly=lambda: ours(folded=False))


def _drawn(x: Tensor, seed: int) -> Tensor:
    """What torchattacks draws for a batch after a seed, as U(-1, 1)."""
    torch.manual_seed(seed)
    return torch.empty_like(x).uniform_(-1, 1)


def ensemble(attack: Ensemble, network: nn.Module, x: Tensor, y: Tensor, repeats: int) -> Row:
    """APGD or AutoAttack, as a script calls pyautoattack and as the evaluator calls the attack."""

    def theirs() -> Tensor:
        library = pyautoattack.AutoAttack(network, norm="Linf", eps=attack.eps, seed=attack.seed)
        library.attacks_to_run = list(attack.components)
        x_adv, _ = library.run_standard_evaluation(x, y, batch_size=attack.batch_size)
        return _right(network, x_adv, y)

    def ours() -> Tensor:
        with ready(network):
            view = view_of(network, enabled())
            outcome = attack.run(network if view is None else view.module, x, y)
        return _right(network, outcome.x_adv, y)

    return _row(attack.label, "pyautoattack", attack, theirs, ours, repeats, target=1.3)


def _row(
    what: str,
    baseline: str,
    attack: Attack,
    theirs: Side,
    ours: Side,
    repeats: int,
    target: float,
    plainly: Side | None = None,
) -> Row:
    """Both sides in turns; every sample on which their verdicts differ is counted.

    Where some do, and how we do it on the network itself is known: also on how many they differ then, which rounding in
    the folded copy is no reason for.
    """
    found: dict[str, Tensor] = {}

    def keeping(name: str, side: Side) -> Callable[[], object]:
        return lambda: found.update({name: side()})

    times = by_turns(keeping("theirs", theirs), keeping("ours", ours), repeats)
    differ, right = int((found["theirs"] != found["ours"]).sum()), found["ours"]
    radius = f", eps {attack.eps * 255:.3g}/255" if attack.in_ball else ""
    text = f"{what}{radius}, {len(right)} images, {right.float().mean():.0%} survive"
    text += f", verdicts differ on {differ}"
    if differ and plainly is not None:
        text += f", without folding on {int((found['theirs'] != plainly()).sum())}"
    return Row(text, baseline, "harness", *times, target=target)


def _right(network: nn.Module, images: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(BASELINE_BATCH)]).argmax(1) == y
