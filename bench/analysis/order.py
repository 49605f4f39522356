"""Whether the rows of measured tables come in the order that the paper's have, pair by pair and beyond noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from bench.errors import unknown_name
from bench.records.measurement import Quantity
from bench.records.record import Record
from bench.stats import LEVEL, TEST_NAMES, Test, holm
from bench.tables.build import build_table
from bench.tables.cell import Cell, Group
from bench.tables.cells import Cells, measure
from bench.tables.headers import attack_label
from bench.tables.paper import paper_lines
from bench.tables.rivals import tested
from bench.tables.spec import TableSpec
from bench.tables.write import choose_specs
from bench.vocabulary import Selected

Verdict = Literal["same", "reversed", "open"]
_QUANTITIES: dict[Quantity, str] = {"clean": "clean", "robust": "robust", "weighted": "W-R"}


@dataclass(frozen=True)
class Pair:
    """Two rows that the paper tells apart.

    Attributes:
        upper, lower: the row with the higher and the one with the lower published number.
        published: the paper's difference, upper minus lower, as printed, in percentage points; above 0.
        measured: ours, of the same two rows.
        p: of the measured difference, after Holm's correction over all pairs of the column; None where it cannot be
            tested.
        test: what it was tested by.
    """

    upper: str
    lower: str
    published: float
    measured: float
    p: float | None
    test: Test | None

    @property
    def verdict(self) -> Verdict:
        """Which way round the pair is here; open where the difference may be noise."""
        if self.p is None or self.p > LEVEL or not self.measured:
            return "open"
        return "same" if self.measured > 0 else "reversed"


@dataclass(frozen=True)
class ColumnOrder:
    """The pairs of one column of measured numbers.

    Attributes:
        attack: its label; empty for clean accuracies, which stand under several attacks and are said once.
        rows: how many have a number here and in the paper.
        pairs: those that the paper's own numbers tell apart: z-test of independent samples, Holm's correction over
            all pairs of its column.
    """

    table: int
    title: str
    group: Group
    attack: str
    quantity: Quantity
    rows: int
    pairs: tuple[Pair, ...]

    def count(self, verdict: Verdict) -> int:
        return sum(pair.verdict == verdict for pair in self.pairs)


def compare_order(
    records: Iterable[Record],
    paper_dataset: str,
    numbers: Sequence[int] | None = None,
    datasets: Sequence[str] | None = None,
    extra_specs: Path | None = None,
    student: str | None = None,
    checkpoint_of: Selected = "best",
) -> list[ColumnOrder]:
    """Hold the order of measured rows against that of the paper's.

    Args:
        paper_dataset: the paper's dataset whose order is asked for, such as "cifar10", whatever ours is called.
        records, numbers, datasets, extra_specs, student, checkpoint_of: as for `build_tables`.

    Raises:
        BenchError: as `build_tables`; no table with published numbers has such a dataset.
    """
    known = [record for record in records if record.subject.stands_for(checkpoint_of)]
    specs = choose_specs(known, numbers, "measured", datasets, extra_specs, all_by_default=True, student=student)
    ranked = [
        spec for spec in specs if spec.paper and not spec.paper.about and spec.compared and spec.subject == "student"
    ]
    published = {name for spec in ranked for name in spec.datasets}
    if paper_dataset not in published:
        raise unknown_name("dataset of the paper", paper_dataset, published)
    return [
        order
        for spec in ranked
        if paper_dataset in spec.datasets
        for order in _orders(spec, known, paper_dataset, datasets, checkpoint_of)
    ]


def _orders(
    spec: TableSpec,
    records: list[Record],
    paper_dataset: str,
    datasets: Sequence[str] | None,
    checkpoint_of: Selected,
) -> Iterator[ColumnOrder]:
    table = build_table(spec, records, "measured", datasets, checkpoint_of)
    paper = measure(paper_lines(spec), spec.columns)
    said = set()
    for section in table.sections:
        for i, column in enumerate(table.columns):
            group, attack = column.group or section.group, column.attack or section.attack
            assert group is not None, "either the column or the section has a group"
            own = {row.label: row.cells[i] for row in section.rows if row.cells[i].shown is not None}
            theirs = _published(paper, paper_dataset, attack, column.quantity)
            rows = [label for label in own if label in theirs]
            place = (group, "" if column.quantity == "clean" or attack is None else attack, column.quantity)
            if len(rows) < 2 or place in said:
                continue
            said.add(place)
            yield ColumnOrder(
                spec.number,
                table.title,
                group,
                attack_label(place[1], spec) if place[1] else "",
                column.quantity,
                len(rows),
                tuple(_pairs(rows, own, theirs, column.quantity)),
            )


def _published(paper: Cells, dataset: str, attack: str | None, quantity: Quantity) -> dict[str, Cell]:
    """The paper's numbers of a column, by row; a clean accuracy in a table by datasets belongs to any attack."""
    return {
        place.row: cell
        for (place, what), cell in paper.items()
        if place.group.dataset == dataset and what == quantity and attack in (place.attack, None)
    }


