"""What networks were not trained for: tables of unseen threats, and of corruptions by kind and by severity."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from bench.errors import BenchError
from bench.records.networks import UNION, WORST, with_union
from bench.records.record import Record
from bench.records.wording import CORRUPTED
from bench.tables.build import annotated, laid_out
from bench.tables.cell import Cell
from bench.tables.spec import AttackSpec, read_spec, table_files
from bench.tables.table import Column, Row, Section, Table, numbered
from bench.threat import NORM_TEXT
from bench.vocabulary import CORRUPTIONS, FURTHER_CORRUPTIONS, SEVERITIES, Selected

MEAN_SEVERITY: Final = 3
"""Of the corruptions among unseen threats."""
_OF_THREAT: Final = f"{WORST}@"
_SOURCES: Final = {"corruption": "", "published-corruption": "published arrays"}


class Mean(NamedTuple):
    """A column that is the mean of others: its name for readers, and the results it is of."""

    label: str
    of: Sequence[str]


def has_any(records: Iterable[Record], table: str) -> bool:
    """Whether some record has a result that the table `unseen` or `corruptions` is of; quickly, of thousands."""
    if table == "corruptions":
        return any(CORRUPTED.match(name) for record in records for name in record.results)
    return any(
        "@" in name or not result.parameters.get("in_ball", True)
        for record in records
        for name, result in record.results.items()
    )


def build_unseen(
    records: Iterable[Record],
    datasets: Sequence[str] | None = None,
    student: str | None = None,
    checkpoint_of: Selected = "best",
) -> Table:
    """Defenses x threats that they were not trained for, right under every one (union), and the mean over threats.

    A column is a threat: right under all that was run under it. Corruptions are one threat, whose column is the mean
    over those of severity 3; in the union a sample is right if it is right under all corruptions that were measured.
    What is over fewer attacks than its section has is marked.

    Args:
        records: evaluation records; students' alone are shown.
        datasets: only these; None for all. student: only of this architecture; None for all.
        checkpoint_of: of which network of its run a record is to be.
    """
    known = with_union(_of_students(records, datasets, student, checkpoint_of))
    spec = read_spec(table_files("specs") / "unseen.yaml")
    measured = {name for record in known for name in record.results}
    threats = sorted((name for name in measured if name.startswith(_OF_THREAT)), key=_by_kind)
    present = [name for kind in CORRUPTIONS if (name := f"corruption-{kind}-{MEAN_SEVERITY}") in measured]
    named = {UNION: "Union", **{name: _threat_text(name.removeprefix(_OF_THREAT)) for name in threats}}
    named = {name: label for name, label in named.items() if name != f"{_OF_THREAT}corruptions"}
    attacks = [AttackSpec(result=name, label=named.get(name, name)) for name in [*named, *present]]
    part = laid_out(spec.model_copy(update={"attacks": attacks}), known, checkpoint_of=checkpoint_of)
    single = [name for name in named if name != UNION]
    table = _with_means(part.table, [Mean("Corruptions", present)] if present else [], drop=present)
    table = _with_means(table, [Mean("Mean", [*single, *["Corruptions"] * bool(present)])])
    order = ["Clean", *(named[name] for name in single), "Corruptions", "Union", "Mean"]
    table = annotated([replace(part, table=_in_order(table, order))])
    shown = {"", *(table.columns[i].label for i in numbered(table.sections))}
    return _named(table, "unseen", " ".join(text for label, text in _UNSEEN.items() if label in shown))


def _by_kind(name: str) -> tuple[bool, str]:
    """Other radii and norms first, then what has none."""
    threat = name.removeprefix(_OF_THREAT)
    return not (threat.endswith("x") or ":" in threat), threat


def _threat_text(threat: str) -> str:
    """A threat as a column's name: `eps x 1.5`, `L2 0.5`, `Geometric`."""
    if threat.endswith("x"):
        return f"eps x {threat[:-1]}"
    norm, colon, radius = threat.partition(":")
    return f"{NORM_TEXT[norm]} {radius}" if colon and norm in NORM_TEXT else threat.capitalize()


