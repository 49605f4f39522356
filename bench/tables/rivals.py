"""Which numbers of a column are best and second best, and whether the lead of the best is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bench.records.measurement import PublishedQuantity, Quantity
from bench.stats import LEAST_SEEDS, Test, compare, holm, two_proportions, two_weighted, welch
from bench.tables.cell import Cell, Evidence, Lead, Mark


def mark_rivals(cells: Sequence[Cell], quantity: Quantity) -> list[Cell]:
    """Mark the best and the second-best number of a column, as shown, and how sure the best one's lead is.

    Equal numbers share a mark. A column with fewer than two numbers is left as it is: there is nothing to be better
    than. So are costs that were measured on different devices.
    """
    numbers = [cell.ranked for cell in cells if cell.ranked is not None]
    if len(numbers) < 2 or (quantity == "cost" and len(devices(cells)) > 1):
        return list(cells)
    marks: tuple[Mark, ...] = ("best", "second")
    places = dict(zip(sorted(set(numbers), reverse=quantity != "cost"), marks, strict=False))
    marked = [cell if cell.ranked is None else replace(cell, mark=places.get(cell.ranked, "")) for cell in cells]
    if quantity == "cost":
        return marked
    lead = _lead(marked, quantity)
    return [replace(cell, lead=lead) if cell.mark == "best" else cell for cell in marked]


def devices(cells: Sequence[Cell]) -> set[str]:
    """What the networks behind some numbers were trained on."""
    return {device for cell in cells if cell.evidence and cell.value is not None for device in cell.evidence.devices}


def _lead(cells: Sequence[Cell], quantity: Quantity) -> Lead:
    """How sure the lead of the best number is over the second best, which is the other one where two share a place.

    Of several second best the one it is least sure over.
    """
    first = next(i for i, cell in enumerate(cells) if cell.mark == "best")
    rivals = [cell for i, cell in enumerate(cells) if i != first and cell.ranked is not None]
    tests = [tested(cells[first].evidence, rival.evidence, quantity) for rival in rivals]
    known = [i for i, found in enumerate(tests) if found is not None]
    adjusted: dict[int, float] = dict(zip(known, holm([found[0] for found in tests if found]), strict=True))
    shared = any(rival.mark == "best" for rival in rivals)
    nearest = [i for i, rival in enumerate(rivals) if rival.mark == ("best" if shared else "second")]
    worst = max(nearest, key=lambda i: adjusted.get(i, 2.0))
    found = tests[worst]
    return Lead(adjusted.get(worst), found[1] if found else None, len(rivals))


def tested(first: Evidence | None, second: Evidence | None, quantity: Quantity) -> tuple[float, Test] | None:
    """Two-sided p-value and test of two numbers of a column; None where nothing tells.

    Nothing does where they are of different attacks, or of outcomes that are not known.
    """
    if first is None or second is None:
        return None
    if first.published and second.published:
        return _published(first, second, quantity)
    if quantity != "clean" and (first.attacks != second.attacks or len(first.attacks) != 1):
        return None
    if quantity == "worst_class":
        return _worst_class(first, second)
    if quantity == "cost":
        return None
    if min(len(first.measured), len(second.measured)) >= LEAST_SEEDS:
        # As `compare` has it, but it would take the outcomes of all samples to their means once more.
        means = [[each.value(quantity) for each in side.measured] for side in (first, second)]
        known = [[value for value in side if value is not None] for side in means]
        return (welch(*known).p, "welch") if known == means else None
    one, other = _scores(first, quantity), _scores(second, quantity)
    if not one or not other:
        return None
    difference, test = compare(one, other)
    return difference.p, test


@lru_cache(maxsize=64)  # the best number of a column meets every other one
def _scores(evidence: Evidence, quantity: PublishedQuantity) -> list[np.ndarray]:
    """Of each seed, every sample's part in an accuracy or in W-R: shape (n,); none where outcomes are not known."""
    return [scores for each in evidence.measured if (scores := each.scores(quantity)) is not None]


def _worst_class(first: Evidence, second: Evidence) -> tuple[float, Test] | None:
    """Two models' worst classes need not be the same, so their samples are not pairs."""
    if not first.worst or not second.worst:
        return None
    if min(len(first.worst), len(second.worst)) >= LEAST_SEEDS:
        one, other = ([right / n for right, n in each.worst] for each in (first, second))
        return welch(one, other).p, "welch"
    # Seeds see the same samples: several are no more samples than one.
    totals = [np.mean(each.worst, axis=0).round().astype(int).tolist() for each in (first, second)]
    return two_proportions(*totals[0], *totals[1]), "proportions"


def _published(first: Evidence, second: Evidence, quantity: Quantity) -> tuple[float, Test] | None:
    """The test of two published numbers, as those of independent samples."""
    one, other = first.published, second.published
    assert one is not None
    assert other is not None
    if quantity in ("clean", "robust"):
        i = ("clean", "robust").index(quantity)
        share, rival = one[i], other[i]
        if share is None or rival is None:
            return None
        return two_proportions(round(share * first.n), first.n, round(rival * second.n), second.n), "proportions"
    if quantity != "weighted" or None in (*one, *other):
        return None
    return two_weighted(one, first.n, other, second.n), "proportions"  # type: ignore[arg-type]
