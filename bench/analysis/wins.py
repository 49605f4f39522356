"""Whether the wins of a paper's own defense exceed sampling noise, from its published numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.measurement import Quantity
from bench.stats import LEVEL, holm, least_significant, mcnemar_range
from bench.tables.cell import Cell
from bench.tables.rivals import tested
from bench.tables.spec import TableSpec
from bench.tables.table import Table


@dataclass(frozen=True)
class Win:
    """A best number of the proposed defense over the second best; numbers are per cent.

    Attributes:
        attack: empty for a clean accuracy, which stands in several sections.
        cells: in how many it stands.
        rival: row of the second best, or several that share the place.
        p: of the z-test of independent samples, 1 where the accuracies it needs are not known.
        p_holm: after Holm's correction over the table's wins.
        p_paired: smallest and largest p-value of McNemar's exact test under any pairing of the same images, after the
            same correction; None for W-R, whose test needs more than totals.
    """

    dataset: str
    attack: str
    quantity: Quantity
    value: float
    rival: str
    second: float
    cells: int
    p: float
    p_holm: float
    p_paired: tuple[float, float] | None

    @property
    def difference(self) -> float:
        """In percentage points, as printed."""
        return round(self.value - self.second, 2)

    @property
    def significant(self) -> bool:
        return self.p_holm <= LEVEL


@dataclass(frozen=True)
class Wins:
    """All wins of a table's proposed defense.

    Attributes:
        proposed: its row.
        n: samples of every number.
        cells: with a number of the proposed defense and of a rival; best: those where it is best, ties included.
        least: the smallest difference, in samples, that one test could find significant under any pairing, and that
            the correction over all wins leaves significant.
    """

    proposed: str
    n: int
    cells: int
    best: int
    wins: tuple[Win, ...]
    least: tuple[int, int]

    @property
    def significant(self) -> int:
        return sum(win.significant for win in self.wins)


def find_wins(table: Table, spec: TableSpec) -> Wins | None:
    """The wins of a table of published numbers; None where its paper proposes no row, or nothing is shown of it."""
    if spec.paper is None or spec.paper.proposed is None:
        return None
    contests = list(_contests(table, spec.paper.proposed))
    if not contests:
        return None
    best = [contest for contest in contests if contest[1].mark == "best"]
    # A clean accuracy stands in every section: one comparison, however often it is printed.
    key = [(place, own.shown, rival, second.shown) for place, own, rival, second in best]
    found = [(*best[key.index(each)], key.count(each)) for each in dict.fromkeys(key)]
    level = LEVEL / max(1, len(found))
    return Wins(
        spec.paper.proposed,
        spec.paper.n,
        cells=len(contests),
        best=len(best),
        wins=tuple(_tested(found, spec.paper.n)),
        least=(least_significant(LEVEL), least_significant(level)),
    )


def _contests(table: Table, proposed: str) -> Iterator[tuple[tuple[str, str, Quantity], Cell, str, Cell]]:
    """For each cell of the proposed row: its place, the cell, and the best rival's row and cell."""
    for section in table.sections:
        own = next((row for row in section.rows if row.label == proposed), None)
        for i, column in enumerate(table.columns):
            rivals = [row for row in section.rows if row.label != proposed and row.cells[i].shown is not None]
            if own is None or own.cells[i].shown is None or not rivals:
                continue
            shown = [row.cells[i].shown or 0.0 for row in rivals]
            second = rivals[shown.index(max(shown))].cells[i]
            names = ", ".join(row.label for row, number in zip(rivals, shown, strict=True) if number == second.shown)
            group = column.group or section.group
            attack = "" if column.quantity == "clean" else column.attack or section.attack or ""
            place = (group.dataset if group else "", attack, column.quantity)
            yield place, own.cells[i], names, second


def _tested(found: Sequence[tuple[Any, ...]], n: int) -> Iterator[Win]:
    p_values: list[float] = []
    ranges: list[tuple[float, float] | None] = []
    for (_, _, quantity), cell, _, second, _ in found:
        test = tested(cell.evidence, second.evidence, quantity)
        p_values.append(1.0 if test is None else test[0])
        own, other = (round(each.value / 100 * n) for each in (cell, second))
        ranges.append(None if quantity == "weighted" else mcnemar_range(own, other, n))
    adjusted = holm(p_values)
    # Among all wins of the table: W-R, which has no range, takes part with the p-value it has.
    both = list(zip(p_values, ranges, strict=True))
    ends = [holm([each[end] if each else p for p, each in both]) for end in (0, 1)]
    for i, ((dataset, attack, quantity), cell, rival, second, cells) in enumerate(found):
        yield Win(
            dataset,
            attack,
            quantity,
            cell.shown,
            rival,
            second.shown,
            cells,
            p_values[i],
            adjusted[i],
            None if ranges[i] is None else (ends[0][i], ends[1][i]),
        )
