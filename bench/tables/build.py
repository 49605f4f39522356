"""Puts cells where they belong: which columns, which rows, what is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.errors import BenchError
from bench.records.measurement import Quantity
from bench.records.networks import is_together
from bench.records.record import Record
from bench.tables.cell import Cell, Group
from bench.tables.cells import Cells, measure
from bench.tables.headers import dataset_label, detail, students, under_threats
from bench.tables.lines import (
    Measured,
    Place,
    Published,
    attacks_of,
    beside,
    groups_of,
    newest,
    of_one_network,
    tidy,
    whole_worst,
)
from bench.tables.notes import find_amiss, notes, provenance
from bench.tables.paper import paper_lines
from bench.tables.rivals import mark_rivals
from bench.tables.spec import TableSpec
from bench.tables.table import Column, ColumnGroup, Row, Section, Source, Table, Values
from bench.vocabulary import Selected

_LABELS: dict[Quantity, str] = {
    "clean": "Clean",
    "robust": "Robust",
    "weighted": "W-R",
    "worst_class": "Worst class",
    "cost": "Cost",
    "overfitting": "Robust overfitting",
}
_SOURCES: dict[Values, tuple[Source, ...]] = {
    "measured": ("measured",),
    "paper": ("paper",),
    "compare": ("measured", "paper", "difference"),
}
_TITLES: dict[Source, str] = {"measured": "Measured", "paper": "Paper", "difference": "Measured minus paper"}


def build_table(
    spec: TableSpec,
    records: Iterable[Record],
    values: Values = "measured",
    datasets: Sequence[str] | None = None,
    checkpoint_of: Selected = "best",
) -> Table:
    """Build one table.

    Args:
        spec: which table.
        records: evaluation records, of which the table takes those it has a place for.
        values: "measured" (only what was measured here), "paper" (only what was published), or "compare"
            (both, and their difference, in columns of their own).
        datasets: only these, with or without results; None for the spec's and all others that have results.
        checkpoint_of: of which network of its run a record is to be; of the others only the robust overfitting is.

    Raises:
        BenchError: published numbers are asked for and the spec names none, or its CSV is not right.
    """
    return annotated([laid_out(spec, records, values, datasets, checkpoint_of)])


@dataclass(frozen=True)
class LaidOut:
    """A table without its notes, and what they are written from: the lines behind it, and records that do not count."""

    table: Table
    spec: TableSpec
    measured: list[Measured]
    published: list[Published]
    left_out: set[str]


def laid_out(
    spec: TableSpec,
    records: Iterable[Record],
    values: Values = "measured",
    datasets: Sequence[str] | None = None,
    checkpoint_of: Selected = "best",
) -> LaidOut:
    """A table without its notes; arguments and errors as of `build_table`."""
    sources = _SOURCES[values]
    if "paper" in sources and spec.paper is None:
        raise BenchError(
            f"Table {spec.number} has no published numbers to show.\n"
            "Render it with --values measured, or name a CSV under `paper` in its spec."
        )
    known = list(records) if "measured" in sources else []
    measured = tidy((record for record in known if record.subject.stands_for(checkpoint_of)), spec)
    here = {line.place.group.dataset for line in measured} if datasets is None else set(datasets)
    shown = [name for name in spec.datasets if datasets is None or name in datasets]
    shown += sorted(here - set(spec.datasets))
    measured = [line for line in measured if line.place.group.dataset in shown]
    current = newest(measured)
    if spec.sections == "datasets":
        current = whole_worst(of_one_network(current))
    if "overfitting" in spec.columns:
        other: Selected = "last" if checkpoint_of == "best" else "best"
        current = beside(current, tidy((record for record in known if record.subject.stands_for(other)), spec))
    published = [line for line in paper_lines(spec) if line.place.group.dataset in shown] if "paper" in sources else []
    places = [*(line.place for line in current), *(line.place for line in published)]
    spec = under_threats(spec, ((place.attack, place.group.threat) for place in places))
    layout = _Layout(spec, sources, shown, current, published)
    table = Table(
        number=spec.number,
        title=_title(spec, values, current, checkpoint_of),
        values=values,
        checkpoint_of=checkpoint_of,
        stub=("Attack", "Defense") if spec.sections == "attacks" else ("Dataset", spec.subject.capitalize()),
        column_groups=layout.column_groups(),
        sections=layout.sections(),
        notes=(),
    ).with_units()
    left_out = {line.record.id for line in measured} - {line.record.id for line in current}
    return LaidOut(table, spec, current, published, left_out)


def annotated(parts: Sequence[LaidOut]) -> Table:
    """A table with its notes: the sections of all parts, which have the same columns."""
    first = parts[0]
    table = replace(first.table, sections=tuple(section for part in parts for section in part.table.sections))
    current = [line for part in parts for line in part.measured]
    left_out = {record for part in parts for record in part.left_out}
    told = (table, first.spec, current, first.published, find_amiss(first.spec, current))
    return replace(table, notes=tuple(notes(*told)), provenance=tuple(provenance(*told, left_out)))


def _title(spec: TableSpec, values: Values, measured: Iterable[Measured], checkpoint_of: Selected) -> str:
    """What the table is of, whose it is, where its numbers come from, and that they are of the last checkpoints."""
    which = "; last checkpoints" if checkpoint_of == "last" and values != "paper" else ""
    shown = students(spec, {line.place.group for line in measured})
    return f"{spec.title}{f': {shown}' if shown else ''} ({_provenance(spec, values)}{which})"


def _provenance(spec: TableSpec, values: Values) -> str:
    citation = spec.paper.citation if spec.paper else ""
    return {
        "measured": "%, measured",
        "paper": f"%, as published in {citation}, not measured here",
        "compare": f"%, measured beside the numbers published in {citation}",
    }[values]


class _Layout:
    """Columns and sections of a table, and the cells where they meet."""

    def __init__(
        self,
        spec: TableSpec,
        sources: tuple[Source, ...],
        datasets: list[str],
        measured: list[Measured],
        paper: list[Published],
    ) -> None:
        self.spec, self.sources, self.datasets = spec, sources, datasets
        has = any(line.value("overfitting") is not None for line in measured)
        self.quantities = [name for name in spec.columns if has or name != "overfitting"]
        self.measured, self.paper = measure(measured, spec.columns), measure(paper, spec.columns)
        self.measured_groups, self.paper_groups = groups_of(measured), groups_of(paper)
        self.attacks = attacks_of(measured)
        self.positions = {line.place.row: line.position for lines in (measured, paper) for line in lines}

    def column_groups(self) -> tuple[ColumnGroup, ...]:
        if self.spec.sections == "datasets":
            return tuple(self._block(source, None) for source in self.sources)
        return tuple(
            self._block(source, group)
            for dataset in self.datasets
            for source in self.sources
            if source == self.sources[0] or self._paper_group(dataset).n
            for group in self._groups(source, dataset)
        )

    def sections(self) -> tuple[Section, ...]:
        if self.spec.sections == "attacks":
            empty = [Section(attack.label, None, attack.result) for attack in self.spec.attacks]
        else:
            empty = [
                Section(self._header(group).header, group, None)
                for dataset in self.datasets
                for group in self._groups(self.sources[0], dataset)
            ]
        return tuple(replace(section, rows=self._rows(section)) for section in empty)

    def _groups(self, source: Source, dataset: str) -> list[Group]:
        if source == "paper":
            return [self._paper_group(dataset)]
        return [group for group in self.measured_groups if group.dataset == dataset] or [Group(dataset)]

    def _paper_group(self, dataset: str) -> Group:
        return next((group for group in self.paper_groups if group.dataset == dataset), Group(dataset))

    def _block(self, source: Source, group: Group | None) -> ColumnGroup:
        """Columns from one source: of one group, or of each section's group."""
        names = [name for name in self.quantities if source == "measured" or name != "overfitting"]
        if group is not None:
            columns = [Column(_LABELS[name], name, source, group, None) for name in names]
            return replace(self._header(group, source), columns=tuple(columns))
        columns = []
        for name in names:
            if name in ("clean", "cost"):
                columns.append(Column(_LABELS[name], name, source, None, None))
                continue
            prefix = "" if name == "robust" else f"{_LABELS[name]} "
            columns += [
                Column(prefix + attack.label, name, source, None, attack.result) for attack in self.spec.attacks
            ]
        return ColumnGroup(_TITLES[source] if len(self.sources) > 1 else "", "", tuple(columns))

    def _header(self, group: Group, source: Source | None = None) -> ColumnGroup:
        title = dataset_label(group.dataset, self.spec)
        if source and len(self.sources) > 1:
            title = f"{_TITLES[source]}: {title}"
        rivals = self.paper_groups if source == "paper" else self.measured_groups
        return ColumnGroup(title, detail(group, self.spec, rivals), ())

    def _rows(self, section: Section) -> tuple[Row, ...]:
        """The spec's rows, filled or not, then those of further methods that have a number in the section."""
        columns = [column for block in self.column_groups() for column in block.columns]
        cells = {label: [self._cell(column, section, label) for column in columns] for label in self.positions}
        filled = [label for label in cells if any(cell.value is not None for cell in cells[label])]
        filled.sort(key=str.casefold)
        labels: list[str] = []
        for position, row in enumerate(self.spec.rows):
            labels += [label for label in filled if self.positions[label] == position] or [row.label]
        further = [label for label in filled if self.positions[label] == len(self.spec.rows)]
        labels += further
        by_column = []
        for i, column in enumerate(columns):
            below = [cells[label][i] if label in filled else Cell() for label in labels]
            of_several = column.source == "paper" and self.spec.paper is not None and bool(self.spec.paper.about)
            unranked = column.source == "difference" or column.quantity == "overfitting" or of_several
            ranked = self.spec.compared and not unranked
            by_column.append(mark_rivals(below, column.quantity) if ranked else below)
        named = len(labels) - len(further)
        return tuple(
            Row(label, tuple(below[i] for below in by_column), further=i >= named) for i, label in enumerate(labels)
        )

    def _cell(self, column: Column, section: Section, row: str) -> Cell:
        group, attack = column.group or section.group, column.attack or section.attack
        assert group is not None, "either the column or the section has a group"
        # Clean accuracy and cost in a table by datasets belong to no attack: any result of the row has them.
        attacks = [attack] if attack else [attack.result for attack in self.spec.attacks]
        measured = _first(self.measured, group, attacks, row, column.quantity)
        paper = _first(self.paper, self._paper_group(group.dataset), attacks, row, column.quantity)
        if column.source == "difference":
            return _difference(measured, paper)
        if column.source == "paper":
            return paper
        together = attacks[0] if len(attacks) == 1 and is_together(attacks[0]) else None
        if together is None or column.quantity == "clean" or measured.evidence is None:
            return measured
        over = measured.evidence.over
        partial = over != {self.attacks[group, together]}
        return replace(measured, over=frozenset.intersection(*over), partial=partial)


def _first(cells: Cells, group: Group, attacks: list[str], row: str, quantity: Quantity) -> Cell:
    """The cell of the first of some attacks that has it."""
    keys = ((Place(group, attack, row), quantity) for attack in attacks)
    return next((cells[key] for key in keys if key in cells), Cell())


def _difference(measured: Cell, paper: Cell) -> Cell:
    """What a reader gets who subtracts the numbers shown."""
    if measured.shown is None or paper.shown is None:
        return Cell()
    return Cell(measured.shown - paper.shown, measured.group, records=measured.records, signed=True)
