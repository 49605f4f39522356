"""Clean against robust accuracy, a point for each defense, with 95 % intervals and lines of equal W-R."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from textwrap import fill
from typing import Any

from bench.errors import BenchError, unknown_name
from bench.evaluation.suites import STRONGEST
from bench.figures.page import COLOURS, COLUMN, Drawing, add_legend, file_name, new_figure, styled
from bench.records.record import Record
from bench.records.wording import attack_text, protocol_text
from bench.tables.cell import Cell, Group
from bench.tables.cells import measure
from bench.tables.lines import newest, tidy
from bench.tables.overview import attack_labels
from bench.tables.spec import AttackSpec, TableSpec
from bench.vocabulary import Selected

_MARKERS = "osD^vP*Xh<p>d"
_LINE = 30
"""Letters in a line of the legend: settings can make a defense's name long."""


@dataclass(frozen=True)
class Point:
    """A defense: its two accuracies, per cent."""

    label: str
    clean: Cell
    robust: Cell


def draw(
    records: Iterable[Record],
    attack: str | None = None,
    datasets: Sequence[str] | None = None,
    checkpoint_of: Selected = "best",
) -> list[Drawing]:
    """A figure for each data set, student, setting and set of images that has two defenses or more.

    Args:
        records: evaluation records; students' alone are drawn.
        attack: result to draw (`pgd-sat`, `transfer:cw-inf`); None: AutoAttack where measured, else PGD.
        datasets: only these.
        checkpoint_of: of which network of its run a record is to be.

    Raises:
        BenchError: nothing to draw, or an unknown attack or data set.
    """
    subjects = [(record, record.subject) for record in records]
    students = [
        record for record, subject in subjects if subject.kind != "teacher" and subject.stands_for(checkpoint_of)
    ]
    measured = {name for record in students for name in record.results if name != "clean"}
    if attack is not None and attack not in measured:
        raise unknown_name("attack (of a record)", attack, measured)
    known = {record.data.name for record in students}
    for name in datasets or ():
        if name not in known:
            raise unknown_name("dataset (none of its records are here)", name, known)
    drawings = []
    for model in sorted({record.subject.model for record in students}):
        own = [record for record in students if record.subject.model == model]
        for name in sorted({record.data.name for record in own} & set(datasets or known)):
            here = [record for record in own if record.data.name == name]
            chosen = attack or next((one for one in STRONGEST if any(one in record.results for record in here)), None)
            drawings += _of_one(here, model, name, chosen, checkpoint_of) if chosen else []
    if not drawings:
        raise BenchError(
            "No two defenses were evaluated alike, so there is no trade-off to draw.\n"
            "Evaluate some first: bench eval --suite whitebox."
        )
    return drawings


def _of_one(records: Sequence[Record], model: str, dataset: str, attack: str, checkpoint_of: Selected) -> list[Drawing]:
    """The figures of one student and data set: one for each group of comparable results."""
    spec = TableSpec(
        number=0,
        title="trade-off",
        access="white-box",
        models={"default": model},
        datasets={dataset: dataset},
        columns=["clean", "robust"],
        attacks=[AttackSpec(result=attack, label=attack)],
        rows=[],
    )
    cells = measure(newest(tidy(records, spec)), spec.columns)
    groups: dict[Group, list[Point]] = {}
    for (place, quantity), cell in sorted(cells.items(), key=lambda item: item[0][0].row.casefold()):
        if quantity == "robust" and (place, "clean") in cells:
            groups.setdefault(place.group, []).append(Point(place.row, cells[place, "clean"], cell))
    return [_figure(points, group, model, attack, checkpoint_of) for group, points in groups.items() if len(points) > 1]


