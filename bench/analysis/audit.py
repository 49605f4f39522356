"""What is wrong or fragile in the tables: contradictions, rows that do not compare, leads that may be noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.analysis.claims import CheckedClaim, check_claims, read_claims
from bench.analysis.one_seed import Gap, OneSeed, leads_of_one_seed, one_seed
from bench.analysis.wins import Wins, find_wins
from bench.records.record import Record
from bench.stats import LEVEL, TEST_NAMES
from bench.system.text import defense_label
from bench.tables.build import build_table
from bench.tables.cell import Cell, Group
from bench.tables.headers import attack_label, dataset_label
from bench.tables.lines import Line, Measured, Published, by_group, newest, tidy
from bench.tables.mismatches import contradictions, listed, mismatches
from bench.tables.paper import paper_lines
from bench.tables.spec import TableSpec
from bench.tables.table import Table
from bench.tables.write import choose_specs
from bench.vocabulary import Selected

Source = Literal["measured", "paper"]
KINDS = {
    "contradiction": "W-R that is not the mean of the two numbers beside it",
    "samples": "Rows measured on different samples stand in columns of their own and are not compared",
    "protocol": "Rows measured by different protocols stand in columns of their own and are not compared",
    "threat": "Rows measured under different threats stand in columns of their own and are not compared",
    "setting": "Rows trained in different settings do not compare",
    "surrogates": "Transferred images that are not the same for all rows of a column",
    "trainings": "Seeds of a defense that were not trained alike stand in rows of their own",
    "teachers": "Rows of a column that learned from different teachers",
    "parameters": "Attacks that had different parameters in different rows of a column",
    "selection": "Checkpoints selected on the test set, which flatters them",
    "sanity": "Failed sanity checks of an evaluation",
    "noise": f"Best numbers that are not significantly better than the second best (at {LEVEL:.0%}, p after Holm)",
}
"""Every kind of finding in a table, in words and in the order they are said."""
_CONDITIONS: dict[str, Callable[[Group], str]] = {
    "samples": lambda group: f"the first {group.n:,} of {group.fingerprint[:8]}",
    "protocol": lambda group: group.protocol,
    "threat": lambda group: str(group.threat),
    "setting": lambda group: group.setting,
}
"""What makes a group a column of its own, by how a finding about it is called."""


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
        one_seed: what its wins are worth, or, of a measured table, its leads between rows of one seed.
    """

    number: int
    title: str
    numbers: int
    findings: tuple[Finding, ...]
    wins: Wins | None
    one_seed: OneSeed | None


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
    checkpoint_of: Selected = "best",
) -> Audit:
    """Audit tables of measured or of published numbers.

    Args:
        records, numbers, datasets, extra_specs, student, checkpoint_of: as for `build_tables`; without numbers, all
            that have any.

    Raises:
        BenchError: as `build_tables`; a file of claims that is not right.
    """
    known = [record for record in records if record.subject.stands_for(checkpoint_of)]
    specs = choose_specs(known, numbers, values, datasets, extra_specs, all_by_default=True, student=student)
    lines = {spec.number: _counting(spec, known, values, datasets) for spec in specs}
    tables = tuple(_audit(spec, lines[spec.number], known, values, datasets, checkpoint_of) for spec in specs)
    claims = tuple(_claims(specs)) if values == "paper" else ()
    return Audit(values, tables, tuple(_between(specs, lines)), claims)


def _counting(spec: TableSpec, records: list[Record], values: Source, datasets: Sequence[str] | None) -> Sequence[Line]:
    """The lines that count in a table."""
    lines: Sequence[Line] = newest(tidy(records, spec)) if values == "measured" else paper_lines(spec)
    return lines if datasets is None else [line for line in lines if line.place.group.dataset in datasets]


