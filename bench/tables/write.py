"""The way in: render tables to files, or build them to show elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from bench.errors import BenchError, unknown_name
from bench.records.record import Record
from bench.system.files import write_text_atomically
from bench.tables.build import build_table
from bench.tables.overview import build_overview
from bench.tables.render import (
    provenance_name,
    to_csv,
    to_json,
    to_latex,
    to_latex_document,
    to_markdown,
    to_provenance,
)
from bench.tables.spec import ANY, OVERVIEW, TableSpec, load_specs
from bench.tables.table import Table, Values
from bench.tables.threats import build_corruptions, build_unseen, has_any
from bench.vocabulary import Selected

Number = int | str

FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": ("md", to_markdown),
    "latex": ("tex", to_latex),
    "csv": ("csv", to_csv),
    "json": ("json", to_json),
}
"""Each format's file suffix and renderer."""


def build_tables(
    records: Iterable[Record],
    numbers: Sequence[Number] | None = None,
    values: str = "measured",
    datasets: Sequence[str] | None = None,
    extra_specs: Path | None = None,
    student: str | None = None,
    all_rows: bool = False,
    checkpoint_of: Selected = "best",
    baseline: Record | None = None,
) -> list[Table]:
    """Build tables from records.

    A table of students of whom there is no record shows those of whom there are some, and its remark says so.

    Args:
        records: evaluation records.
        numbers: which tables, by number or name (`NAMED`); none for the named ones and those whose spec says `default`
            (0, 3 to 7, and a user's own), of which one that would show nothing, or what another shows, is left out.
        values: "measured", "paper" or "compare"; measured and published numbers never share a column.
        datasets: show only these; none for those of the spec and all others with results.
        extra_specs: folder with a user's own specs; it need not exist.
        student: architecture of the students shown instead of the table's own; measured values only.
        baseline: whose errors under corruptions those of the others are relative to (mCE).
        all_rows: with rows and data sets of the specs that have no number, and tables that have none.
        checkpoint_of: of which network of its run a record is to be, the best or the last: never both in one cell. Of
            the others only the robust overfitting is.

    Raises:
        BenchError: an unknown number, dataset or kind of values, or a spec that is not right.
    """
    known = list(records)
    chosen = [record for record in known if record.subject.stands_for(checkpoint_of)]
    wanted = [number for number in numbers or () if not isinstance(number, str)]
    specs = (
        choose_specs(chosen, wanted, values, datasets, extra_specs, student=student) if wanted or not numbers else []
    )
    tables = [build_table(spec, known, cast(Values, values), datasets or None, checkpoint_of) for spec in specs]
    if values == "measured" and student is None:
        tables = list(_with_fallback(specs, tables, known, datasets or None, bool(numbers), checkpoint_of))
    if not numbers and not all_rows:
        tables = list(_without_repetition(specs, tables))
    if values == "measured":
        tables = [*_named(chosen, numbers or (), datasets or None, student, checkpoint_of, baseline), *tables]
    return [replace(table, whole=True) if all_rows else table.filled() for table in tables]


def _named(
    records: Sequence[Record],
    numbers: Sequence[Number],
    datasets: Sequence[str] | None,
    student: str | None,
    checkpoint_of: Selected,
    baseline: Record | None,
) -> Iterator[Table]:
    """The tables that have a name: those asked for, or without any the overview and what else has numbers."""
    makers: dict[str, Callable[[], Table]] = {
        OVERVIEW: lambda: build_overview(records, datasets, student, checkpoint_of),
        "unseen": lambda: build_unseen(records, datasets, student, checkpoint_of),
        "corruptions": lambda: build_corruptions(records, datasets, student, checkpoint_of, baseline),
    }
    for name, make in makers.items():
        if name in numbers or (not numbers and name == OVERVIEW):
            yield make()
        elif not numbers and has_any(records, name) and not (table := make()).empty:
            yield table


def _with_fallback(
    specs: Sequence[TableSpec],
    tables: Sequence[Table],
    records: Sequence[Record],
    datasets: Sequence[str] | None,
    asked: bool,
    checkpoint_of: Selected,
) -> Iterator[Table]:
    """The tables, one without a number with the students that have some; unless it was asked for, with those that no
    other table of its kind has."""
    taken: defaultdict[str, set[str]] = defaultdict(set)
    for spec, table in zip(specs, tables, strict=True):
        taken[_kind(spec)] |= set() if asked else table.students
    for spec, table in zip(specs, tables, strict=True):
        if spec.subject == "teacher" or not table.empty:
            yield table
            continue
        others = [record for record in records if record.subject.model not in taken[_kind(spec)]]
        further = build_table(spec.for_student(ANY), others, "measured", datasets, checkpoint_of)
        taken[_kind(spec)] |= set() if asked else further.students
        if further.empty:
            yield table
            continue
        remark = f"No record of {spec.student or spec.models['default']} fits; shown are the students that have some."
        yield replace(further, remark=remark)


