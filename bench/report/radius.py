"""Accuracy over the radius of the attack: what the page's chart draws, and each network's median radius."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bench.figures.radius import REACH, Curve, radius_text
from bench.records.wording import protocol_text
from bench.report.classes import MOST_NETWORKS
from bench.report.leaderboard import interval_text
from bench.report.rows import Row, html, number_of_seeds
from bench.system.text import defense_label
from bench.tables.cell import DASH, Cell
from bench.tables.plain import PlainTable
from bench.threat import NORM_TEXT

SHARES = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Of the dataset's radius: where the table has numbers."""
_POINTS = 81
"""Radii of a curve in the chart; the eight of the check are among them."""


def chart(groups: Iterable[Sequence[Curve]]) -> dict[str, Any]:
    """What the page's chart draws: for each choice of a reader how many samples of each network are right at radii.

    `intervals` holds Wilson's interval, in per cent, once for each number of right ones in a number of samples.
    """
    intervals: dict[str, tuple[float, float]] = {}
    choices = []
    for group in groups:
        data = group[0].record.data
        radii = np.linspace(0, REACH * data.eps, _POINTS)
        networks = []
        for curve in group[:MOST_NETWORKS]:
            points = [curve.at(radius) for radius in radii]
            right = [round(accuracy * data.n) for accuracy, _, _ in points]
            for count, (_, low, high) in zip(right, points, strict=True):
                intervals[f"{count}/{data.n}"] = (round(100 * low, 1), round(100 * high, 1))
            checked = [(_short(radius), round(100 * accuracy, 2)) for radius, accuracy in curve.checked]
            networks.append(
                {"name": curve.label, "median": radius_text(curve.median), "right": right, "checked": checked}
            )
        choices.append(
            {
                "about": _about(group[0]),
                "axis": f"Radius of the attack, {NORM_TEXT[data.norm]}",
                "threat": data.threat.text,
                "n": data.n,
                "eps": _short(data.eps),
                "radii": [_short(radius) for radius in radii],
                "networks": networks,
                "left_out": len(group) - len(networks),
            }
        )
    return {"choices": choices, "intervals": intervals}


def table(groups: Iterable[Sequence[Curve]]) -> PlainTable:
    """Every network's median radius, and its accuracy at a few radii."""
    headers = ("Defense", "Student", "Dataset", "Threat", "Protocol", "Schedule", "Seed", "n", "Median radius")
    at = tuple(f"{share:g} eps %" if share else "No attack %" for share in SHARES)
    notes = (
        "Median radius: half of the samples are right at it, in the norm of the threat, whose radius is eps. "
        "Intervals: Wilson's, 95 %.",
        "By FMN, which looks for the nearest image that fools a network; PGD, 1 eps: what PGD-SAT leaves at the radius "
        "eps. Where that is lower, FMN missed nearer images, and PGD's number is the one to trust.",
    )
    rows = tuple(
        (*_where(curve), *(f"{cell.text} ({interval_text(cell)})" if cell.interval else cell.text for cell in cells))
        for group in groups
        for curve in group
        for cells in [_cells(curve)]
    )
    return PlainTable("Accuracy over the radius", (*headers, *at, "PGD, 1 eps %"), rows, notes)


def to_rows(groups: Iterable[Sequence[Curve]]) -> Iterator[Row]:
    """The table's rows as the page shows them; those that compare with each other have one group."""
    for i, group in enumerate(groups):
        for curve in group:
            yield Row((*map(html, _where(curve)), *map(number_of_seeds, _cells(curve))), group=i)


def _where(curve: Curve) -> tuple[str, ...]:
    subject, data = curve.record.subject, curve.record.data
    return (
        *(defense_label(subject.label, subject.overrides), subject.model, data.name, data.threat.text),
        *(curve.record.conduct, subject.setting, DASH if subject.seed is None else str(subject.seed)),
        *(_samples(curve), radius_text(curve.median)),
    )


def _cells(curve: Curve) -> Iterator[Cell]:
    eps = curve.record.data.eps
    for accuracy, low, high in (curve.at(share * eps) for share in SHARES):
        yield Cell(value=100 * accuracy, interval=(100 * low, 100 * high))
    checked = next((accuracy for radius, accuracy in curve.checked if math.isclose(radius, eps)), None)
    yield Cell(value=None if checked is None else 100 * checked)


def _about(curve: Curve) -> str:
    record = curve.record
    subject, data = record.subject, record.data
    conditions = (data.name, subject.model, data.threat.text, subject.setting, protocol_text(record.conduct))
    return " · ".join((*conditions, f"{_samples(curve)} images"))


def _samples(curve: Curve) -> str:
    data = curve.record.data
    return str(data.n) if data.n == data.total else f"{data.n} of {data.total}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
