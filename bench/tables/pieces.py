"""A table for reading from top to bottom, on a page or a screen: pieces, with what their columns share above them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from bench.tables.cell import Cell
from bench.tables.table import ColumnGroup, Table, numbered


@dataclass(frozen=True)
class Piece:
    """What belongs side by side, without columns and rows that have no number there.

    Attributes:
        shared: what holds for all of it, or for all columns of a word in their headers; a line each.
        labels: headers of the columns that say what a row is; columns: of those with numbers.
        rows: each with as many labels, and its cells.
    """

    shared: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]


def pieces(table: Table) -> Iterator[Piece]:
    """The pieces of a table: of each group that is a section, or else of each group's columns.

    Where numbers stand beside published ones, those of one data set stay together.
    """
    if table.grouped:
        for section in table.sections:
            columns = range(len(table.columns)) if table.whole else sorted(numbered([section]))
            yield from _piece(table.part(columns, [section]))
        return
    blocks = zip(table.column_groups, table.places, strict=True)
    beside = table.values == "compare"
    for _, together in groupby(enumerate(blocks), key=lambda each: each[1][0].dataset if beside else each[0]):
        yield from _piece(table.part([i for _, (_, own) in together for i in own], table.sections))


def _piece(part: Table) -> Iterator[Piece]:
    if not part.sections:
        return
    words = _words(part.column_groups)
    single = len(part.sections) == 1
    shared = [f"{word}: {block.header}" if word else block.header for word, block in words if block.header]
    if single:
        shared[-1:] = ["; ".join([*shared[-1:], part.sections[0].label])]
    yield Piece(
        shared=tuple(shared),
        labels=part.stub[single:],
        columns=tuple(f"{word} {column.label}".strip() for word, block in words for column in block.columns),
        rows=tuple(
            ((section.label, row.label)[single:], row.cells) for section in part.sections for row in section.rows
        ),
    )


def _words(blocks: tuple[ColumnGroup, ...]) -> list[tuple[str, ColumnGroup]]:
    """Each block with the word that tells its columns from those of others; empty where there is one block."""
    if len(blocks) == 1:
        return [("", blocks[0])]
    words = [block.columns[0].source.capitalize() for block in blocks]
    several, seen = Counter(words), Counter[str]()
    found = []
    for word, block in zip(words, blocks, strict=True):
        seen[word] += 1
        found.append((f"{word} {seen[word]}" if several[word] > 1 else word, block))
    return found
