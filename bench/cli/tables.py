"""`bench tables`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import home_option
from bench.home import Home

FORMATS = ("markdown", "latex", "csv")


@click.command("tables")
@click.option("--table", "numbers", type=click.IntRange(min=1), multiple=True, help="Number; default: 3 to 7.")
@click.option(
    "--values",
    type=click.Choice(["measured", "paper", "compare"]),
    default="measured",
    show_default=True,
    help="Ours, the paper's, or both side by side with the difference.",
)
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Default: markdown and latex.")
@click.option("--datasets", metavar="A,B", help="Only these column groups; default: the paper's and all measured.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Default: HOME/results/tables.")
@home_option
@click.pass_obj
def command(
    home: Home,
    numbers: tuple[int, ...],
    values: str,
    formats: tuple[str, ...],
    datasets: str | None,
    out: Path | None,
) -> None:
    """Render tables from all records; a cell that was not measured is a dash."""
    from bench.records import read_records
    from bench.tabulate import render_tables

    wanted = [name.strip() for name in datasets.split(",") if name.strip()] if datasets else None
    paths = render_tables(
        read_records(home.records),
        numbers=numbers or None,
        values=values,
        formats=formats or ("markdown", "latex"),
        datasets=wanted,
        out=out or home.tables,
        extra_specs=home.specs,
    )
    for path in paths:
        click.echo(path)
