"""`bench tables`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import completing, options
from bench.cli.help import Command
from bench.cli.printing import show_json
from bench.errors import BenchError, printable
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Selected

if TYPE_CHECKING:
    from rich.console import Console

    from bench.records.record import Record
    from bench.tables import Table
    from bench.tables.pieces import Piece

FORMATS = ("markdown", "latex", "csv", "json")
_MOST_ROWS = 40
"""Of one table on the screen; its files have all."""
_LABELS = 32
"""Columns of a screen for the names of rows."""


class _Number(click.ParamType):
    """A table's number or name."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        from bench.tables.spec import NAMED

        if text in NAMED:
            return text
        if not text.isdecimal():
            names = ", ".join(f"`{name}`" for name in NAMED)
            self.fail(f"{text!r} is no number of a table, and none of {names}; see `bench list tables`", param, ctx)
        return int(text)


@click.command("tables", cls=Command, examples=["bench tables --table 3 --datasets cifar10 --values compare"])
@click.option(
    "--table",
    "numbers",
    type=_Number(),
    multiple=True,
    help="Number or name; default: overview, unseen, corruptions, 0 and 3 to 7.",
    shell_complete=completing.tables,
)
@click.option(
    "--values",
    type=click.Choice(["measured", "paper", "compare"]),
    default="measured",
    help="Ours, the paper's, or both side by side with the difference.",
)
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Default: markdown, latex; audit: text."
)
@options.datasets_option("Only these; default: the paper's and all measured.")
@click.option(
    "--student",
    metavar="NAME",
    help="Show students of this architecture instead of each table's own.",
    shell_complete=completing.recorded_students,
)
@options.threat_option("Only what was measured under this: linf:8/255.", completing.recorded_threats)
@options.checkpoint_of_option
@click.option(
    "--relative-to",
    metavar="RUN",
    help="corruptions: mCE relative to this run's errors (a naturally trained network's, say).",
    shell_complete=completing.recorded,
)
@click.option("--all-rows", is_flag=True, help="With the paper's rows and data sets that have no number here.")
@options.out_option("Default: HOME/results/tables.")
@click.option("--quiet", is_flag=True, help="Print the files' names alone.")
@options.json_option("Print the tables as JSON, and write no file.")
@click.option("--audit", is_flag=True, help="Print what is wrong or fragile in the tables, and write no file.")
@click.option(
    "--order",
    metavar="DATASET",
    help="Print whether our rows come in the order of the paper's on this dataset of its own (cifar10).",
)
@options.home_option
@click.pass_obj
def command(
    home: Home,
    numbers: tuple[Any, ...],
    values: Any,
    formats: tuple[str, ...],
    datasets: list[str] | None,
    student: str | None,
    threat: Threat | None,
    checkpoint_of: Selected,
    relative_to: str | None,
    all_rows: bool,
    out: Path | None,
    quiet: bool,
    as_json: bool,
    audit: bool,
    order: str | None,
) -> None:
    """Render tables from all records, and print the overview, or those that are named.

    The overview has a row for each defense and a column for each attack. A dash is what was not measured.
    """
    from bench.analysis import audit_text
    from bench.analysis.audit import audit_tables
    from bench.analysis.order import compare_order, to_text
    from bench.records.index import home_records
    from bench.records.networks import measured_under
    from bench.system.garbage import no_collection
    from bench.tables import build_tables, table_content, write_tables

    _check_options(audit, order, out, values, formats)
    if values == "paper" and checkpoint_of != "best":
        raise BenchError("The paper's numbers are of one checkpoint each.\nLeave --checkpoint-of away, or --values.")

    def records(of: Selected | None = checkpoint_of) -> list[Record]:
        return measured_under(home_records(home, of), threat)

    shown: dict[str, Any] = {
        "numbers": numbers or None,
        "datasets": datasets,
        "extra_specs": home.specs,
        "student": student,
        "checkpoint_of": checkpoint_of,
    }
    if order is not None:
        orders = compare_order(records(), order, **shown)
        if checkpoint_of != "best":
            click.echo("Of the last checkpoints.\n")
        click.echo(to_text(orders, order), nl=False)
        return
    if audit:
        found = audit_tables(records(), values=values, **shown)
        if formats or as_json:
            show_json(audit_text.to_json(found))
        else:
            click.echo(audit_text.to_text(found), nl=False)
        return
    with no_collection():
        baseline = None if relative_to is None else _baseline(home, relative_to, checkpoint_of)
        tables = build_tables(records(None), values=values, all_rows=all_rows, baseline=baseline, **shown)
        if as_json:
            show_json([table_content(table) for table in tables])
            return
        paths = write_tables(tables, values, formats or ("markdown", "latex"), out or home.tables)
    if not quiet:
        for table in tables if numbers or values != "measured" else tables[:1]:
            _print(table)
        if not numbers and not all_rows:
            _print_left_out(home, values, {table.number for table in tables})
        click.echo("Files:")
    for path in paths:
        click.echo(path)


