"""Rows on the screen, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from bench.errors import printable

Row = Mapping[str, Any]


def show(rows: Sequence[Row], as_json: bool, if_empty: str) -> None:
    """Print rows as a table, or as JSON; a plug-in that is broken is named below the table."""
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    whole = [row for row in rows if "broken" not in row]
    if not rows:
        click.echo(if_empty)
    if whole:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        columns = list(dict.fromkeys(key for row in whole for key in row))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in whole:
            table.add_row(*(escape(printable(str(row.get(column, "")))) for column in columns))
        # A pipe or a file has no width of its own; there, nothing is gained by folding.
        terminal = Console()
        (terminal if terminal.is_terminal else Console(width=200)).print(table)
    for row in rows:
        if "broken" in row:
            click.echo(f"Broken: {row['broken']}", err=True)
