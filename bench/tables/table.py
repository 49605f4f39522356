"""A table as it will be shown: blocks of columns, sections of rows, and a cell where they meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from itertools import accumulate, groupby, islice, pairwise
from math import floor
from typing import Literal, NamedTuple

from bench.records.measurement import Measurement, Quantity
from bench.stats import LEVEL, Test
from bench.threat import Threat
from bench.vocabulary import Norm, Selected

Source = Literal["measured", "paper", "difference"]
Values = Literal["measured", "paper", "compare"]
Mark = Literal["", "best", "second"]

DASH = "–"
_PER_HOUR = {"s": 3600, "min": 60, "h": 1}
TEST_SELECTED, FLAGGED, UNPROVEN, PARTIAL = "†", "‡", "≈", "*"


class Group(NamedTuple):
    """What results must share to be compared, and the block of columns they then stand in.

    Without results there is only the dataset's name. `model` is the students' architecture, empty of teachers, who name
    theirs in their rows.
    """

    dataset: str
    setting: str = ""
    protocol: str = ""
    n: int = 0
    total: int = 0
    eps: float = 0.0
    fingerprint: str = ""
    model: str = ""
    norm: Norm = "linf"

    @property
    def threat(self) -> Threat:
        """What the attacks might do; without results nothing."""
        return Threat(self.norm, self.eps)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a number can be tested by against its rivals in the column.

    Attributes:
        n: samples.
        measured: of each seed; empty for published numbers.
        published: clean and robust accuracy, in [0, 1], where that is all there is.
    """

    n: int
    measured: tuple[Measurement, ...] = ()
    published: tuple[float | None, float | None] | None = None

    @cached_property
    def attacks(self) -> set[tuple[str, str | None]]:
        """Parameters and surrogate of the attack; more than one where seeds differ in them."""
        return {(each.parameters, each.result.surrogate) for each in self.measured}

    @property
    def over(self) -> set[frozenset[str]]:
        """Of a worst over attacks: over which it is; more than one where seeds differ in them."""
        return {frozenset(each.result.parameters["over"]) - {"clean"} for each in self.measured}

    @property
    def worst(self) -> list[tuple[int, int]]:
        """Of each seed, (right, samples) of the class with the lowest robust accuracy, where that is known."""
        return [worst for each in self.measured if (worst := each.worst_class)]

    @property
    def devices(self) -> set[str]:
        """What the seeds were trained on, where that is known."""
        trained = (each.record.subject.training for each in self.measured)
        return {training.device for training in trained if training}


@dataclass(frozen=True)
class Lead:
    """How sure it is that the best number of a column is better than the second best.

    Attributes:
        p: after Holm's correction over the best number's rivals in the column; None where no test is possible.
        test: by which; None where none is.
        rivals: with how many it was compared.
    """

    p: float | None
    test: Test | None
    rivals: int

    @property
    def proven(self) -> bool:
        return self.p is not None and self.p <= LEVEL


