"""`bench status`."""

from __future__ import annotations

from dataclasses import asdict

import click

from bench.cli.help import Command
from bench.cli.options import home_option, json_option
from bench.cli.printing import show_json, show_table
from bench.system.home import Home


@click.command("status", cls=Command, examples=["bench status --home results/demo"])
@json_option("As JSON: one entry a run.")
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
        show_json([asdict(run) for run in found])
        return
    titles, rows = status.grid(found, registry.names("methods"))
    show_table(["method", *titles], rows)
    for name, flag in status.failed_checks(records):
        click.echo(f"Flag: {name}: {flag}")