def _baseline(home: Home, name: str, checkpoint_of: Selected) -> Record:
    """The newest record of corruptions of the one network of a name."""
    from bench.analysis.find import find_networks
    from bench.records.wording import CORRUPTED

    network, *others = find_networks([name], home, checkpoint_of=checkpoint_of)
    if others:
        raise BenchError(
            f"--relative-to {name} stands for {1 + len(others)} networks.\nName one: {network.name}, for instance."
        )
    found = {each.record.id: each.record for each in network.measured.values() if CORRUPTED.match(each.attack)}
    if not found:
        raise BenchError(
            f"{network.name} was not measured under corruptions.\nDo so: bench eval --suite corruptions --run {name}."
        )
    return max(found.values(), key=lambda record: (record.created, record.id))


def _print_left_out(home: Home, values: str, written: set[Any]) -> None:
    from bench.tables import load_specs

    specs = load_specs(home.specs).values()
    left = [str(each.number) for each in specs if each.default and each.number not in written]
    if left and values == "measured":
        click.echo(f"Not written, as no record fits that no other table shows: {', '.join(left)} (--all-rows: all).\n")


def _print(table: Table) -> None:
    """A table as far as a screen holds it: in parts as wide as that is, and its first rows."""
    from rich.console import Console

    from bench.tables.pieces import pieces

    console = Console()
    if not console.is_terminal:
        console = Console(width=80)
    click.echo(printable(table.heading) + "\n")
    if table.remark:
        click.echo(f"{table.remark}\n")
    left = _MOST_ROWS
    for piece in pieces(table):
        if left > 0:
            for line in piece.shared:
                click.echo(printable(line))
            _print_rows(replace(piece, rows=piece.rows[:left]), console)
        left -= len(piece.rows)
    if left < 0:
        click.echo(f"{-left} more rows are in the files.\n")
    for note in table.notes:
        click.echo(printable(note))
    click.echo()


def _print_rows(piece: Piece, console: Console) -> None:
    """The numbers without their spread, how many seeds they are of, and as many columns beside each other as fit."""
    from rich.table import Table as Grid
    from rich.text import Text

    seeds = [sorted({cell.seeds for cell in cells if cell.seeds}) for _, cells in piece.rows]
    labels = [*piece.labels, *["Seeds"] * any(each[-1:] > [1] for each in seeds)]
    rows = [
        ([*map(printable, own), "–".join(map(str, dict.fromkeys((*each[:1], *each[-1:]))))][: len(labels)], cells)
        for (own, cells), each in zip(piece.rows, seeds, strict=True)
    ]
    headers = [Text(printable(name).replace("-", "-\n").replace(" ", "\n"), justify="right") for name in piece.columns]
    widths = [
        2 + max(*map(len, header.plain.split()), *(len(cells[i].brief) for _, cells in rows))
        for i, header in enumerate(headers)
    ]
    for first, last in _parts(widths, console.width - _LABELS):
        grid = Grid(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for label in labels:
            grid.add_column(Text(label), overflow="fold", max_width=_LABELS // len(labels))
        for header in headers[first:last]:
            grid.add_column(header, justify="right", no_wrap=True)
        for own, cells in rows:
            shown = (Text(cell.brief, style="bold" if cell.mark == "best" else "") for cell in cells[first:last])
            grid.add_row(*map(Text, own), *shown)
        with console.capture() as printed:
            console.print(grid)
        click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()) + "\n")


def _parts(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """The columns from first to last that fit side by side, at least one."""
    first = 0
    for last in range(1, len(widths) + 1):
        if last == len(widths) or sum(widths[first : last + 1]) > room:
            yield first, last
            first = last


def _check_options(audit: bool, order: str | None, out: Path | None, values: str, formats: tuple[str, ...]) -> None:
    """Refuse what makes no sense with a text that is printed, or without one."""
    if out is not None and (audit or order is not None):
        name = "--audit" if audit else "--order"
        raise BenchError(f"{name} prints, and has no use for --out.\nLeave --out away, or redirect: > FILE.")
    if audit and order is not None:
        raise BenchError("--audit and --order are two texts.\nAsk for one after the other.")
    if order is not None and (values != "measured" or formats):
        raise BenchError("--order holds measured numbers against published ones.\nLeave --values and --format away.")
    if audit and values == "compare":
        raise BenchError("An audit is of measured or of published numbers.\nGive --values measured or --values paper.")
    if audit and formats not in ((), ("json",)):
        raise BenchError("An audit comes as text, or with --format json as JSON.\nLeave the other formats away.")
