"""A table as it will be shown: blocks of columns, sections of rows, and a cell where they meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, islice, pairwise
from typing import Literal

from bench.records.measurement import Quantity
from bench.tables.cell import Cell, Group
from bench.vocabulary import Selected

Source = Literal["measured", "paper", "difference"]
Values = Literal["measured", "paper", "compare"]


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


def _width(blocks: Iterable[ColumnGroup]) -> int:
    return sum(len(block.columns) for block in blocks)