def _audit(
    spec: TableSpec,
    lines: Sequence[Line],
    records: list[Record],
    values: Source,
    datasets: Sequence[str] | None,
    checkpoint_of: Selected,
) -> TableAudit:
    table = build_table(spec, records, values, datasets, checkpoint_of)
    found = [Finding("contradiction", text) for text in contradictions(lines, spec)]
    found += _conditions(lines, spec)
    measured = [line for line in lines if isinstance(line, Measured)]
    for group, own in by_group(measured):
        name = _group_name(group, spec)
        found += [Finding(each.kind, f"{name}: {each.text}") for each in mismatches(own, spec)]
        found += _schedules(name, own, spec)
    found += _selected(measured, spec)
    found += [Finding("sanity", f"{row} on {name}: {flag}") for row, name, flag in sorted(_flags(measured, spec))]
    wins = find_wins(table, spec) if values == "paper" else None
    found += _unproven(table, spec)
    # A clean accuracy stands in every section, and is said once.
    ordered = sorted(dict.fromkeys(found), key=lambda finding: list(KINDS).index(finding.kind))
    filled = sum(cell.value is not None for _, _, _, cell in table.cells())
    gaps = [Gap(win.difference, wins.n) for win in wins.wins] if wins else []
    if values == "measured":
        gaps = list(leads_of_one_seed(table))
    return TableAudit(spec.number, table.title, filled, tuple(ordered), wins, one_seed(gaps))


def _conditions(lines: Sequence[Line], spec: TableSpec) -> Iterator[Finding]:
    """Rows of a dataset that were measured under different conditions, and so never stand in one column."""
    for dataset in sorted({line.place.group.dataset for line in lines}):
        own = [line.place for line in lines if line.place.group.dataset == dataset]
        for kind, condition in _CONDITIONS.items():
            rows = defaultdict(set)
            for place in own:
                rows[condition(place.group)].add(place.row)
            if len(rows) > 1:
                each = {f"{value}: {', '.join(sorted(names))}" for value, names in rows.items()}
                yield Finding(kind, f"{dataset_label(dataset, spec)}: {listed(each)}")


def _schedules(name: str, lines: Sequence[Measured], spec: TableSpec) -> Iterator[Finding]:
    schedules = {line.record.subject.setting for line in lines} - {""}
    if not spec.compared and len(schedules) > 1:
        yield Finding("setting", f"{name}: one column, though not ranked, of {listed(schedules)}")


def _selected(lines: Sequence[Measured], spec: TableSpec) -> Iterator[Finding]:
    chosen = {
        f"{line.place.row} on {dataset_label(line.place.group.dataset, spec)}"
        + (f" (the best of {subject.looks} looks)" if subject.looks else "")
        for line in lines
        for subject in [line.record.subject]
        if subject.selection == "test"
    }
    if chosen:
        yield Finding("selection", listed(chosen))


def _flags(lines: Sequence[Measured], spec: TableSpec) -> set[tuple[str, str, str]]:
    return {
        (line.place.row, dataset_label(line.place.group.dataset, spec), flag)
        for line in lines
        for flag in line.record.flags
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


def _between(specs: Iterable[TableSpec], tables: Mapping[int, Sequence[Line]]) -> Iterator[Finding]:
    """Clean accuracies of one defense, student and condition that differ from table to table."""
    found: defaultdict[tuple[str, ...], defaultdict[float, set[int]]] = defaultdict(lambda: defaultdict(set))
    for spec in specs:
        for line in tables[spec.number] if spec.subject == "student" else ():
            clean, (dataset, *condition) = line.value("clean"), line.place.group
            if clean is not None and line.position < len(spec.rows):
                row = spec.rows[line.position]
                name = defense_label(row.method or row.label, row.overrides) + line.place.row.removeprefix(row.label)
                key = (name, dataset, str(spec.model_for(dataset)), *map(str, (*condition, line.seed)))
                found[key][clean].add(spec.number)
    for (name, dataset, student, *_), values in sorted(found.items()):
        if len(values) > 1:
            each = {
                f"{Cell(value=100 * clean).text} in Table {', '.join(map(str, sorted(numbers)))}"
                for clean, numbers in values.items()
            }
            yield Finding("clean", f"{name}, {student} on {dataset}: different clean accuracies: {listed(each)}")


def _claims(specs: Sequence[TableSpec]) -> Iterator[CheckedClaim]:
    """What the paper's prose says of the tables, held against all their numbers."""
    files: defaultdict[Path, dict[int, tuple[TableSpec, list[Published]]]] = defaultdict(dict)
    for spec in specs:
        if spec.paper and spec.paper.claims:
            files[spec.paper.claims][spec.number] = (spec, paper_lines(spec))
    for path, tables in files.items():
        yield from check_claims(path, read_claims(path), tables)