@dataclass(frozen=True)
class Cell:
    """A number, or none, with all that belongs to it; numbers are per cent, or hours.

    Attributes:
        value: the number; over several seeds, their mean. None shows as a dash.
        group: what it was measured on and under.
        std: sample standard deviation over seeds; None for one seed.
        interval: 95 % interval of a single seed's number: Wilson's, for `weighted` the score interval, for
            `worst_class` exact bounds; none for a cost.
        seeds: how many seeds are in it.
        selection: what chose the checkpoints.
        flags: failed sanity checks of the records.
        records: ids of the records the number comes from.
        signed: whether it is a difference, in percentage points.
        unit: of the numbers. shown_in: of a cost, the unit that it is shown in.
        mark: place among the rivals in its column.
        lead: of a best number, how sure its lead is.
        evidence: what it is tested by.
        over: of a worst over attacks, the attacks; partial: whether these are fewer than its section has, or not of all
            seeds, so that it is no rival in its column.
        of_seeds: of a mean over attacks, each seed's.
    """

    value: float | None = None
    group: Group | None = None
    std: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    selection: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    signed: bool = False
    unit: Literal["%", "h"] = "%"
    shown_in: Literal["s", "min", "h"] = "h"
    mark: Mark = ""
    lead: Lead | None = None
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    over: frozenset[str] = frozenset()
    partial: bool = False
    of_seeds: tuple[float, ...] = ()

    @cached_property
    def shown(self) -> float | None:
        """The number as a reader sees it; marks and differences come from it.

        Per cent with two decimals, a cost with three significant digits.
        """
        if self.value is None:
            return None
        if self.unit == "h":
            return float(_digits(self.value * _PER_HOUR[self.shown_in]))
        # Halves go up, as in the paper: of 10,000 samples, every other W-R ends in half a hundredth.
        return floor(self.value * 100 + 0.5 + 1e-6) / 100

    @property
    def ranked(self) -> float | None:
        """The number by which it is a rival in its column."""
        return None if self.partial else self.shown

    @property
    def signs(self) -> str:
        """Signs that lead to the notes."""
        return (
            (PARTIAL if self.partial else "")
            + (UNPROVEN if self.lead and not self.lead.proven else "")
            + (TEST_SELECTED if "test" in self.selection else "")
            + (FLAGGED if self.flags else "")
        )

    @property
    def brief(self) -> str:
        """The cell as plain text without its spread over seeds."""
        return replace(self, std=None).text

    @property
    def text(self) -> str:
        """The cell as plain text: `54.54`, `54.54 ± 0.31 (3)†`, or a dash."""
        if self.shown is None:
            return DASH
        cost = self.unit == "h"
        number = _digits(self.shown) if cost else f"{self.shown:{'+' if self.signed else ''}.2f}"
        if self.std is not None:
            spread = _digits(self.std * _PER_HOUR[self.shown_in]) if cost else f"{self.std:.2f}"
            number += f" ± {spread} ({self.seeds})"
        return number + self.signs


@dataclass(frozen=True)
class Column:
    """One column of numbers; what it leaves open (None) is given by the section of the row."""

    label: str
    quantity: Quantity
    source: Source
    group: Group | None
    attack: str | None


@dataclass(frozen=True)
class ColumnGroup:
    """Columns under one header. The title may be empty where there is nothing to tell apart."""

    title: str
    detail: str
    columns: tuple[Column, ...]

    @property
    def dataset(self) -> str:
        """The dataset of all columns; empty where each section has its own."""
        group = self.columns[0].group
        return group.dataset if group else ""

    @property
    def header(self) -> str:
        """Title and detail in one line."""
        return " — ".join(part for part in (self.title, self.detail) if part)


@dataclass(frozen=True)
class Row:
    """A labelled row; one cell for each column of the table. A further row is one the spec does not name."""

    label: str
    cells: tuple[Cell, ...]
    further: bool = False


