"""`bench status`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from bench.cli.options import home_option
from bench.system.home import Home


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON: one entry a run.")
@home_option
@click.pass_obj
def command(home: Home, as_json: bool) -> None:
    """Show method x student x dataset: not run, running (epoch, time left), interrupted, trained, evaluated."""
    from bench import registry
    from bench.jobs import status
    from bench.records.index import home_records

    records = home_records(home)
    found = status.standings(home, records)
    if as_json:
        click.echo(json.dumps([asdict(run) for run in found], indent=1))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    titles, rows = status.grid(found, registry.names("methods"))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ["method", *titles]:
        table.add_column(escape(title), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)
    for name, flag in status.failed_checks(records):
        click.echo(f"Flag: {name}: {flag}")
