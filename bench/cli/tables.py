"""`bench tables`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bench.cli.options import home_option
from bench.errors import BenchError
from bench.system.home import Home

FORMATS = ("markdown", "latex", "csv", "json")


@click.command("tables")
@click.option("--table", "numbers", type=click.IntRange(min=0), multiple=True, help="Number; default: 0 and 3 to 7.")
@click.option(
    "--values",
    type=click.Choice(["measured", "paper", "compare"]),
    default="measured",
    show_default=True,
    help="Ours, the paper's, or both side by side with the difference.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    help="Default: markdown, latex; audit: text.",
)
@click.option("--datasets", metavar="A,B", help="Only these column groups; default: the paper's and all measured.")
@click.option("--student", metavar="NAME", help="Show students of this architecture instead of each table's own.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: HOME/results/tables.")
@click.option("--audit", is_flag=True, help="Print what is wrong or fragile in the tables, and write no file.")
@click.option(
    "--order",
    metavar="DATASET",
    help="Print whether our rows come in the order of the paper's on this dataset of its own (cifar10).",
)
@home_option
@click.pass_obj
def command(
    home: Home,
    numbers: tuple[int, ...],
    values: str,
    formats: tuple[str, ...],
    datasets: str | None,
    student: str | None,
    out: Path | None,
    audit: bool,
    order: str | None,
) -> None:
    """Render tables from all records; a cell that was not measured is a dash."""
    from bench.records.index import home_records
    from bench.system.garbage import no_collection
    from bench.tables import render_tables

    wanted = [name.strip() for name in datasets.split(",") if name.strip()] if datasets else None
    if audit or order is not None:
        _check_printed(audit, order, out, values, formats)
        if order is None:
            _audit(home, numbers, values, wanted, student, formats)
        else:
            _order(home, numbers, order, wanted, student)
        return
    if "json" in formats:
        raise BenchError("--format json is an audit's.\nTables for machines come as --format csv; or add --audit.")
    with no_collection():
        paths = render_tables(
            home_records(home),
            numbers=numbers or None,
            values=values,
            formats=formats or ("markdown", "latex"),
            datasets=wanted,
            out=out or home.tables,
            extra_specs=home.specs,
            student=student,
        )
    for path in paths:
        click.echo(path)


def _check_printed(audit: bool, order: str | None, out: Path | None, values: str, formats: tuple[str, ...]) -> None:
    """Refuse what makes no sense with a text that is printed."""
    if out is not None:
        name = "--audit" if audit else "--order"
        raise BenchError(f"{name} prints, and has no use for --out.\nLeave --out away, or redirect: > FILE.")
    if audit and order is not None:
        raise BenchError("--audit and --order are two texts.\nAsk for one after the other.")
    if order is not None and (values != "measured" or formats):
        raise BenchError("--order holds measured numbers against published ones.\nLeave --values and --format away.")


def _order(
    home: Home, numbers: tuple[int, ...], paper_dataset: str, datasets: list[str] | None, student: str | None
) -> None:
    """Print which way round our pairs of rows are."""
    from bench.analysis.order import compare_order, to_text
    from bench.records.index import home_records

    orders = compare_order(home_records(home), paper_dataset, numbers or None, datasets, home.specs, student)
    click.echo(to_text(orders, paper_dataset), nl=False)


def _audit(
    home: Home,
    numbers: tuple[int, ...],
    values: str,
    datasets: list[str] | None,
    student: str | None,
    formats: tuple[str, ...],
) -> None:
    """Print an audit, as text or as JSON."""
    from bench.analysis.audit import audit_tables
    from bench.analysis.audit_text import to_json, to_text
    from bench.records.index import home_records

    if values not in ("measured", "paper"):
        raise BenchError("An audit is of measured or of published numbers.\nGive --values measured or --values paper.")
    if formats not in ((), ("json",)):
        raise BenchError("An audit comes as text, or with --format json as JSON.\nLeave the other formats away.")
    found = audit_tables(
        home_records(home),
        numbers or None,
        "paper" if values == "paper" else "measured",
        datasets,
        home.specs,
        student,
    )
    click.echo(json.dumps(to_json(found), indent=1) if formats else to_text(found), nl=bool(formats))