@dataclass(frozen=True)
class Section:
    """Rows that belong together: those of one attack or, in other tables, of one dataset."""

    label: str
    group: Group | None
    attack: str | None
    rows: tuple[Row, ...] = ()

    def choose(self, columns: Sequence[int], named: bool) -> Section:
        """The section with only some of the columns, and the rows that have a number there or, if so asked, a name."""
        rows = (replace(row, cells=tuple(row.cells[i] for i in columns)) for row in self.rows)
        kept = (row for row in rows if (named and not row.further) or any(cell.value is not None for cell in row.cells))
        return replace(self, rows=tuple(kept))


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        notes: what each reader needs. provenance: all else that is known of the numbers.
        remark: that it shows others than it is meant for.
        whole: whether its parts, too, have the rows of the spec that have no number.
        checkpoint_of: of which network of their runs the measured numbers are.
    """

    number: int | str
    title: str
    values: Values
    stub: tuple[str, str]
    column_groups: tuple[ColumnGroup, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    provenance: tuple[str, ...] = ()
    remark: str = ""
    whole: bool = False
    checkpoint_of: Selected = "best"

    @property
    def students(self) -> set[str]:
        """The architectures that it has numbers of."""
        return {cell.group.model for _, _, _, cell in self.cells() if cell.group and cell.group.model}

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of numbers, from left to right."""
        return tuple(column for block in self.column_groups for column in block.columns)

    @property
    def ending(self) -> str:
        """Of the stems of its files, so that those of the best checkpoints stay beside them."""
        return "" if self.checkpoint_of == "best" else f"-{self.checkpoint_of}"

    @property
    def stem(self) -> str:
        """What the names of its files begin with, and the name of its place on a page."""
        return self.number if isinstance(self.number, str) else f"table{self.number}"

    @property
    def name(self) -> str:
        """`Table 3`, or the name of one that has no number."""
        return self.number.capitalize() if isinstance(self.number, str) else f"Table {self.number}"

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"{self.name}. {self.title}"

    @property
    def empty(self) -> bool:
        """Whether no cell has a number."""
        return all(cell.value is None for _, _, _, cell in self.cells())

    def filled(self) -> Table:
        """The table without blocks, rows and sections that have no number."""
        found = numbered(self.sections)
        return self.part([i for own in self.places if found.intersection(own) for i in own], self.sections)

    def with_units(self) -> Table:
        """The table with each cost in the unit that fits the largest of its column, which the column's label names."""
        units: dict[int, Literal["s", "min", "h"]] = {}
        for i, column in enumerate(self.columns):
            if column.quantity == "cost":
                most = max((row.cells[i].value or 0 for section in self.sections for row in section.rows), default=0)
                units[i] = "s" if 0 < most < 0.025 else "min" if 0 < most < 1.5 else "h"
        if not units:
            return self
        labelled = (
            replace(column, label=f"{column.label} ({units[i]})") if i in units else column
            for i, column in enumerate(self.columns)
        )
        blocks = tuple(
            replace(block, columns=tuple(islice(labelled, len(block.columns)))) for block in self.column_groups
        )

        def converted(row: Row) -> Row:
            cells = (replace(cell, shown_in=units[i]) if i in units else cell for i, cell in enumerate(row.cells))
            return replace(row, cells=tuple(cells))

        sections = (replace(section, rows=tuple(map(converted, section.rows))) for section in self.sections)
        return replace(self, column_groups=blocks, sections=tuple(sections))

    def part(self, columns: Sequence[int], sections: Iterable[Section]) -> Table:
        """Some of the columns, by their places, and of sections the rows with a number there; all of a whole table."""
        blocks = (
            replace(block, columns=tuple(self.columns[i] for i in columns if i in own))
            for block, own in zip(self.column_groups, self.places, strict=True)
        )
        kept = (section.choose(columns, self.whole) for section in sections)
        return replace(
            self,
            column_groups=tuple(block for block in blocks if block.columns),
            sections=tuple(section for section in kept if section.rows),
        )

    @property
    def places(self) -> list[range]:
        """Where each block's columns are among all."""
        return [range(first - 3, last - 2) for first, last in self.spans]

    def split(self, most: int) -> list[Table]:
        """Tables with at most this number of columns, side by side in this one.

        A block is never split, and the blocks of a dataset stay together where they can. Further rows without
        a number in a part are not in it. Only the last part has the notes.
        """
        parts: list[list[ColumnGroup]] = [[]]
        for _, blocks in groupby(self.column_groups, key=lambda block: block.dataset):
            together = list(blocks)
            if _width([*parts[-1], *together]) > most:
                parts.append([])
            for block in together:
                if _width([*parts[-1], block]) > most:
                    parts.append([])
                parts[-1].append(block)
        parts = [part for part in parts if part] or [[]]
        ends = [*accumulate(map(_width, parts))]
        tables = [
            replace(
                self,
                column_groups=tuple(part),
                sections=tuple(section.choose(range(start, end), named=True) for section in self.sections),
                notes=(),
            )
            for part, start, end in zip(parts, [0, *ends], ends, strict=False)
        ]
        return [*tables[:-1], replace(tables[-1], notes=self.notes)]

    @property
    def grouped(self) -> bool:
        """Whether each section is a group of its own."""
        return any(section.group for section in self.sections)

    @property
    def has_headers(self) -> bool:
        """Whether any block of columns has a header of its own."""
        return any(block.header for block in self.column_groups)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and last column of each block, counted from 1 and after the two columns of labels."""
        ends = accumulate((_width([block]) for block in self.column_groups), initial=2)
        return tuple((start + 1, end) for start, end in pairwise(ends))

    def cells(self) -> Iterator[tuple[Section, Row, Column, Cell]]:
        """Every cell with where it stands."""
        for section in self.sections:
            for row in section.rows:
                for column, cell in zip(self.columns, row.cells, strict=True):
                    yield section, row, column, cell


def numbered(sections: Iterable[Section]) -> set[int]:
    """The places of the columns in which some row has a number."""
    rows = (row for section in sections for row in section.rows)
    return {i for row in rows for i, cell in enumerate(row.cells) if cell.value is not None}


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{Decimal(f'{value:.2e}'):f}"


def _width(blocks: Iterable[ColumnGroup]) -> int:
    return sum(len(block.columns) for block in blocks)
