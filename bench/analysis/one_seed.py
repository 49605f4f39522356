"""Which leads of a table one seed a side can carry at all, by the published spread of accuracies over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from bench.stats.planning import DISCORDANCE, PUBLISHED_IMAGES, PUBLISHED_SPREAD, Variation
from bench.tables.table import Table

_VARYING = [Variation(spread, PUBLISHED_IMAGES, *DISCORDANCE) for spread in PUBLISHED_SPREAD]


@dataclass(frozen=True)
class Gap:
    """A lead of one network over another, of one seed each, in points, on `n` samples."""

    points: float
    n: int


@dataclass(frozen=True)
class OneSeed:
    """What some gaps are worth if other seeds would spread as published; pairs are by its lowest and highest end.

    Attributes:
        gaps: how many there are; median: of them, in points.
        least: the gap in points that other seeds alone do not explain, at 5 %, each gap taken alone; where samples
            differ in number, the extremes. least_others: the same where the images are others, too.
        carried: how many gaps are larger; carried_others: than what other seeds and images explain.
        seeds: a side that the median gap takes, by Welch's test in four of five cases; None over 999.
    """

    gaps: int
    median: float
    least: tuple[float, float]
    least_others: tuple[float, float]
    carried: tuple[int, int]
    carried_others: tuple[int, int]
    seeds: tuple[int | None, int | None]


def one_seed(gaps: Iterable[Gap]) -> OneSeed | None:
    """What gaps between networks of one seed each are worth; None where there is none."""
    found = sorted(gaps, key=lambda gap: gap.points)
    if not found:
        return None
    bounds = {
        others: [[100 * each.carried_by_one_seed(gap.n, others) for gap in found] for each in _VARYING]
        for others in (False, True)
    }
    carried = {
        others: [sum(gap.points > least for gap, least in zip(found, of_end, strict=True)) for of_end in ends]
        for others, ends in bounds.items()
    }
    middle, n = median(gap.points for gap in found), max(gap.n for gap in found)
    low, high = (each.seeds_needed(middle / 100, n, False) if middle > 0 else None for each in _VARYING)
    return OneSeed(
        len(found),
        middle,
        (min(bounds[False][0]), max(bounds[False][1])),
        (min(bounds[True][0]), max(bounds[True][1])),
        (carried[False][0], carried[False][1]),
        (carried[True][0], carried[True][1]),
        (low, high),
    )


def leads_of_one_seed(table: Table) -> Iterator[Gap]:
    """The leads of a table's best accuracies over the second best, where both are of one seed; ranked rows alone."""
    clean = set()
    for section in table.sections:
        for i, column in enumerate(table.columns):
            cells = [row.cells[i] for row in section.rows if row.cells[i].ranked is not None]
            if len(cells) < 2 or column.quantity not in ("clean", "robust", "weighted"):
                continue
            best, second = sorted(cells, key=lambda cell: -(cell.ranked or 0.0))[:2]
            if best.group is None or best.mark != "best" or not best.seeds == second.seeds == 1:
                continue
            pair = (best.group, best.shown, second.shown)
            if column.quantity == "clean" and pair in clean:
                continue  # it stands in every section: one lead, however often it is printed
            if column.quantity == "clean":
                clean.add(pair)
            yield Gap(round((best.ranked or 0.0) - (second.ranked or 0.0), 2), best.group.n)
