"""Checks that an evaluation can fail when its attacks, not the defense, are what is weak.

After Carlini et al. 2019 (arXiv:1902.06705) and Athalye et al. 2018 (arXiv:1802.00420): an attack that is stronger by
construction must not leave more samples standing. `probes` attacks a few images for the checks that need images of
their own; here the conclusions are drawn, from those and from a record's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise, permutations

import numpy as np

from bench.evaluation.suites import CURVES, ENSEMBLE, GRADIENT_FREE
from bench.records.outcomes import unpack, unpack_radii
from bench.records.record import AttackResult
from bench.registry import attack_class
from bench.stats import mcnemar_exact, wilson_interval
from bench.threat import Entry, Threat, label_in
from bench.vocabulary import Norm

PROBE = "pgd-sat"
"""The attack that is varied: the white-box reference of every evaluation."""
UNCHECKED = "not checked: the checks that attack images of their own were left out"
"""What stands where failed checks do if nobody wanted to know."""

_REFERENCES = ("pgd-sat", "pgd-20", "pgd-trades", "bim")
"""White-box attacks that no weaker one may beat; the first that a record has is taken."""
_LEVEL = 0.01
_SAME_RADIUS = 1e-6
"""Radii are float32 in a record: so far from a share of eps, relatively, they are still on it."""
_VANISHED = 0.05
_SIBLINGS = 0.1
"""Share of the samples by which two lengths of step may differ."""
_SQUARE_SHARE = 0.002
"""What AutoAttack's authors let Square break after the white-box attacks before they doubt the evaluation."""
_FEWEST = 8
"""As many samples as are significant at 1 % if none speaks for the other side."""


def flags(
    results: Mapping[str, AttackResult], n: int, probes: Mapping[str, np.ndarray], own: Threat | None = None
) -> list[str]:
    """The failed checks, in words; one attack beats another where it breaks significantly more (McNemar, 1 %).

    They are drawn from the results of a record of n samples under a threat, and from what `Probes.look` gave.
    """
    own = own or Threat()
    outcomes = {name: unpack(result.final, n) for name, result in results.items()}
    failed = [*_unfit(results, n, probes)]
    for threat in dict.fromkeys(Entry.of(name).threat for name in outcomes):  # each for itself
        under = {name: right for name, right in outcomes.items() if Entry.of(name).threat == threat}
        failed += _ranked(under, None if threat else probes.get("reference"), own)
    failed += [*_nested(outcomes, own), *_siblings(outcomes)]
    for name in (name for name in results if Entry.of(name).attack == ENSEMBLE):
        failed += _ensemble(results[name].components, n)
    failed += _curves(results, n)
    if "vanished" in probes:
        failed += _variations(probes, _label(PROBE))
    return failed


def tells_chance(n: int, classes: int) -> bool:
    """Whether n samples would show a network to be better than chance that is right halfway from it to always."""
    halfway = (1 + 1 / classes) / 2
    return wilson_interval(round(halfway * n), n)[0] > 1 / classes


