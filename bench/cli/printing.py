"""Rows on the screen, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from bench.errors import printable

Row = Mapping[str, Any]


def show(rows: Sequence[Row], as_json: bool, if_empty: str = "") -> None:
    """Print rows as a table, or as JSON; a plug-in that is broken is named below the table."""
    if as_json:
        show_json(rows)
        return
    whole = [row for row in rows if "broken" not in row]
    if not rows:
        click.echo(if_empty)
    if whole:
        columns = list(dict.fromkeys(key for row in whole for key in row))
        show_table(columns, ([printable(str(row.get(column, ""))) for column in columns] for row in whole))
    for row in rows:
        if "broken" in row:
            click.echo(f"Broken: {row['broken']}", err=True)


def show_table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; names in it are never read as markup."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(escape(title), overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    # A pipe or a file has no width of its own; there, nothing is gained by folding.
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=200)).print(table)


def show_json(content: Any) -> None:
    """Print plain values as JSON."""
    click.echo(json.dumps(content, indent=1))
