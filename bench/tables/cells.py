"""From lines to cells: a number for each place and quantity, seeds averaged."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bench.records.measurement import Quantity
from bench.tables.cell import Cell, Evidence
from bench.tables.lines import Line, Measured, Place, places

Cells = dict[tuple[Place, Quantity], Cell]
"""What is missing has no entry."""


def measure(lines: Iterable[Line], quantities: Collection[Quantity]) -> Cells:
    """The cells of lines that hold each seed of a place once."""
    return {
        (place, quantity): cell
        for place, its_lines in places(lines)
        for quantity, cell in averaged(its_lines, quantities).items()
    }


def averaged(lines: Sequence[Line], quantities: Collection[Quantity]) -> dict[Quantity, Cell]:
    """The numbers of some seeds of one place, averaged."""
    origin = _Origin.of(lines)
    cells: dict[Quantity, Cell] = {}
    for quantity in quantities:
        values = [line.value(quantity) for line in lines]
        known = [value for value in values if value is not None]
        if known:
            of = [line for line, value in zip(lines, values, strict=True) if value is not None]
            whole = len(of) == len(lines) and quantity != "overfitting"
            cells[quantity] = _cell(of, known, quantity, origin if whole else _Origin.of(of, quantity))
    return cells


class _Origin(NamedTuple):
    """Where numbers come from; all of a place share it, mostly."""

    selection: tuple[str, ...]
    flags: tuple[str, ...]
    records: tuple[str, ...]
    evidence: Evidence

    @classmethod
    def of(cls, lines: Sequence[Line], quantity: Quantity = "robust") -> _Origin:
        n = lines[0].place.group.n
        measured = [line for line in lines if isinstance(line, Measured)]
        if not measured:
            return cls((), (), (), Evidence(n, published=(lines[0].value("clean"), lines[0].value("robust"))))
        others = [line.other.record for line in measured if line.other and quantity == "overfitting"]
        records = [*(line.record for line in measured), *others]
        return cls(
            selection=tuple(sorted({record.subject.selection for record in records})),
            flags=tuple(sorted({flag for record in records for flag in record.flags})),
            records=tuple(sorted(record.id for record in records)),
            evidence=Evidence(n, tuple(line.measurement for line in measured)),
        )


def _cell(lines: Sequence[Line], values: Sequence[float], quantity: Quantity, origin: _Origin) -> Cell:
    """One number from one line and value for each seed."""
    single, cost = len(lines) == 1, quantity == "cost"
    scale = 1 if cost else 100
    interval = lines[0].interval(quantity) if single else None
    return Cell(
        value=scale * (float(values[0]) if single else float(np.mean(values))),
        group=lines[0].place.group,
        std=None if single else scale * float(np.std(values, ddof=1)),
        interval=None if interval is None else (scale * float(interval[0]), scale * float(interval[1])),
        seeds=len(lines),
        # What it takes does not depend on what was selected, or how it was attacked.
        selection=() if cost else origin.selection,
        flags=() if cost else origin.flags,
        records=origin.records,
        signed=quantity == "overfitting",
        unit="h" if cost else "%",
        evidence=origin.evidence,
    )