def _without_repetition(specs: Sequence[TableSpec], tables: Sequence[Table]) -> Iterator[Table]:
    """The tables that have a number, and show not just what one before them does."""
    seen: set[tuple[str, frozenset[str]]] = set()
    for spec, table in zip(specs, tables, strict=True):
        shown = (_kind(spec), frozenset(table.students))
        if not table.empty and not (table.students and shown in seen):
            yield table
        seen.add(shown)


def _kind(spec: TableSpec) -> str:
    """The same for tables that differ in the student alone."""
    return spec.model_dump_json(include={"columns", "attacks", "rows", "sections"})


def render_tables(
    records: Iterable[Record],
    numbers: Sequence[Number] | None = None,
    values: str = "measured",
    formats: Sequence[str] = ("markdown", "latex"),
    datasets: Sequence[str] | None = None,
    out: Path = Path("results/tables"),
    extra_specs: Path | None = None,
    student: str | None = None,
    all_rows: bool = False,
    checkpoint_of: Selected = "best",
) -> list[Path]:
    """Build tables and write them, with arguments and errors as of `build_tables` and `write_tables`."""
    check_formats(formats)
    tables = build_tables(records, numbers, values, datasets, extra_specs, student, all_rows, checkpoint_of)
    return write_tables(tables, values, formats, out)


def check_formats(formats: Iterable[str]) -> None:
    """BenchError for a format that is none."""
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)


def write_tables(tables: Sequence[Table], values: str, formats: Sequence[str], out: Path) -> list[Path]:
    """Write tables to files `tableN` and `overview` with the suffix of each format.

    Beside LaTeX lies `tables.tex`, which shows all of it, beside both it and Markdown `provenance.md`. The names end in
    `-paper` or `-compare` where the numbers are not only measured ones; before that `-last` where they are of the last
    checkpoints.

    Args:
        formats: of `FORMATS`.
        out: folder for the files; made if need be.

    Returns:
        The files written, in order.

    Raises:
        BenchError: an unknown format; a folder that cannot be written.
    """
    check_formats(formats)
    ending = "" if values == "measured" else f"-{values}"
    ends = {table.ending for table in tables}
    of = ends.pop() if len(ends) == 1 else ""
    written: list[Path] = []
    for table in tables:
        for name in formats:
            suffix, render = FORMATS[name]
            written.append(out / f"{table.stem}{table.ending}{ending}.{suffix}")
            write_text_atomically(written[-1], render(table))
    if {"markdown", "latex"} & set(formats):
        written.append(out / provenance_name(values, of))
        before = written[-1].read_text(encoding="utf-8") if written[-1].is_file() else ""
        write_text_atomically(written[-1], to_provenance(tables, before))
    if "latex" in formats:
        snippets = [path for path in written if path.suffix == ".tex"]
        written.append(out / f"tables{of}{ending}.tex")
        document = to_latex_document(zip(tables, snippets, strict=True), written[-1].name)
        write_text_atomically(written[-1], document)
    return written


def choose_specs(
    records: Sequence[Record],
    numbers: Sequence[int] | None,
    values: str,
    datasets: Sequence[str] | None,
    extra_specs: Path | None,
    all_by_default: bool = False,
    student: str | None = None,
) -> list[TableSpec]:
    """The specs of the tables asked for; without numbers, of those that are default, or of all.

    Raises:
        BenchError: as `build_tables`.
    """
    if values not in get_args(Values):
        raise unknown_name("kind of values", values, get_args(Values))
    specs = load_specs(extra_specs)
    if student is not None:
        _check_student(student, records, values)
        specs = {number: spec.for_student(student) for number, spec in specs.items()}
    _check_datasets(datasets, records, specs.values())
    if not numbers:
        chosen = [spec for spec in specs.values() if spec.default or all_by_default]
        return [spec for spec in chosen if spec.paper or values == "measured"]
    for number in numbers:
        if number not in specs:
            known = ", ".join(map(str, specs))
            raise BenchError(f"There is no table {number}.\nKnown: {known}; another one is a YAML file in tables/.")
    return [specs[number] for number in dict.fromkeys(numbers)]


def _check_student(student: str, records: Iterable[Record], values: str) -> None:
    if values != "measured":
        raise BenchError("The paper's numbers are those of its own students.\nLeave --student away, or --values.")
    known = {record.subject.model for record in records}
    if student not in known:
        raise unknown_name("student (none of its records are here)", student, known)


def _check_datasets(datasets: Sequence[str] | None, records: Iterable[Record], specs: Iterable[TableSpec]) -> None:
    known = {record.data.name for record in records} | {name for spec in specs for name in spec.datasets}
    for name in datasets or ():
        if name not in known:
            raise unknown_name("dataset (none of its records are here)", name, known)