def build_corruptions(
    records: Iterable[Record],
    datasets: Sequence[str] | None = None,
    student: str | None = None,
    checkpoint_of: Selected = "best",
    baseline: Record | None = None,
) -> Table:
    """Defenses x kinds of corruption (the mean over five severities), then x severities, the mean, and mCE.

    Args:
        baseline: whose errors those of the others are divided by for mCE (Hendrycks and Dietterich 2019, Eq. 1): it
            has all fifteen kinds at all severities; None: no mCE.

    Raises:
        BenchError: the baseline lacks a corruption.
    """
    known = _of_students(records, datasets, student, checkpoint_of)
    names = {name: match for record in known for name in record.results if (match := CORRUPTED.match(name))}
    spec = read_spec(table_files("specs") / "corruptions.yaml")
    parts = []
    for prefix, said in _SOURCES.items():
        own = sorted(name for name, match in names.items() if match[1] == prefix)
        if not own:
            continue
        attacks = [AttackSpec(result=name, label=name) for name in own]
        part = laid_out(spec.model_copy(update={"attacks": attacks}), known, checkpoint_of=checkpoint_of)
        table = _with_means(part.table, list(_corruption_means(prefix, own)), drop=own)
        if baseline is not None:
            table = _with_mce(table, part.table, prefix, _errors_of(baseline, prefix))
        sections = tuple(replace(each, label=_joined(each.label, said)) for each in table.sections)
        parts.append(replace(part, table=replace(table, sections=sections)))
    if not parts:
        parts = [laid_out(spec, (), checkpoint_of=checkpoint_of)]
    columns = max((part.table.column_groups for part in parts), key=lambda groups: len(groups[0].columns))
    whole = annotated([replace(part, table=_widened(part.table, columns[0].columns)) for part in parts])
    note = _CORRUPTIONS + (f" mCE: errors relative to {baseline.id}'s, their mean." if baseline is not None else "")
    return _named(whole, "corruptions", note)


_UNSEEN: Final = {
    "": "A column is a threat: right under all attacks that were run under it.",
    "Geometric": "Geometric: a grid of rotations and translations.",
    "Corruptions": f"Corruptions: the mean over kinds at severity {MEAN_SEVERITY}.",
    "Union": "Union: right under all; mean: of the columns.",
}
"""What a reader is told of each column that is there, and of all."""
_CORRUPTIONS: Final = "Each kind is the mean over the severities measured, each severity that over the kinds."


def _of_students(
    records: Iterable[Record], datasets: Sequence[str] | None, student: str | None, checkpoint_of: Selected
) -> list[Record]:
    return [
        record
        for record in records
        if record.subject.kind != "teacher" and record.data.split == "test"
        if (datasets is None or record.data.name in datasets) and student in (None, record.subject.model)
        if record.subject.stands_for(checkpoint_of)
    ]


def _corruption_means(prefix: str, own: Collection[str]) -> Iterable[Mean]:
    """A column a kind, one a severity, and the mean over the fifteen kinds at all that was measured of them."""

    def of(kinds: Sequence[str], severities: Sequence[int]) -> list[str]:
        named = (f"{prefix}-{kind}-{severity}" for kind in kinds for severity in severities)
        return [name for name in named if name in own]

    for kind in (*CORRUPTIONS, *FURTHER_CORRUPTIONS):
        if found := of([kind], SEVERITIES):
            yield Mean(kind.replace("_", " ").capitalize(), found)
    for severity in SEVERITIES:
        if found := of(CORRUPTIONS, [severity]):
            yield Mean(f"Severity {severity}", found)
    if found := of(CORRUPTIONS, SEVERITIES):
        yield Mean("Mean", found)


def _with_means(table: Table, means: Sequence[Mean], drop: Collection[str] = ()) -> Table:
    """The table with columns of means at its end, and without those of some results."""
    columns = table.columns
    places = {column.attack or column.label: i for i, column in enumerate(columns) if column.quantity != "clean"}
    kept = [i for i, column in enumerate(columns) if column.attack not in drop]
    added = tuple(Column(mean.label, "robust", "measured", None, None) for mean in means)

    def row(section: Section, own: Row) -> Row:
        made = (_mean([own.cells[places[name]] for name in mean.of]) for mean in means)
        return replace(own, cells=(*(own.cells[i] for i in kept), *made))

    return _rebuilt(table, (*(columns[i] for i in kept), *added), row)


def _named(table: Table, name: str, note: str) -> Table:
    """A finished table by its name, with one note more, without what has no number."""
    table = replace(table, number=name, stub=("Dataset", "Defense"))
    if not table.empty:
        table = replace(table, notes=(note, *table.notes))
    return table.part(sorted(numbered(table.sections)), table.sections)


def _joined(label: str, said: str) -> str:
    return f"{label}, {said}" if said else label


