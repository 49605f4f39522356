"""The first table of the first page: defenses in rows, attacks in columns, and all attacks at once before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

from bench.records.wording import seeds_text
from bench.report.leaderboard import samples, schedule
from bench.report.rows import Row, Rows, html, number, number_of_seeds
from bench.tables.cell import DASH, Group
from bench.tables.table import Row as TableRow
from bench.tables.table import Table


def facts(table: Table) -> dict[str, Any]:
    """What the template is given of `bench.tables.build_overview`; its last column, the worst, stands first."""
    groups = [section.group for section in table.sections if section.group]
    labels = [column.label for column in table.columns]
    return {
        "rows": Rows.of("overview", _rows(table)),
        "attacks": [*labels[-1:], *labels[:-1]],
        "filters": {name: list(dict.fromkeys(map(text, groups))) for name, text in _SHARED.items()},
        "notes": table.notes,
    }


_SHARED: dict[str, Callable[[Group], str]] = {
    "Dataset": lambda group: group.dataset,
    "Student": lambda group: group.model or "teachers",
    "Protocol": lambda group: group.protocol,
    "Schedule": schedule,
    "Images": lambda group: f"{samples(group)} images",
}
"""What rows must share to be compared: the columns that say it."""


def _rows(table: Table) -> Iterator[Row]:
    """Those that compare together, the one that withstands all attacks best first."""
    for i, section in enumerate(table.sections):
        assert section.group is not None, "its sections are groups"
        for row in sorted(section.rows, key=_place):
            yield Row((html(row.label), *_said(section.group), *_numbers(row)), group=i)


def _place(row: TableRow) -> tuple[bool, float]:
    worst = row.cells[-1]
    return worst.ranked is None, -(worst.shown or 0)


def _said(group: Group) -> Iterator[Markup]:
    return (html(text(group)) for text in _SHARED.values())


def _numbers(row: TableRow) -> Iterator[Markup]:
    """The worst, without attack and under each; the seeds, and with each number how many where it is of fewer."""
    seeds = {each.record.subject.seed for cell in row.cells if cell.evidence for each in cell.evidence.measured} - {
        None
    }
    for cell in (row.cells[-1], *row.cells[:-1]):
        yield number_of_seeds(cell) if cell.seeds == len(seeds) else number(cell)
    yield html(seeds_text(seed for seed in seeds if seed is not None) or DASH)
