"""Rows on the screen, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from bench.jobs.results import Row as MeasuredRow

Row = Mapping[str, Any]

_GAP = 2
"""Spaces between two columns."""


def show(rows: Sequence[Row], as_json: bool, if_empty: str = "") -> None:
    """Print rows as a table, or as JSON; a plug-in that is broken is named below the table.

    In JSON all rows have the same keys, and null for what a row has not.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if as_json:
        show_json([{column: row.get(column) for column in columns} for row in rows])
        return
    whole = [row for row in rows if row.get("broken") is None]
    if not rows:
        click.echo(if_empty)
    if whole:
        titles = [column for column in columns if column != "broken"]
        show_table(titles, ([_text(row.get(title)) for title in titles] for row in whole))
    for row in rows:
        if row.get("broken") is not None:
            click.echo(f"Broken: {row['broken']}", err=True)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "" if value is None else str(value)


def show_table(titles: Iterable[str], rows: Iterable[Iterable[str]], texts: int | None = None) -> None:
    """Print a table; names in it are never read as markup, nor as codes for the terminal.

    Args:
        texts: how many of the first columns stand left, those behind them right; None: all stand left.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0))
    for place, title in enumerate(titles):
        right = texts is not None and place >= texts
        table.add_column(escape(printable(title)), overflow="fold", justify="right" if right else "left")
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    _screen().print(table)


def fits(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> bool:
    """Whether a table can be printed without folding a text."""
    columns = zip(titles, *rows, strict=True)
    return sum(_width(column) for column in columns) <= _screen().width


def _screen() -> Console:
    """The terminal; a pipe or a file has no width of its own, and there nothing is gained by folding."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=200)


def show_measured(rows: Sequence[MeasuredRow], short: Mapping[str, str]) -> None:
    """Print networks x attacks, and below them the checks that failed.

    What networks must share to be compared stands above the table of those that share it.

    Args:
        short: the shortest name of each network, by its id.
    """
    shared: dict[str, list[MeasuredRow]] = {}
    for row in rows:
        subject = row.network.subject
        where = f"{printable(subject.model)}, {printable(subject.setting)}, on {row.condition}"
        shared.setdefault(where, []).append(row)
    for where, own in shared.items():
        click.echo(f"{where}:")
        for titles, lines in _tables(own, short, _screen().width):
            show_table(titles, lines, texts=3)
        click.echo()
    click.echo("Accuracies in %, with half of the 95 % interval; worst: right without attack and under every attack.")
    for row in rows:
        for flag in row.flags:
            which = row.network.subject.checkpoint_of
            name = row.network.name + (f" ({which})" if which != "best" else "")
            click.echo(printable(f"Flag: {name}: {flag}"))


def _tables(rows: Sequence[MeasuredRow], short: Mapping[str, str], width: int) -> Iterator[tuple[list[str], Any]]:
    """(titles, lines) of as few tables as a width has room for, at most with each interval below its number."""
    from bench.evaluation.suites import strength
    from bench.records.networks import WORST

    attacks = sorted({attack for row in rows for attack in row.measured}, key=strength)
    titles = [attack.replace(":", ":\n") for attack in (*attacks, *[WORST] * any(row.worst for row in rows))]
    names = [
        [short.get(row.network.name, row.network.name), f"{row.defense}{' ‡' if row.flags else ''}", _seed(row)]
        for row in rows
    ]
    heads = ["id", "defense", "seed"]
    room = width - sum(_width([head, *column]) for head, column in zip(heads, zip(*names, strict=True), strict=True))
    for between in (" ", "\n"):
        cells = [[_cell(row, attack, len(attacks) - 1, between) for row in rows] for attack in (*attacks, WORST)]
        columns = list(zip(titles, cells, strict=False))
        if between == "\n" or sum(_width([title, *column]) for title, column in columns) <= room:
            break
    while columns:
        taken, used = 0, 0
        for title, column in columns:
            used += _width([title, *column])
            if taken and used > room:
                break
            taken += 1
        numbers = zip(*(column for _, column in columns[:taken]), strict=True)
        yield [*heads, *dict(columns[:taken])], [[*name, *own] for name, own in zip(names, numbers, strict=True)]
        columns = columns[taken:]


def _seed(row: MeasuredRow) -> str:
    return "–" if row.network.subject.seed is None else str(row.network.subject.seed)


def _cell(row: MeasuredRow, attack: str, of: int, between: str) -> str:
    """`84.1 ±0.7`; of a network that was not measured with all attacks of its table how many it was."""
    result = row.results.get(attack)
    if result is None:
        return "–"
    low, high = result.interval
    over = len(result.parameters["over"]) - ("clean" in row.measured) if attack not in row.measured else of
    note = f" (of {over})" if over < of else ""
    return f"{100 * result.accuracy:.1f}{between}±{50 * (high - low):.1f}{note}"


def _width(texts: Iterable[str]) -> int:
    return _GAP + max(len(line) for text in texts for line in text.split("\n"))


def show_json(content: Any) -> None:
    """Print plain values as JSON."""
    click.echo(json.dumps(content, indent=1))
