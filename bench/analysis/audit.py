"""What is wrong or fragile in the tables: contradictions, rows that do not compare, leads that may be noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.analysis.claims import CheckedClaim, check_claims, read_claims
from bench.analysis.wins import Wins, find_wins
from bench.records.record import Record
from bench.stats.choice import LEVEL, TEST_NAMES
from bench.system.text import defense_label
from bench.tables.build import build_table
from bench.tables.cells import GROUP, grouped, newest, tidy
from bench.tables.headers import dataset_label
from bench.tables.mismatches import attack_label, contradictions, listed, mismatches
from bench.tables.paper import paper_frame
from bench.tables.spec import TableSpec
from bench.tables.table import Cell, Group, Table
from bench.tables.write import choose_specs

if TYPE_CHECKING:
    from pandas import DataFrame

Source = Literal["measured", "paper"]
KINDS = {
    "contradiction": "W-R that is not the mean of the two numbers beside it",
    "samples": "Rows measured on different samples stand in columns of their own and are not compared",
    "protocol": "Rows measured by different protocols stand in columns of their own and are not compared",
    "eps": "Rows measured with different eps stand in columns of their own and are not compared",
    "setting": "Rows trained in different settings do not compare",
    "surrogates": "Transferred images that are not the same for all rows of a column",
    "teachers": "Rows of a column that learned from different teachers",
    "parameters": "Attacks that had different parameters in different rows of a column",
    "selection": "Checkpoints selected on the test set, which flatters them",
    "sanity": "Failed sanity checks of an evaluation",
    "noise": f"Best numbers that are not significantly better than the second best (at {LEVEL:.0%}, p after Holm)",
}
"""Every kind of finding in a table, in words and in the order they are said."""
_CONDITIONS = {
    "fingerprint": "samples",
    "protocol": "protocol",
    "eps": "eps",
    "setting": "setting",
}
"""What makes a group a column of its own, and how a finding about it is called."""


@dataclass(frozen=True)
class Finding:
    """Something a reader of a table must know: of what kind, and in words."""

    kind: str
    text: str


@dataclass(frozen=True)
class TableAudit:
    """What was found in one table, and what became of the wins of the defense its paper proposes.

    Attributes:
        numbers: how many cells have one.
    """

    number: int
    title: str
    numbers: int
    findings: tuple[Finding, ...]
    wins: Wins | None


@dataclass(frozen=True)
class Audit:
    """What was found in all tables, between them, and in the paper's prose."""

    values: Source
    tables: tuple[TableAudit, ...]
    between: tuple[Finding, ...]
    claims: tuple[CheckedClaim, ...]


def audit_tables(
    records: Iterable[Record],
    numbers: Sequence[int] | None = None,
    values: Source = "measured",
    datasets: Sequence[str] | None = None,
    extra_specs: Path | None = None,
    student: str | None = None,
) -> Audit:
    """Audit tables of measured or of published numbers.

    Args:
        records, numbers, datasets, extra_specs, student: as for `build_tables`; without numbers, all that have any.

    Raises:
        BenchError: as `build_tables`; a file of claims that is not right.
    """
    known = list(records)
    specs = choose_specs(known, numbers, values, datasets, extra_specs, all_by_default=True, student=student)
    frames = {spec.number: _frame(spec, known, values, datasets) for spec in specs}
    tables = tuple(_audit(spec, frames[spec.number], known, values, datasets) for spec in specs)
    claims = tuple(_claims(specs)) if values == "paper" else ()
    return Audit(values, tables, tuple(_between(specs, frames)), claims)


def _frame(spec: TableSpec, records: list[Record], values: Source, datasets: Sequence[str] | None) -> DataFrame:
    """The lines that count in a table."""
    frame = newest(tidy(records, spec)) if values == "measured" else paper_frame(spec)
    return frame if datasets is None else frame[frame["dataset"].isin(list(datasets))]


def _audit(
    spec: TableSpec, frame: DataFrame, records: list[Record], values: Source, datasets: Sequence[str] | None
) -> TableAudit:
    table = build_table(spec, records, values, datasets)
    found = [Finding("contradiction", text) for text in contradictions(frame, spec)]
    found += _conditions(frame, spec)
    for group, _, lines in grouped(frame):
        name = _group_name(group, spec)
        if values == "measured":
            found += [Finding(each.kind, f"{name}: {each.text}") for each in mismatches(lines, spec)]
        found += _schedules(name, lines, spec)
    found += _selected(frame, spec)
    found += [Finding("sanity", f"{row} on {name}: {flag}") for row, name, flag in sorted(_flags(frame, spec))]
    wins = find_wins(table, spec) if values == "paper" else None
    found += _unproven(table, spec)
    # A clean accuracy stands in every section, and is said once.
    ordered = sorted(dict.fromkeys(found), key=lambda finding: list(KINDS).index(finding.kind))
    filled = sum(cell.value is not None for _, _, _, cell in table.cells())
    return TableAudit(spec.number, table.title, filled, tuple(ordered), wins)


