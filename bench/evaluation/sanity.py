"""Checks that an evaluation can fail when its attacks, not the defense, are what is weak.

After Carlini et al. 2019 (arXiv:1902.06705) and Athalye et al. 2018 (arXiv:1802.00420): an attack that is stronger by
construction must not leave more samples standing. `measure` attacks a few images for the checks that need images of
their own; `flags` draws the conclusions, from those and from a record's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.attack import Attack, input_gradient
from bench.evaluation.suites import ENSEMBLE
from bench.records.record import AttackResult, unpack
from bench.registry import attack_class
from bench.stats import mcnemar_exact

PROBE = "pgd-sat"
"""The attack that `measure` varies: the white-box reference of every evaluation."""
PROBED = 64
"""How many images `measure` looks at, from the first."""

_REFERENCES = ("pgd-sat", "pgd-20", "pgd-trades", "bim")
"""White-box attacks that no weaker one may beat; the first that a record has is taken."""
_LADDER = (0.5, 2.0, 4.0)
"""Radii besides the dataset's, in multiples of it, over which accuracy must fall; the last rung is a radius of 1."""
_LEVEL = 0.01
_VANISHED = 0.05
_SIBLINGS = 0.1
"""Share of the samples by which two lengths of step may differ."""
_SQUARE_SHARE = 0.002
"""What AutoAttack's authors let Square break after the white-box attacks before they doubt the evaluation."""
_SUM = 1e-4
"""By how much probabilities may miss a sum of one."""
_FEWEST = 8
"""As many samples as are significant at 1 % if none speaks for the other side."""


def reference(network: nn.Module, x: Tensor, y: Tensor, attack: Attack, noise: Tensor | None) -> dict[str, Tensor]:
    """`reference` and `probabilities`, as `measure` gives them; arguments as there."""
    reference = _right(network, attack(network, x, y, noise=noise), y)
    return {"reference": reference, "probabilities": _are_probabilities(_logits(network, x))}


def measure(network: nn.Module, x: Tensor, y: Tensor, attack: Attack, noise: Tensor | None) -> dict[str, Tensor]:
    """Outcomes of the reference attack and its variations, each bool, shape (B,): whether the model is right.

    `reference`: the attack itself; `longer`: with twice the steps; `noise`: random corners of the ball; `square`:
    Square, which needs no gradient; `eps=...`: the attack at each rung of the ladder; `clean` and `again`: no attack,
    twice; `vanished`: whether the gradient at the image is zero or no number; and `probabilities`: whether the outputs
    without an attack are not negative and sum to one. Fewer than 8 images are spared what
    only a significant difference makes a flag: `longer`, `noise`, `square` and the lower rungs.

    Args:
        network: in eval mode.
        x, y: images in [0, 1], shape (B, C, H, W), and labels, shape (B,).
        attack, noise: PGD as the protocol has it, and its start noise for these images.
    """

    def under(changed: Attack) -> Tensor:
        return _right(network, changed(network, x, y, noise=noise), y)

    signs = torch.ones_like(x) if noise is None else noise.sign()
    images = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        gradient = input_gradient(F.cross_entropy(network(images), y, reduction="sum"), images)
    found = reference(network, x, y, attack, noise)
    found |= {
        "clean": _right(network, x, y),
        "again": _right(network, x, y),
        "vanished": ((gradient == 0) | ~gradient.isfinite()).flatten(1).all(1),
        f"eps={attack.eps!r}": found["reference"],
    }
    radii = [1.0]
    if len(x) >= _FEWEST:  # of fewer no attack can break significantly more than another
        square = attack_class("square").for_protocol("official", attack.eps)
        found |= {
            "square": _right(network, square(network, x, y), y),
            "noise": _right(network, (x + attack.eps * signs).clamp(0, 1), y),
            "longer": under(replace(attack, steps=2 * attack.parameters()["steps"])),  # type: ignore[call-arg]
        }
        radii = [*(factor * attack.eps for factor in _LADDER if factor * attack.eps < 1), 1.0]
    return found | {f"eps={eps!r}": under(attack.scaled_to(eps)) for eps in radii}


def _right(network: nn.Module, images: Tensor, y: Tensor) -> Tensor:
    return _logits(network, images).argmax(1) == y


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = network(images)
    return logits


def _are_probabilities(outputs: Tensor) -> Tensor:
    return (outputs >= 0).all(1) & ((outputs.sum(1) - 1).abs() < _SUM)


def flags(results: Mapping[str, AttackResult], n: int, probes: Mapping[str, np.ndarray]) -> list[str]:
    """The failed checks, in words; one attack beats another where it breaks significantly more (McNemar, 1 %).

    They are drawn from the results of a record of n samples, and from what `measure` or `reference` gave.
    """
    outcomes = {name: unpack(result.final, n) for name, result in results.items()}
    failed = [*_unfit(results, probes), *_ranked(outcomes, probes.get("reference")), *_siblings(outcomes)]
    if ENSEMBLE in results:
        failed += _ensemble(results[ENSEMBLE].components, n)
    if "vanished" in probes:
        failed += _variations(probes, _label(PROBE))
    return failed


