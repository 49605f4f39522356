"""A table of texts, for what is no table of the paper: costs, the pages of a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from bench.system import escape


@dataclass(frozen=True)
class PlainTable:
    """Lines of texts below headers; in print the first two columns stand left, all others right.

    Attributes:
        rows: a line of as many texts as there are headers.
        notes: what a reader must know to trust the numbers.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def plain_to_csv(tables: Iterable[PlainTable]) -> str:
    """All tables' rows, each with its table's title, below the headers of the first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for i, table in enumerate(tables):
        if i == 0:
            writer.writerow(("Table", *table.headers))
        writer.writerows([escape.csv(text) for text in (table.title, *row)] for row in table.rows)
    return stream.getvalue()
