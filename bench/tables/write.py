"""The way in: render tables to files, or build them to show elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

from bench.errors import BenchError, unknown_name
from bench.records.record import Record
from bench.system.files import write_text_atomically
from bench.tables.build import build_table
from bench.tables.render import to_csv, to_latex, to_latex_document, to_markdown
from bench.tables.spec import TableSpec, load_specs
from bench.tables.table import Table, Values

FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": ("md", to_markdown),
    "latex": ("tex", to_latex),
    "csv": ("csv", to_csv),
}
"""Each format's file suffix and renderer."""


def build_tables(
    records: Iterable[Record],
    numbers: Sequence[int] | None = None,
    values: str = "measured",
    datasets: Sequence[str] | None = None,
    extra_specs: Path | None = None,
    student: str | None = None,
) -> list[Table]:
    """Build tables from records.

    Args:
        records: evaluation records.
        numbers: which tables; none for those whose spec says `default` (0, 3 to 7, and a user's own).
        values: "measured", "paper" or "compare"; measured and published numbers never share a column.
        datasets: show only these; none for those of the spec and all others with results.
        extra_specs: folder with a user's own specs; it need not exist.
        student: architecture of the students shown instead of the table's own; measured values only.

    Raises:
        BenchError: an unknown number, dataset or kind of values, or a spec that is not right.
    """
    known = list(records)
    chosen = choose_specs(known, numbers, values, datasets, extra_specs, student=student)
    return [build_table(spec, known, cast(Values, values), datasets or None) for spec in chosen]


def render_tables(
    records: Iterable[Record],
    numbers: Sequence[int] | None = None,
    values: str = "measured",
    formats: Sequence[str] = ("markdown", "latex"),
    datasets: Sequence[str] | None = None,
    out: Path = Path("results/tables"),
    extra_specs: Path | None = None,
    student: str | None = None,
) -> list[Path]:
    """Render tables to files `tableN.md`, `.tex` and `.csv`, and `tables.tex`, which shows the LaTeX ones.

    The files' names end in `-paper` or `-compare` where the numbers are not only measured ones.

    Args:
        formats: of "markdown", "latex" and "csv".
        out: folder for the files; made if need be.
        records, numbers, values, datasets, extra_specs, student: as for `build_tables`.

    Returns:
        The files written, in order.

    Raises:
        BenchError: as `build_tables`; an unknown format; a folder that cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    tables = build_tables(records, numbers, values, datasets, extra_specs, student)
    return write_tables(tables, values, formats, out)


def write_tables(tables: Sequence[Table], values: str, formats: Sequence[str], out: Path) -> list[Path]:
    """Write tables that are built already; arguments, files and errors as of `render_tables`."""
    ending = "" if values == "measured" else f"-{values}"
    written: list[Path] = []
    for table in tables:
        for name in formats:
            suffix, render = FORMATS[name]
            written.append(out / f"table{table.number}{ending}.{suffix}")
            write_text_atomically(written[-1], render(table))
    if "latex" in formats:
        snippets = [path for path in written if path.suffix == ".tex"]
        written.append(out / f"tables{ending}.tex")
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