def _mean(cells: Sequence[Cell]) -> Cell:
    """The mean of some cells of a row, of each seed and then over the seeds; a dash where one is missing.

    It has no interval, and is no rival: the numbers behind it are of the same samples.
    """
    values = [_by_seed(cell) for cell in cells]
    if not cells or any(value is None for value in values) or len({len(value or ()) for value in values}) > 1:
        return Cell()
    means = np.mean(np.array(values), axis=0)
    first = cells[0]
    cell = _unranked(first, float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else None)
    return replace(
        cell,
        records=tuple(sorted({name for each in cells for name in each.records})),
        flags=tuple(sorted({flag for each in cells for flag in each.flags})),
        of_seeds=tuple(means.tolist()),
    )


def _unranked(cell: Cell, value: float, std: float | None) -> Cell:
    """A cell with another number, one that nothing is known of but its spread over seeds."""
    return replace(cell, value=value, std=std, interval=None, mark="", lead=None, evidence=None)


def _by_seed(cell: Cell) -> Sequence[float] | None:
    """Of each seed the accuracy behind a cell, per cent."""
    if cell.value is None:
        return None
    if cell.of_seeds:
        return cell.of_seeds
    measured = cell.evidence.measured if cell.evidence else ()
    return [100 * each.result.accuracy for each in measured] or None


def _errors_of(baseline: Record, prefix: str) -> dict[str, float]:
    """By kind, the baseline's errors, summed over the severities; per cent."""
    errors: dict[str, float] = {}
    for kind in CORRUPTIONS:
        names = [f"{prefix}-{kind}-{severity}" for severity in SEVERITIES]
        missing = [name for name in names if name not in baseline.results]
        if missing:
            raise BenchError(
                f"mCE cannot be relative to {baseline.id}: it has no {missing[0]}.\n"
                "Name a record of the suite corruptions, of the same kind of arrays: a naturally trained network's."
            )
        errors[kind] = sum(100 * (1 - baseline.results[name].accuracy) for name in names)
    return errors


def _with_mce(table: Table, whole: Table, prefix: str, errors: dict[str, float]) -> Table:
    """The table with mCE at its end: the mean over kinds of errors relative to the baseline's, per cent."""
    places = {column.attack: i for i, column in enumerate(whole.columns)}
    rows = {(section.label, row.label): row for section in whole.sections for row in section.rows}

    def relative(section: Section, own: Row) -> Cell:
        cells = rows[section.label, own.label].cells
        ratios = []
        for kind, error in errors.items():
            at = [places.get(f"{prefix}-{kind}-{severity}") for severity in SEVERITIES]
            values = [_by_seed(cells[i]) for i in at if i is not None]
            if len(values) < len(SEVERITIES) or any(value is None for value in values) or not error:
                return Cell()
            ratios.append((100 * len(values) - np.sum(np.array(values), axis=0)) / error)
        of_seeds = 100 * np.mean(np.array(ratios), axis=0)
        std = float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None
        first = next(cell for cell in cells if cell.value is not None and cell.evidence)
        return _unranked(first, float(of_seeds.mean()), std)

    columns = (*table.columns, Column("mCE", "robust", "measured", None, None))
    return _rebuilt(table, columns, lambda section, row: replace(row, cells=(*row.cells, relative(section, row))))


def _in_order(table: Table, labels: Sequence[str]) -> Table:
    """The columns of these labels first, in this order, the others after them."""
    columns = table.columns
    rank = {label: i for i, label in enumerate(labels)}
    order = sorted(range(len(columns)), key=lambda i: rank.get(columns[i].label, len(rank)))
    chosen = [columns[i] for i in order]
    return _rebuilt(table, chosen, lambda section, row: replace(row, cells=tuple(row.cells[i] for i in order)))


def _widened(table: Table, columns: Sequence[Column]) -> Table:
    """The table with these columns, those that it has not being empty."""
    places = {column.label: i for i, column in enumerate(table.columns)}

    def row(section: Section, own: Row) -> Row:
        return replace(own, cells=tuple(own.cells[places[c.label]] if c.label in places else Cell() for c in columns))

    return _rebuilt(table, columns, row)


def _rebuilt(table: Table, columns: Sequence[Column], row: Callable[[Section, Row], Row]) -> Table:
    """The table with other columns, in one block, and its rows made anew."""
    sections = tuple(replace(each, rows=tuple(row(each, own) for own in each.rows)) for each in table.sections)
    (block,) = table.column_groups
    return replace(table, column_groups=(replace(block, columns=tuple(columns)),), sections=sections)