def _conditions(frame: DataFrame, spec: TableSpec) -> Iterator[Finding]:
    """Rows of a dataset that were measured under different conditions, and so never stand in one column."""
    for dataset, lines in frame.groupby("dataset"):
        for column, kind in _CONDITIONS.items():
            rows = defaultdict(set)
            for value, n, row in zip(lines[column], lines["n"], lines["row"], strict=True):
                rows[f"the first {n:,} of {value[:8]}" if column == "fingerprint" else str(value)].add(row)
            if len(rows) > 1:
                each = {f"{value}: {', '.join(sorted(names))}" for value, names in rows.items()}
                yield Finding(kind, f"{dataset_label(str(dataset), spec)}: {listed(each)}")


def _schedules(name: str, lines: DataFrame, spec: TableSpec) -> Iterator[Finding]:
    schedules = {text for text in lines["schedule"].dropna() if text}
    if not spec.compared and len(schedules) > 1:
        yield Finding("setting", f"{name}: one column, though not ranked, of {listed(schedules)}")


def _selected(frame: DataFrame, spec: TableSpec) -> Iterator[Finding]:
    chosen = {
        f"{row} on {dataset_label(dataset, spec)}"
        for row, dataset, how in zip(frame["row"], frame["dataset"], frame["selection"], strict=True)
        if how == "test"
    }
    if chosen:
        yield Finding("selection", listed(chosen))


def _flags(frame: DataFrame, spec: TableSpec) -> set[tuple[str, str, str]]:
    return {
        (row, dataset_label(dataset, spec), flag)
        for row, dataset, flags in zip(frame["row"], frame["dataset"], frame["flags"], strict=True)
        for flag in flags
    }


def _unproven(table: Table, spec: TableSpec) -> Iterator[Finding]:
    """Best numbers that are not significantly better than the second best."""
    for section, row, column, cell in table.cells():
        if cell.lead is None or cell.lead.proven or cell.group is None:
            continue
        attack = "" if column.quantity == "clean" else column.attack or section.attack
        place = f"{_group_name(cell.group, spec)}, {column.label}" + (
            f" under {attack_label(attack, spec)}" if attack else ""
        )
        if cell.lead.p is None or cell.lead.test is None:
            said = "cannot be tested"
        else:
            said = f"p = {cell.lead.p:.3g}, {TEST_NAMES[cell.lead.test]}, rivals: {cell.lead.rivals}"
        yield Finding("noise", f"{place}: {row.label} {cell.shown:.2f} ({said})")


def _group_name(group: Group, spec: TableSpec) -> str:
    setting = group.setting if group.fingerprint else ""  # all that is published has the same one
    return ", ".join(part for part in (dataset_label(group.dataset, spec), setting) if part)


def _between(specs: Iterable[TableSpec], frames: dict[int, DataFrame]) -> Iterator[Finding]:
    """Clean accuracies of one defense, student and condition that differ from table to table."""
    found: defaultdict[tuple[str, ...], defaultdict[float, set[int]]] = defaultdict(lambda: defaultdict(set))
    for spec in specs:
        frame = frames[spec.number]
        for line in frame[frame["clean"].notna()].to_dict("records"):
            if line["position"] < len(spec.rows) and spec.subject == "student":
                row = spec.rows[line["position"]]
                name = defense_label(row.method, row.overrides)
                student = str(spec.model_for(line["dataset"]))
                condition = (str(line[each]) for each in (*GROUP, "seed") if each != "dataset")
                key = (name, line["dataset"], student, *condition)
                found[key][line["clean"]].add(spec.number)
    for (name, dataset, student, *_), values in sorted(found.items()):
        if len(values) > 1:
            each = {
                f"{Cell(value=100 * clean).text} in Table {', '.join(map(str, sorted(numbers)))}"
                for clean, numbers in values.items()
            }
            yield Finding("clean", f"{name}, {student} on {dataset}: different clean accuracies: {listed(each)}")


def _claims(specs: Sequence[TableSpec]) -> Iterator[CheckedClaim]:
    """What the paper's prose says of the tables, held against all their numbers."""
    files: defaultdict[Path, dict[int, tuple[TableSpec, DataFrame]]] = defaultdict(dict)
    for spec in specs:
        if spec.paper and spec.paper.claims:
            files[spec.paper.claims][spec.number] = (spec, paper_frame(spec))
    for path, tables in files.items():
        yield from check_claims(path, read_claims(path), tables)