def _figure(points: Sequence[Point], group: Group, model: str, attack: str, checkpoint_of: Selected) -> Drawing:
    inside, spread = _inside(points), _several_seeds(points)
    with styled():
        figure = new_figure(COLUMN, 2.6)
        axes = figure.subplots()
        for i, point in enumerate(inside):
            axes.errorbar(
                [point.clean.value or 0],
                [point.robust.value or 0],
                xerr=_arms(point.clean, spread),
                yerr=_arms(point.robust, spread),
                fmt=_MARKERS[i % len(_MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                markersize=3.5,
                elinewidth=0.4,
                label=fill(point.label, _LINE, break_long_words=False),
            )
        axes.set_xlabel("Clean accuracy (%)")
        axes.set_ylabel(f"Robust accuracy (%), {attack_text(attack, attack_labels(), group.threat)}")
        _weighted_lines(axes)
        add_legend(figure, columns=3)
    last = checkpoint_of == "last"
    slug = f"{group.setting} {group.protocol} n{group.n}{' last' if last else ''}"
    rows = [_row(point, group, model, attack) for point in points]
    outside = [point for point in points if point not in inside]
    caption = _caption(points, outside, group, f"the last checkpoints of {model}" if last else model, attack)
    return Drawing(file_name(f"tradeoff_{group.dataset}_{model}_{attack}", slug), figure, rows, caption)


def _inside(points: Sequence[Point]) -> list[Point]:
    """The points in the frame: an undefended network far below the rest would leave no room to see the rest."""
    middle = median(point.robust.value or 0 for point in points)
    inside = [point for point in points if (point.robust.value or 0) >= middle / 2]
    return inside if len(inside) > 1 else list(points)


def _several_seeds(points: Iterable[Point]) -> bool:
    """Whether a figure's bars are the spread over seeds: those of all points mean the same."""
    return any(point.robust.std is not None for point in points)


def _arms(cell: Cell, spread: bool) -> list[list[float]] | None:
    """Lengths of the error bar below and above: the standard deviation over seeds, or else the interval."""
    if spread:
        return None if cell.std is None else [[cell.std], [cell.std]]
    if cell.value is None or cell.interval is None:
        return None
    return [[max(cell.value - cell.interval[0], 0)], [max(cell.interval[1] - cell.value, 0)]]


def _weighted_lines(axes: Any) -> None:
    """Lines of equal W-R = (clean + robust) / 2 across what is drawn."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for weighted in MaxNLocator(6).tick_values((left + low) / 2, (right + high) / 2):
        axes.plot(
            [left, right], [2 * weighted - left, 2 * weighted - right], color="#BBBBBB", lw=0.5, ls="--", zorder=0
        )
        # Where the line meets the left or the upper edge: few defenses are there.
        x = max(left, 2 * weighted - high)
        y = 2 * weighted - x
        if left <= x < right - 0.15 * (right - left) and low + 0.05 * (high - low) < y <= high:
            text = f"W-R {weighted:g}"
            axes.annotate(
                text, (x, y), xytext=(3, -2), textcoords="offset points", fontsize=5, color="#888888", va="top"
            )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _row(point: Point, group: Group, model: str, attack: str) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, cell in (("clean", point.clean), ("robust", point.robust)):
        low, high = cell.interval or (None, None)
        numbers |= {name: cell.value, f"{name}_low": low, f"{name}_high": high, f"{name}_std": cell.std}
    rounded = {key: "" if value is None else f"{value:.4f}" for key, value in numbers.items()}
    where = {"dataset": group.dataset, "student": model, "setting": group.setting, "protocol": group.protocol}
    return {"row": point.label, **where, "n": group.n, "attack": attack, "seeds": point.robust.seeds, **rounded}


def _caption(points: Sequence[Point], outside: Sequence[Point], group: Group, model: str, attack: str) -> str:
    bars, named = "Wilson's 95 % interval", attack_text(attack, attack_labels(), group.threat)
    if _several_seeds(points):
        single = [point.label for point in points if point.robust.std is None]
        bars = "one standard deviation over training seeds"
        bars += f" (one seed, so none: {', '.join(single)})" if single else ""
    return (
        f"Clean and robust accuracy ({named}, {protocol_text(group.protocol)}, {group.threat.text}) of "
        f"{model} on {group.dataset}, {group.setting}, the first {group.n} of {group.total} test samples. "
        f"Bars: {bars}. Dashed: equal W-R."
        + "".join(f" Outside the frame: {p.label} ({p.clean.text} clean, {p.robust.text} robust)." for p in outside)
    )
