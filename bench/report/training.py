"""How every run came to its weights: accuracies and losses over the epochs, and what was selected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.errors import BenchError
from bench.figures import curves
from bench.records.record import Record
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, all_runs
from bench.system.home import Home
from bench.system.text import defense_label
from bench.tables.cell import DASH, Cell
from bench.tables.plain import PlainTable

MOST_POINTS, LEAST_POINTS = 100, 8
"""Epochs of a run that are drawn; of longer runs each k-th and the last."""
ALL_POINTS = 2000
"""Epochs of all runs together, so that the page stays small."""


def runs_of(home: Home, datasets: Sequence[str] | None) -> list[tuple[RunFolder, RunConfig]]:
    """All runs of a home on some datasets (None: all), with their configurations."""
    found = ((folder, folder.config()) for folder in all_runs(home))
    return [(folder, config) for folder, config in found if datasets is None or config.data.name in datasets]


def figure_3(home: Home, runs: Sequence[tuple[RunFolder, RunConfig]]) -> list[str]:
    """Ids of the runs that the paper's Figure 3 sets side by side; none where there is no such pair."""
    try:
        pair = [folder.id for folder in curves.choose(home, [])]
    except BenchError:
        return []
    known = {folder.id for folder, _ in runs}
    return pair if known.issuperset(pair) else []


def chart(runs: Sequence[tuple[RunFolder, RunConfig]], whole: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What the page's charts draw: for each run that has been looked at, accuracies in per cent and loss terms.

    Args:
        runs: to draw. whole: ids of those that are drawn with as many epochs as one run may have.
    """
    each = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // max(len(runs), 1)))
    found = (
        _facts(folder, config) | _series(folder, config, MOST_POINTS if folder.id in whole else each)
        for folder, config in runs
    )
    return [run for run in found if run["accuracies"]["epoch"] or run["terms"]["epoch"]]


def _facts(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    selected = folder.summary()
    return {
        "id": folder.id,
        "name": _name(config),
        "about": f"{config.student} on {config.data.name}, {config.setting}, seed {config.seed}",
        "trained": trained_with(config),
        "looked": curves.looked_at(config),
        "selected": selected.selected_epoch if selected else None,
    }


def _series(folder: RunFolder, config: RunConfig, most: int) -> dict[str, Any]:
    accuracies: dict[int, dict[str, float]] = {}
    for row in curves.rows(folder, config):
        named = {f"{row['model']}, {kind}": row[kind] for kind in ("clean", "robust")}
        accuracies.setdefault(row["epoch"], {}).update(named)
    terms = {
        line["epoch"]: line["terms"]
        for line in folder.metrics()
        if line["kind"] == "epoch" and isinstance(line.get("terms"), dict)
    }
    return {"accuracies": _columns(accuracies, most), "terms": _columns(terms, most)}


def _columns(by_epoch: Mapping[int, Mapping[str, Any]], most: int) -> dict[str, Any]:
    """`epoch`, and under `values` each name's number at each of those epochs; None where there is none.

    `step`: only every `step`-th epoch of the log is there, and the last.
    """
    epochs = list(by_epoch)
    step = max(1, -(-len(epochs) // most))
    shown = [*epochs[:-1:step], *epochs[-1:]]
    names = dict.fromkeys(name for epoch in shown for name in by_epoch[epoch])
    values = {name: [_number(by_epoch[epoch].get(name)) for epoch in shown] for name in names}
    return {"epoch": shown, "values": values, "step": step}


def _number(value: Any) -> float | None:
    """A number to four significant digits; None for what is none, as JSON has no infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def _name(config: RunConfig) -> str:
    role = f" ({config.role} teacher)" if config.role else ""
    return defense_label(config.label, config.overrides) + role


def trained_with(config: RunConfig) -> str:
    """Optimizer, schedule, augmentation, and what goes with the defense: an average, perturbed weights."""
    optimizer, schedule = config.optimizer, config.schedule
    words = [f"{optimizer.kind}, rate {optimizer.lr:g}"]
    if optimizer.weight_decay:
        whose = "" if optimizer.decay_norms else ", not of norms and biases"
        words.append(f"decay {optimizer.weight_decay:g}{whose}")
    words += [f"gradients up to {optimizer.clip:g}"] if optimizer.clip else []
    words.append(schedule.kind + (f" after {schedule.warmup:g} epochs of warm-up" if schedule.warmup else ""))
    words.append(config.augmentation.kind)
    words += [f"average: {config.average}"] if config.average else []
    words += [f"AWP {config.awp.gamma:g} from epoch {config.awp.from_epoch}"] if config.awp else []
    return "; ".join(words)


def table(runs: Sequence[tuple[RunFolder, RunConfig]]) -> PlainTable:
    """Every run: how far it is, and which epoch was selected on which images."""
    headers = (
        *("Defense", "Student", "Dataset", "Schedule", "Trained with"),
        *("Seed", "State", "Selected", "Run", "Hours"),
    )
    return PlainTable("Runs", headers, tuple(_row(folder, config) for folder, config in runs))


def _row(folder: RunFolder, config: RunConfig) -> tuple[str, ...]:
    summary = folder.summary()
    about: tuple[str, ...] = (_name(config), config.student, config.data.name, config.setting, trained_with(config))
    about += (str(config.seed), str(folder.state()))
    if summary is None:
        return (*about, DASH, folder.id, DASH)
    selected = f"epoch {summary.selected_epoch}, {summary.selected_on}"
    return (*about, selected, folder.id, Cell(value=summary.seconds / 3600, unit="h").text)


def costs(records: Iterable[Record]) -> PlainTable:
    """What training took, as the records say: a row a run."""
    headers = ("Defense", "Student", "Dataset", "Schedule", "Device", "Seed", "Hours")
    notes = ("Hours: all sittings together, without the teachers' training. Different devices do not compare.",)
    rows = {
        (record.data.name, subject.model, subject.label, subject.checkpoint): (
            *(defense_label(subject.label, subject.overrides), subject.model, record.data.name, subject.setting),
            subject.training.device,
            DASH if subject.seed is None else str(subject.seed),
            Cell(value=subject.training.seconds / 3600, unit="h").text,
        )
        for record in records
        if (subject := record.subject).training is not None
    }
    return PlainTable("Cost of training", headers, tuple(row for _, row in sorted(rows.items())), notes)