def _unfit(results: Mapping[str, AttackResult], probes: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A model that knows nothing before it is attacked, or gives no logits."""
    clean = results.get("clean")
    if clean is not None and clean.interval[0] <= 1 / len(clean.class_accuracy):
        chance = 1 / len(clean.class_accuracy)
        yield f"clean accuracy is {clean.accuracy:.1%}, not surely better than chance ({chance:.1%})"
    if "probabilities" in probes and probes["probabilities"].all():
        yield "the outputs are probabilities, not logits: the attacks' losses are blunt on them"


def other_radii(results: Mapping[str, AttackResult], eps: float) -> Iterator[str]:
    """Attacks that were not run at the dataset's eps, as they do not declare that theirs scales; in words."""
    for name, result in results.items():
        own = result.parameters.get("eps", eps)
        if own != eps:
            yield f"{name} was run at its own eps = {own:.4g}, not at the dataset's {eps:.4g}"


def _ranked(outcomes: Mapping[str, np.ndarray], probed: np.ndarray | None) -> Iterator[str]:
    """Attacks that are weaker by construction and yet break more than a white-box attack.

    The stronger one is the same attack on the model itself for a transferred one, else the record's reference; without
    either, the probe's, on the samples that it saw.
    """
    reference = next((name for name in _REFERENCES if name in outcomes), None)
    for name, right in outcomes.items():
        own = name.removeprefix("transfer:")
        stronger = own if own != name and own in outcomes else reference
        strong = probed if stronger is None else outcomes[stronger]
        if strong is None:
            continue
        seen, said = right[: len(strong)], _label(stronger or PROBE)
        if name == ENSEMBLE:
            yield from _compared(seen, strong, f"{said} breaks more than AutoAttack")
        elif own != name:
            yield from _compared(
                strong, seen, f"a transferred {_label(own)} breaks more than {said} on the model itself"
            )
        elif name in ("fgsm", "square"):
            yield from _compared(strong, seen, f"{_label(name)} breaks more than {said}: gradients may be masked")


def _siblings(outcomes: Mapping[str, np.ndarray]) -> Iterator[str]:
    """PGD-SAT and PGD-TRADES differ in the length of a step alone; where that matters much, gradients tell little."""
    if not {"pgd-sat", "pgd-trades"} <= outcomes.keys():
        return
    one, other = outcomes["pgd-sat"], outcomes["pgd-trades"]
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    far = abs(only_one - only_other) > _SIBLINGS * len(one)
    if far and mcnemar_exact(only_one, only_other) < _LEVEL:
        yield f"PGD-SAT leaves {one.mean():.1%} standing and PGD-TRADES {other.mean():.1%}: the step's length decides"


def _label(name: str) -> str:
    return attack_class(name).label


def _ensemble(components: Mapping[str, float], n: int) -> Iterator[str]:
    """Square, which needs no gradient, must not find what AutoAttack's white-box attacks missed."""
    before = [share for name, share in components.items() if name not in ("clean", "square")]
    if not before or "square" not in components:
        return
    found = round((before[-1] - components["square"]) * n)
    if found >= _FEWEST and found > _SQUARE_SHARE * n:
        yield f"AutoAttack's Square breaks {found} of {n} samples that its white-box attacks left standing"


def _variations(probes: Mapping[str, np.ndarray], label: str) -> Iterator[str]:
    """More steps must not help the model, noise must hurt it less, a larger ball more, and gradients must be there."""
    reference = probes["reference"]
    if "longer" in probes:
        yield from _compared(probes["longer"], reference, f"{label} breaks less with twice the steps")
        yield from _compared(reference, probes["square"], f"Square breaks more than {label}: gradients may be masked")
    changed = int((probes["clean"] ^ probes["again"]).sum())
    if changed:
        yield f"predictions change from one pass to the next on {changed} of {len(reference)} samples: a random model"
    if "noise" in probes:
        yield from _compared(reference, probes["noise"], f"random noise breaks more than {label}")
    rungs = sorted((float(name.removeprefix("eps=")), name) for name in probes if name.startswith("eps="))
    for (small, smaller), (large, larger) in pairwise(rungs):
        message = f"{label} breaks less with eps = {large:.3g} than with {small:.3g}"
        yield from _compared(probes[larger], probes[smaller], message)
    standing, n = int(probes[rungs[-1][1]].sum()), len(reference)
    if standing:
        yield f"{label} with eps = 1 leaves {standing} of {n} samples standing"
    vanished = int(probes["vanished"].sum())
    if vanished > _VANISHED * n:
        yield f"the gradient vanishes on {vanished} of {n} samples"


def _compared(under_strong: np.ndarray, under_weak: np.ndarray, message: str) -> Iterator[str]:
    """The message, if the weaker attack breaks significantly more; outcomes are right or not, shape (n,), bool."""
    only_weak_breaks = int((under_strong & ~under_weak).sum())
    only_strong_breaks = int((under_weak & ~under_strong).sum())
    if only_weak_breaks > only_strong_breaks and mcnemar_exact(only_weak_breaks, only_strong_breaks) < _LEVEL:
        yield f"{message} ({only_weak_breaks} against {only_strong_breaks} of {len(under_strong)} samples)"
