"""`bench tables`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli import options
from bench.cli.help import Command
from bench.cli.printing import show_json
from bench.errors import BenchError
from bench.system.home import Home

FORMATS = ("markdown", "latex", "csv", "json")


@click.command("tables", cls=Command, examples=["bench tables --table 3 --datasets cifar10 --values compare"])
@click.option("--table", "numbers", type=click.IntRange(min=0), multiple=True, help="Number; default: 0 and 3 to 7.")
@click.option(
    "--values",
    type=click.Choice(["measured", "paper", "compare"]),
    default="measured",
    help="Ours, the paper's, or both side by side with the difference.",
)
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Default: markdown, latex; audit: text."
)
@options.datasets_option("Only these column groups; default: the paper's and all measured.")
@click.option("--student", metavar="NAME", help="Show students of this architecture instead of each table's own.")
@options.out_option("Default: HOME/results/tables.")
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
    numbers: tuple[int, ...],
    values: Any,
    formats: tuple[str, ...],
    datasets: list[str] | None,
    student: str | None,
    out: Path | None,
    audit: bool,
    order: str | None,
) -> None:
    """Render tables from all records; a cell that was not measured is a dash."""
    from bench.analysis import audit_text
    from bench.analysis.audit import audit_tables
    from bench.analysis.order import compare_order, to_text
    from bench.records.index import home_records
    from bench.system.garbage import no_collection
    from bench.tables import render_tables

    _check_options(audit, order, out, values, formats)
    shown: dict[str, Any] = {
        "numbers": numbers or None,
        "datasets": datasets,
        "extra_specs": home.specs,
        "student": student,
    }
    if order is not None:
        orders = compare_order(home_records(home), order, **shown)
        click.echo(to_text(orders, order), nl=False)
    elif audit:
        found = audit_tables(home_records(home), values=values, **shown)
        if formats:
            show_json(audit_text.to_json(found))
        else:
            click.echo(audit_text.to_text(found), nl=False)
    else:
        with no_collection():
            paths = render_tables(
                home_records(home),
                values=values,
                formats=formats or ("markdown", "latex"),
                out=out or home.tables,
                **shown,
            )
        for path in paths:
            click.echo(path)


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
    if "json" in formats and not audit:
        raise BenchError("--format json is an audit's.\nTables for machines come as --format csv; or add --audit.")
