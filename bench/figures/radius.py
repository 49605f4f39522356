"""Accuracy over the radius of the attack, from the radius that each sample was fooled at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.evaluation.suites import CURVES
from bench.figures.page import COLOURS, COLUMN, Drawing, add_legend, file_name, new_figure, styled
from bench.records.outcomes import unpack_radii
from bench.records.record import Record
from bench.records.wording import protocol_text
from bench.stats import wilson_interval
from bench.system.text import defense_label
from bench.threat import NORM_TEXT

CURVE, CHECK = CURVES
_DASHES = ("-", "--", ":", "-.", (0, (1, 3)))
"""Tell curves apart that have one colour."""
_POINTS = 101
"""Radii at which the numbers are written down."""
REACH = 2.0
"""How many of the dataset's radii are drawn."""


@dataclass(frozen=True)
class Curve:
    """One network's accuracy over the radius.

    Attributes:
        record: that it is of. label: the defense.
        radii: of each sample, shape (n,); infinite where nothing was found, 0 where it is wrong without attack.
        checked: radii of the checking attack, and the accuracy at each, in [0, 1].
    """

    record: Record
    label: str
    radii: np.ndarray
    checked: Sequence[tuple[float, float]]

    @property
    def median(self) -> float:
        """The radius that half of the samples are right at."""
        return float(np.median(self.radii))

    def at(self, radius: float) -> tuple[float, float, float]:
        """Accuracy at a radius with its 95 % interval (Wilson), in [0, 1]."""
        right = int((self.radii > radius).sum())
        return right / len(self.radii), *wilson_interval(right, len(self.radii))


def curves(records: Iterable[Record], datasets: Sequence[str] | None = None) -> list[Curve]:
    """The curves of students whose radii were measured, the newest of each network and threat."""
    newest: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=lambda each: (each.created, each.id)):
        if CURVE not in record.results or record.results[CURVE].radii is None or record.subject.kind == "teacher":
            continue
        if datasets is None or record.data.name in datasets:
            subject, data = record.subject, record.data
            key = (subject.run, subject.checkpoint, record.conduct, data.name, data.fingerprint, str(data.threat))
            newest[key] = record
    return [_curve(record) for record in newest.values()]


def grouped(found: Iterable[Curve]) -> list[list[Curve]]:
    """The curves of each data set, student, setting, protocol and threat, the largest median first."""
    groups: defaultdict[tuple[Any, ...], list[Curve]] = defaultdict(list)
    for curve in found:
        record = curve.record
        subject, data = record.subject, record.data
        key = (data.name, data.fingerprint, str(data.threat), subject.model, subject.setting, record.conduct)
        groups[key].append(curve)
    return [sorted(own, key=lambda each: (-each.median, each.label)) for _, own in sorted(groups.items())]


def draw(records: Iterable[Record], datasets: Sequence[str] | None = None) -> list[Drawing]:
    """A figure for each group of curves.

    Raises:
        BenchError: there is none.
    """
    groups = grouped(curves(records, datasets))
    if not groups:
        raise BenchError(
            "No record has the radii of its samples, so there is no curve over the radius to draw.\n"
            "Measure some first: bench eval --suite curve."
        )
    return [_figure(own) for own in groups]


def radius_text(value: float) -> str:
    """A radius for readers; an infinite one is beyond all that was found."""
    return f"{value:.3g}" if np.isfinite(value) else "beyond all found"


def _curve(record: Record) -> Curve:
    result, n = record.results[CURVE], record.data.n
    assert result.radii is not None
    subject = record.subject
    label = defense_label(subject.label, subject.overrides) + (f", seed {subject.seed}" if subject.seed else "")
    return Curve(record, label, unpack_radii(result.radii, n), list(_checks(record)))


def _checks(record: Record) -> Iterator[tuple[float, float]]:
    result = record.results.get(CHECK)
    if result is None or result.radii is None:
        return
    found, eps = unpack_radii(result.radii, record.data.n), result.parameters["eps"]
    for share in result.parameters["shares"]:
        # The radii are float32 in the record: a share of eps lies on one of them up to that.
        yield share * eps, float((found > share * eps * (1 + 1e-6)).mean())


def _figure(own: Sequence[Curve]) -> Drawing:
    record = own[0].record
    data, threat, model = record.data, record.data.threat, record.subject.model
    radii = np.linspace(0, REACH * data.eps, _POINTS)
    with styled():
        figure = new_figure(COLUMN, 2.4)
        axes = figure.subplots()
        for i, curve in enumerate(own):
            colour = COLOURS[i % len(COLOURS)]
            steps = np.array([curve.at(radius) for radius in radii]) * 100
            style = _DASHES[i // len(COLOURS) % len(_DASHES)]
            axes.plot(
                radii,
                steps[:, 0],
                color=colour,
                linestyle=style,
                label=f"{curve.label} (median {radius_text(curve.median)})",
            )
            axes.fill_between(radii, steps[:, 1], steps[:, 2], color=colour, alpha=0.12, linewidth=0)
            if curve.checked:
                axes.plot(*zip(*((r, 100 * a) for r, a in curve.checked), strict=True), ".", color=colour, markersize=3)
        axes.axvline(data.eps, color="#888888", linewidth=0.5, linestyle="--")
        axes.set_xlim(0, REACH * data.eps)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"Radius of the attack, {NORM_TEXT[threat.norm]} (vertical: {threat.text})")
        axes.set_ylabel("Accuracy (%)")
        add_legend(figure, columns=2)
    slug = f"{record.subject.setting} {record.conduct} {threat} n{data.n}"
    rows = [_row(curve, radius) for curve in own for radius in radii]
    return Drawing(file_name(f"radius_{data.name}_{model}", slug), figure, rows, _caption(own, record))


def _row(curve: Curve, radius: float) -> dict[str, Any]:
    accuracy, low, high = curve.at(radius)
    subject, data = curve.record.subject, curve.record.data
    where = {"dataset": data.name, "student": subject.model, "setting": subject.setting, "norm": data.norm}
    numbers = {"radius": radius, "accuracy": accuracy, "low": low, "high": high, "median": curve.median}
    return {"row": curve.label, **where, "n": data.n} | {key: f"{value:.6g}" for key, value in numbers.items()}


def _caption(own: Sequence[Curve], record: Record) -> str:
    data, checked = record.data, any(curve.checked for curve in own)
    return (
        f"Accuracy of {record.subject.model} on {data.name} over the radius ({NORM_TEXT[data.norm]}), by FMN "
        f"({protocol_text(record.conduct)}), {record.subject.setting}, the first {data.n} of {data.total} test "
        "samples. Bands: Wilson's 95 % interval at each radius; median: the radius at which half of the samples are "
        "right." + " Dots: PGD-SAT at that radius; below its curve they show nearer images that FMN missed." * checked
    )