def _unfit(results: Mapping[str, AttackResult], n: int, probes: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A model that knows nothing before it is attacked, or gives no logits."""
    clean = results.get("clean")
    if clean is not None and tells_chance(n, classes := len(clean.class_accuracy)) and clean.interval[0] <= 1 / classes:
        chance = 1 / classes
        yield f"clean accuracy is {clean.accuracy:.1%}, not surely better than chance ({chance:.1%})"
    if "probabilities" in probes and probes["probabilities"].all():
        yield "the outputs are probabilities, not logits: the attacks' losses are blunt on them"


def other_radii(results: Mapping[str, AttackResult], eps: float) -> Iterator[str]:
    """Attacks that were not run at the dataset's eps, as they do not declare that theirs scales; in words."""
    for name, result in results.items():
        own = result.parameters.get("eps", eps)
        if own != eps and Entry.of(name).threat is None:
            yield f"{name} was run at its own eps = {own:.4g}, not at the dataset's {eps:.4g}"


def _ranked(outcomes: Mapping[str, np.ndarray], probed: np.ndarray | None, own: Threat) -> Iterator[str]:
    """Attacks that are weaker by construction and yet break more than a white-box attack.

    The stronger one is the same attack on the model itself for a transferred one, else the record's reference; without
    either, the probe's, on the samples that it saw.
    """
    on_itself = {entry.attack: name for name in outcomes if not (entry := Entry.of(name)).transfer}
    reference = next((name for name in _REFERENCES if name in on_itself), None)
    for name, right in outcomes.items():
        entry = Entry.of(name)
        stronger = entry.attack if entry.transfer and entry.attack in on_itself else reference
        strong = probed if stronger is None else outcomes[on_itself[stronger]]
        if strong is None:
            continue
        norm, seen = entry.under(own).norm, right[: len(strong)]
        said, here = _label(stronger or PROBE, norm), f" within {entry.threat}" * bool(entry.threat)
        if entry.attack == ENSEMBLE:
            yield from _compared(seen, strong, f"{said} breaks more than AutoAttack{here}")
        elif entry.transfer:
            message = f"a transferred {_label(entry.attack, norm)} breaks more than {said} on the model itself{here}"
            yield from _compared(strong, seen, message)
        elif entry.attack in ("fgsm", "square"):
            message = f"{_label(entry.attack, norm)} breaks more than {said}{here}: gradients may be masked"
            yield from _compared(strong, seen, message)


def _nested(outcomes: Mapping[str, np.ndarray], own: Threat) -> Iterator[str]:
    """The same attack in a ball and in one around that: a larger radius, or L-infinity where L2 has the same."""
    entries = [(name, entry, entry.under(own)) for name in outcomes if (entry := Entry.of(name)).attack != "clean"]
    for (inner, entry, small), (outer, other, large) in permutations(entries, 2):
        alike = (entry.attack, entry.transfer) == (other.attack, other.transfer)
        if alike and small != large and small.within(large):
            norm = small.norm if small.norm == large.norm else None
            message = f"{_label(entry.attack, norm)} breaks more within {small} than within {large}, the larger ball"
            yield from _compared(outcomes[outer], outcomes[inner], message)


def _siblings(outcomes: Mapping[str, np.ndarray]) -> Iterator[str]:
    """PGD-SAT and PGD-TRADES differ in the length of a step alone; where that matters much, gradients tell little."""
    if not {"pgd-sat", "pgd-trades"} <= outcomes.keys():
        return
    one, other = outcomes["pgd-sat"], outcomes["pgd-trades"]
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    far = abs(only_one - only_other) > _SIBLINGS * len(one)
    if far and mcnemar_exact(only_one, only_other) < _LEVEL:
        yield f"PGD-SAT leaves {one.mean():.1%} standing and PGD-TRADES {other.mean():.1%}: the step's length decides"


def _curves(results: Mapping[str, AttackResult], n: int) -> Iterator[str]:
    """Two attacks that give each sample's radius have to agree on how many stand at the radii that both tell of.

    The minimal one searches from the image outwards; the other looks at a few radii (`shares` of its eps).
    """
    if not set(CURVES) <= results.keys() or any(results[name].radii is None for name in CURVES):
        return
    minimal, checking = (unpack_radii(results[name].radii or "", n) for name in CURVES)
    parameters = results[CURVES[1]].parameters
    radii = [share * parameters["eps"] * (1 + _SAME_RADIUS) for share in parameters["shares"]]
    names = [_label(name) for name in CURVES]
    for weak, strong, said in ((minimal, checking, names), (checking, minimal, names[::-1])):
        # Where the one that leaves more is furthest above the other.
        radius = max(radii, key=lambda each: int((weak > each).sum()) - int((strong > each).sum()))
        message = f"{said[0]} is too weak at radius {radius:.3g}: {said[1]} breaks more"
        yield from _compared(weak > radius, strong > radius, message)


def _label(name: str, norm: Norm | None = None) -> str:
    return label_in(attack_class(name).label, norm)


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
    reference = probes.get("reference")
    weaker = {
        "longer": f"{label} breaks less with twice the steps",
        "queries": f"{_label(GRADIENT_FREE)} breaks more than {label}: gradients may be masked",
        "noise": f"random noise breaks more than {label}",
    }
    for name, message in weaker.items():
        if name in probes and reference is not None:
            pair = (probes[name], reference) if name == "longer" else (reference, probes[name])
            yield from _compared(*pair, message)
    changed, seen = int((probes["clean"] ^ probes["again"]).sum()), len(probes["clean"])
    if changed:
        yield f"predictions change from one pass to the next on {changed} of {seen} samples: a random model"
    rungs = sorted((float(name.removeprefix("eps=")), name) for name in probes if name.startswith("eps="))
    for (small, smaller), (large, larger) in pairwise(rungs):
        message = f"{label} breaks less with eps = {large:.3g} than with {small:.3g}"
        yield from _compared(probes[larger], probes[smaller], message)
    if "everywhere" in probes and (standing := int(probes["everywhere"].sum())):
        (radius, _), n = rungs[-1], len(probes["everywhere"])
        yield f"{label} with eps = {radius:.3g} leaves {standing} of {n} samples standing"
    vanished = int(probes["vanished"].sum())
    if vanished > max(1, _VANISHED * seen):  # one of few may be an image that the model is all too sure of
        yield f"the gradient vanishes on {vanished} of {seen} samples"


def _compared(under_strong: np.ndarray, under_weak: np.ndarray, message: str) -> Iterator[str]:
    """The message, if the weaker attack breaks significantly more; outcomes are right or not, shape (n,), bool.

    Where one was run on more samples, the first ones count.
    """
    n = min(len(under_strong), len(under_weak))
    under_strong, under_weak = under_strong[:n], under_weak[:n]
    only_weak_breaks = int((under_strong & ~under_weak).sum())
    only_strong_breaks = int((under_weak & ~under_strong).sum())
    if only_weak_breaks > only_strong_breaks and mcnemar_exact(only_weak_breaks, only_strong_breaks) < _LEVEL:
        yield f"{message} ({only_weak_breaks} against {only_strong_breaks} of {n} samples)"