def _pairs(rows: Sequence[str], own: dict[str, Cell], theirs: dict[str, Cell], quantity: Quantity) -> Iterator[Pair]:
    pairs = list(combinations(rows, 2))
    published = [tested(theirs[one].evidence, theirs[other].evidence, quantity) for one, other in pairs]
    measured = [tested(own[one].evidence, own[other].evidence, quantity) for one, other in pairs]
    told_apart = [p is not None and p <= LEVEL for p in _corrected([found and found[0] for found in published])]
    adjusted = _corrected([found and found[0] for found in measured])
    for (one, other), apart, p, found in zip(pairs, told_apart, adjusted, measured, strict=True):
        if not apart:
            continue
        upper, lower = sorted((one, other), key=lambda row: theirs[row].shown or 0.0, reverse=True)
        yield Pair(
            upper, lower, _minus(theirs[upper], theirs[lower]), _minus(own[upper], own[lower]), p, found and found[1]
        )


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


def _minus(one: Cell, other: Cell) -> float:
    """As a reader subtracts the numbers shown."""
    return round((one.shown or 0.0) - (other.shown or 0.0), 2)


def to_text(orders: Sequence[ColumnOrder], paper_dataset: str) -> str:
    """All of it as Markdown that reads well in a terminal."""
    if not orders:
        return (
            "No column here has two rows that the paper has too.\n"
            "Tables show their own students alone: --student NAME asks for those of another architecture.\n"
        )
    return (
        f"Pairs of rows that the paper's numbers on {paper_dataset} tell apart (z-test of independent samples), and\n"
        f"which way round they are here; both at {LEVEL:.0%} after Holm's correction over a column's pairs.\n"
        + "".join(_group(group, orders) for group in dict.fromkeys(order.group for order in orders))
    )


def _group(group: Group, orders: Sequence[ColumnOrder]) -> str:
    """The columns measured under the same conditions."""
    lines = [
        "",
        f"Measured: {group.dataset}, {group.setting}, n = {group.n:,}.",
        "",
        "| Table | Attack | Quantity | Rows | Apart in the paper | Same here | Reversed here | Not told apart here |",
        "|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    own = [order for order in orders if order.group == group]
    for order in own:
        counts = " | ".join(str(order.count(verdict)) for verdict in ("same", "reversed", "open"))
        quantity = _QUANTITIES.get(order.quantity, order.quantity)
        attack = order.attack or "none"
        lines.append(f"| {order.table} | {attack} | {quantity} | {order.rows} | {len(order.pairs)} | {counts} |")
    reversed_ = [line for order in own for line in _reversed(order)]
    return "\n".join([*lines, *(["", "Reversed here:", "", *reversed_] if reversed_ else [])]) + "\n"


def _reversed(order: ColumnOrder) -> Iterator[str]:
    place = f"Table {order.table}, {_QUANTITIES.get(order.quantity, order.quantity)}" + (
        f" under {order.attack}" if order.attack else ""
    )
    for pair in order.pairs:
        if pair.verdict == "reversed" and pair.test:
            yield (
                f"- {place}: {pair.lower} over {pair.upper} by {-pair.measured:.2f} points "
                f"(p = {pair.p:.2g}, {TEST_NAMES[pair.test]}); in the paper {pair.upper} leads by {pair.published:.2f}"
            )
