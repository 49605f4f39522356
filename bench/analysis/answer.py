"""What a comparison says, in a sentence for each pair of sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.compare import Contrast
from bench.records.networks import WORST
from bench.tables.overview import attack_labels
from bench.threat import Entry, label_in


def answer(contrasts: Sequence[Contrast]) -> str:
    """The contrasts of one pair under one condition: who is better in what, and what could have been found elsewhere.

    W-R is told only where neither the attack's robust accuracy nor the clean one differs.
    """
    told = {each.attack for each in contrasts if each.found and each.quantity != "weighted"}
    shown = [
        each for each in contrasts if each.quantity != "weighted" or (each.found and not told & {"clean", each.attack})
    ]
    parts = [part for side in contrasts[0].sides for part in _better(side, shown)]
    single = [each for each in shown if not each.found and each.verdict.startswith(contrasts[0].sides)]
    if single:
        parts.append(f"{_listed(map(_where, single))} a difference was found only before the correction")
    none = [each for each in shown if not each.found and each not in single]
    if none:
        parts.append(f"{_listed(map(_where, none))} no difference was found")
        parts += _could(none)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if not parts[0].startswith(contrasts[0].sides) else f"{text}."


def _better(side: str, contrasts: Sequence[Contrast]) -> Iterator[str]:
    won = [each for each in contrasts if each.found and (each.difference.value > 0) == (side == each.sides[0])]
    if won:
        yield f"{side} is better {_listed(f'{_where(each)} by {_gain(each)}' for each in won)}"


def _gain(contrast: Contrast) -> str:
    """By how much the better side is better, with the interval."""
    difference = contrast.difference
    ends = sorted((difference.low, difference.high) if difference.value > 0 else (-difference.low, -difference.high))
    caution = "; on these images, others could change it" if contrast.hangs_on_images else ""
    return f"{100 * abs(difference.value):.1f} points ({' to '.join(f'{100 * end:.1f}' for end in ends)}{caution})"


def _where(contrast: Contrast) -> str:
    if contrast.quantity == "clean":
        return "in clean accuracy"
    under = "under all attacks at once" if contrast.attack == WORST else f"under {_label(contrast)}"
    return under if contrast.quantity == "robust" else f"in W-R {under}"


def _label(contrast: Contrast) -> str:
    entry, condition = Entry.of(contrast.attack), contrast.condition
    stated = f" within {entry.threat}" if entry.threat else ""
    norm = None if condition.across else entry.under(condition.threat).norm
    label = label_in(attack_labels()[entry.attack], norm) if entry.attack in attack_labels() else entry.attack
    return ("transferred " if entry.transfer else "") + label + stated


def _could(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """The smallest difference that the tests which found none could have found."""
    least = [100 * each.detectable for each in contrasts if each.detectable is not None]
    if not least:
        return
    low, high = f"{min(least):.1f}", f"{max(least):.1f}"
    seeds = sorted({accuracy.seeds for each in contrasts for accuracy in each.accuracies})
    over = (
        f"{' and '.join(map(str, seeds))} seeds"
        if all(each.test == "welch" for each in contrasts)
        else f"these {contrasts[0].condition.n:,} images"
    )
    yield f"with {over} {low if low == high else f'{low} to {high}'} points could have been"


def _listed(texts: Iterator[str] | map[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
