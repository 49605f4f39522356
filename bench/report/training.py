"""How every run came to its weights: accuracies and losses over the epochs, and what was selected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bench.config import RunConfig
from bench.errors import BenchError
from bench.figures import curves
from bench.home import Home
from bench.records import Record
from bench.runs import RunFolder, all_runs
from bench.tabulate.cells import defense_label
from bench.tabulate.plain import PlainTable
from bench.tabulate.table import DASH, Cell

MOST_POINTS = 100
"""Epochs of a run that are drawn; of longer runs each k-th and the last."""


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


def chart(runs: Sequence[tuple[RunFolder, RunConfig]]) -> list[dict[str, Any]]:
    """What the page's charts draw: for each run that has been looked at, accuracies in per cent and loss terms."""
    found = ({**_facts(folder, config), **_series(folder, config)} for folder, config in runs)
    return [run for run in found if run["lines"] or run["terms"]]


def _facts(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    selected = folder.summary()
    return {
        "id": folder.id,
        "name": _name(config),
        "about": f"{config.student} on {config.data.name}, {config.setting}, seed {config.seed}",
        "looked": curves.looked_at(config),
        "selected": selected.selected_epoch if selected else None,
    }


def _series(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    lines: dict[str, dict[str, list[Any]]] = {}
    for row in curves.rows(folder, config):
        line = lines.setdefault(row["model"], {"epoch": [], "clean": [], "robust": []})
        for name, values in line.items():
            values.append(_number(row[name]))
    terms: dict[str, list[list[Any]]] = {}
    for logged in folder.metrics():
        if logged["kind"] == "epoch" and isinstance(logged.get("terms"), dict):
            for name, value in logged["terms"].items():
                terms.setdefault(str(name), []).append([logged["epoch"], _number(value)])
    return {
        "lines": {model: {name: _thinned(values) for name, values in line.items()} for model, line in lines.items()},
        "terms": {name: list(zip(*_thinned(points), strict=True)) for name, points in terms.items()},
    }


def _number(value: Any) -> float | None:
    """A number to five significant digits; None for what is none, as JSON has no infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _thinned(values: list[Any]) -> list[Any]:
    step = -(-len(values) // MOST_POINTS)
    return values if step <= 1 else [*values[:-1][::step], values[-1]]


def _name(config: RunConfig) -> str:
    role = f" ({config.role} teacher)" if config.role else ""
    overrides = ", ".join(f"{key}={value}" for key, value in config.overrides.items())
    return config.label + role + (f" ({overrides})" if overrides else "")


def table(runs: Sequence[tuple[RunFolder, RunConfig]]) -> PlainTable:
    """Every run: how far it is, and which epoch was selected on which images."""
    headers = ("Defense", "Student", "Dataset", "Schedule", "Seed", "State", "Selected", "Run", "Hours")
    return PlainTable("Runs", headers, tuple(_row(folder, config) for folder, config in runs))


def _row(folder: RunFolder, config: RunConfig) -> tuple[str, ...]:
    summary = folder.summary()
    about = (_name(config), config.student, config.data.name, config.setting, str(config.seed), str(folder.state()))
    if summary is None:
        return (*about, DASH, folder.id, DASH)
    selected = f"epoch {summary.selected_epoch}, {summary.selected_on}"
    return (*about, selected, folder.id, Cell(value=summary.seconds / 3600, unit="h").text)


def costs(records: Iterable[Record]) -> PlainTable:
    """What training took, as the records say: a row a run."""
    headers = ("Defense", "Student", "Dataset", "Schedule", "Device", "Seed", "Hours")
    notes = ("Hours: all sittings together, without the teachers' training. Different devices do not compare.",)
    rows = {
        (record.data.name, record.subject.model, defense_label(record.subject), record.subject.checkpoint): (
            *(defense_label(subject), subject.model, record.data.name, subject.setting),
            subject.training.device,
            DASH if subject.seed is None else str(subject.seed),
            Cell(value=subject.training.seconds / 3600, unit="h").text,
        )
        for record in records
        if (subject := record.subject).training is not None
    }
    return PlainTable("Cost of training", headers, tuple(row for _, row in sorted(rows.items())), notes)
