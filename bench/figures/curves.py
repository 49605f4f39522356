"""Figure 3 of the CIARD paper: clean and robust accuracy of student and teachers over the epochs, run beside run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.errors import BenchError
from bench.evaluation.suites import FIGURE_3
from bench.figures.page import COLOURS, COLUMN, Drawing, new_figure, styled
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, all_runs, find_run
from bench.system.home import Home
from bench.system.text import settings_text

_LINES = {"student": "-", "robust teacher": "--", "clean teacher": ":"}
_MARKERS = {"student": "o", "robust teacher": "s", "clean teacher": "^"}
_MOST_MARKED = 15
_KINDS = {"robust": "Robust (%)", "clean": "Clean (%)"}
_RUN_FIRST = "Train both first: bench run --method ciard ...; bench run --method mtard ... (or name runs with --run)."


def choose(home: Home, run_ids: Sequence[str]) -> list[RunFolder]:
    """The runs to draw: those named, or the newest CIARD and the newest other two-teacher run of the same setting.

    Raises:
        BenchError: a run that is not there, or no such pair.
    """
    if run_ids:
        return [find_run(home, run_id) for run_id in dict.fromkeys(run_ids)]
    finished = [(folder, folder.config()) for folder in all_runs(home) if folder.finished]
    finished.sort(key=lambda pair: _finished(pair[0]), reverse=True)
    students = [(folder, config) for folder, config in finished if config.role is None and not config.overrides]
    left, right = FIGURE_3
    for folder, config in students:
        if config.method == right:
            others = [other for other, theirs in students if theirs.method != right and _comparable(theirs, config)]
            if others:
                return [min(others, key=lambda other: other.config().method != left), folder]
    raise BenchError(
        f"There is no pair of a CIARD run and another two-teacher run of one setting in {home.runs}.\n{_RUN_FIRST}"
    )


def draw(folders: Sequence[RunFolder]) -> Drawing:
    """The curves of runs, a column each.

    Raises:
        BenchError: a run has looked at its models in no epoch yet.
    """
    configs = [folder.config() for folder in folders]
    points = [row for folder, config in zip(folders, configs, strict=True) for row in rows(folder, config)]
    for folder in folders:
        if not any(row["run"] == folder.id for row in points):
            raise BenchError(f"{folder.id} has no accuracies to draw yet.\nWait for the end of its first epoch.")
    with styled():
        figure = new_figure(max(COLUMN, 1.65 * len(folders)), 2.9)
        grid = figure.subplots(2, len(folders), sharex="col", sharey="row", squeeze=False)
        for column, (folder, config) in enumerate(zip(folders, configs, strict=True)):
            for line, kind in enumerate(_KINDS):
                _panel(grid[line][column], [row for row in points if row["run"] == folder.id], kind)
                if column == 0:
                    grid[line][column].set_ylabel(_KINDS[kind])
            grid[0][column].set_title(_name(config))
            grid[1][column].set_xlabel("Epoch")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, handlelength=2.5)
    name = "curves_" + "_".join(folder.id for folder in folders)
    return Drawing(name, figure, points, _caption(folders, configs))


def _panel(axes: Any, rows: Sequence[dict[str, Any]], kind: str) -> None:
    for colour, model in zip(COLOURS, _LINES, strict=False):
        line = [(row["epoch"], row[kind]) for row in rows if row["model"] == model]
        if not line:
            continue
        epochs, values = zip(*line, strict=True)
        marker = _MARKERS[model] if len(line) <= _MOST_MARKED else None
        axes.plot(
            epochs,
            values,
            _LINES[model],
            color=colour,
            marker=marker,
            markersize=2,
            label=model.capitalize(),
            clip_on=False,
        )
    axes.margins(x=0.02)
    axes.xaxis.get_major_locator().set_params(integer=True)


def rows(folder: RunFolder, config: RunConfig) -> Iterator[dict[str, Any]]:
    """The numbers of one run, per cent: one row for an epoch and a model.

    Raises:
        BenchError: a line's accuracies are none.
    """
    for line in folder.metrics():
        if line["kind"] != "epoch" or not line.get("accuracy"):
            continue
        run = {"run": folder.id, "method": config.method, "seed": config.seed, "epoch": line["epoch"]}
        try:
            known = [(model, line["accuracy"][model]) for model in _LINES if model in line["accuracy"]]
            values = [(model, {kind: round(100 * float(found[kind]), 4) for kind in _KINDS}) for model, found in known]
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise BenchError(
                f"{folder.path / 'metrics.jsonl'} has no accuracies in its line of epoch {line['epoch']}.\n"
                "Restore the file, or start the run again with --restart."
            ) from error
        for model, accuracies in values:
            yield {**run, "model": model, **accuracies}


def looked_at(config: RunConfig) -> str:
    """Which images a run looked at after its epochs, and under which attack, in words."""
    images = "the test set" if config.selection.split == "test" else "held-out training images"
    looked = f"the first {config.selection.limit} of {images}" if config.selection.limit else images
    if config.average is not None:  # what its epochs' lines hold is the average's alone
        looked += f", the student being its average ({config.average})"
    return f"on {looked}; robust: under PGD-{config.selection.steps} crafted on the student, also for the teachers"


def _caption(folders: Sequence[RunFolder], configs: Sequence[RunConfig]) -> str:
    runs = ", ".join(f"{config.label} ({folder.id})" for folder, config in zip(folders, configs, strict=True))
    settings = "; ".join(
        dict.fromkeys(f"{config.student} on {config.data.name}, {config.setting}" for config in configs)
    )
    return f"Accuracy over the epochs {looked_at(configs[0])}. {settings}. Runs: {runs}."


def _name(config: RunConfig) -> str:
    return f"{config.label}\n({settings_text(config.overrides)})" if config.overrides else config.label


def _comparable(one: RunConfig, other: RunConfig) -> bool:
    def key(config: RunConfig) -> tuple[Any, ...]:
        return (config.data.name, config.student, config.setting, config.seed, {ref.role for ref in config.teachers})

    return key(one) == key(other)


def _finished(folder: RunFolder) -> str:
    summary = folder.summary()
    return summary.finished if summary else ""
