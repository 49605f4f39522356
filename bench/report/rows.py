"""Rows of the pages' tables: a page holds the first ones, a file beside it all of a long table.

The file is a script: from a disk a page may load one, but fetch nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup, escape

from bench.system.text import one_line
from bench.tables.cell import Cell
from bench.tables.plain import PlainTable

MOST_IN_PAGE = 250
"""Rows of a table that its page holds; its script shows as many at once."""
_DIGITS = 12


class Row(NamedTuple):
    """One row: what stands in its cells, as HTML.

    Attributes:
        view: of a leaderboard's row, whether it is one network, a mean over seeds or both.
        group: rows of one number compare with each other; None where none need to.
    """

    cells: tuple[Markup, ...]
    view: str = ""
    group: int | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of the table that is called `name` in its page and among the downloads.

    Attributes:
        in_page: the first ones, which the page holds.
        total: how many there are.
        script: the content of a file with all of them: each text once, and of every row where its texts stand; empty
            where the page holds all.
    """

    name: str
    in_page: Sequence[Row]
    total: int
    script: str

    @classmethod
    def of(cls, name: str, rows: Iterable[Row]) -> Rows:
        """The rows in the order in which they are shown first."""
        in_page: list[Row] = []
        places: dict[str, int] = {}
        lines: list[list[int | None]] = []
        for row in rows:
            if len(in_page) < MOST_IN_PAGE:
                in_page.append(row)
            lines.append([row.group, *(places.setdefault(text, len(places)) for text in (row.view, *row.cells))])
        if len(lines) == len(in_page):
            return cls(name, in_page, len(lines), "")
        content = json.dumps({"texts": list(places), "rows": lines}, separators=(",", ":"))
        script = f"(window.benchRows ??= {{}})[{json.dumps(name)}] = {content};\n"
        return cls(name, in_page, len(lines), script)

    @property
    def files(self) -> str:
        """What the names of this table's files in `rows/` match, those of earlier reports among them."""
        return f"{self.name}-{'?' * _DIGITS}.js"

    @property
    def file(self) -> str:
        """The name of the file with all rows, by its content: no page finds another report's. Empty without one."""
        digest = hashlib.sha256(self.script.encode()).hexdigest()
        return f"{self.name}-{digest[:_DIGITS]}.js" if self.script else ""


def of_texts(table: PlainTable) -> Iterator[Row]:
    """A table's rows as its page shows them."""
    return (Row(tuple(map(html, texts))) for texts in table.rows)


@lru_cache(maxsize=1 << 14)
def html(text: str) -> Markup:
    """A text for a page: escaped, on one line."""
    return escape(one_line(text))


def number(cell: Cell) -> Markup:
    """A number with its interval, or its spread over so many seeds, beneath it; it stands in ten thousands of rows."""
    return Markup(_number(cell, f", {cell.seeds} seeds"))


def number_of_seeds(cell: Cell) -> Markup:
    """As `number`, in a row that says the seeds itself."""
    return Markup(_number(cell))


def number_and_bar(cell: Cell) -> Markup:
    """An accuracy as `number_of_seeds` has it, and its interval drawn from 0 to 100."""
    if not cell.interval:
        return number_of_seeds(cell)
    low, high = cell.interval
    return Markup(f'{_number(cell)}<i class="ci" style="--v:{cell.value:.1f};--l:{low:.1f};--h:{high:.1f}"></i>')


def _number(cell: Cell, seeds: str = "") -> str:
    if cell.shown is None:
        return '<span class="none">–</span>'
    text = cell.text if cell.std is None else cell.text.split(" ")[0] + cell.signs
    kind = "partial" if cell.partial else cell.mark
    text = f'<span class="{kind}">{text}</span>' if kind else text
    if cell.interval:
        text += f"<small>{cell.interval[0]:.1f}–{cell.interval[1]:.1f}</small>"
    elif cell.std is not None:
        text += f"<small>± {cell.std:.2f}{seeds}</small>"
    return text
