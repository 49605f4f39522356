"""What exists in a home: runs by method, student and dataset, and which suites they were evaluated under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.records.record import Record
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, all_runs
from bench.system.home import Home
from bench.system.text import defense_label, duration


@dataclass(frozen=True)
class Standing:
    """One run and how far it is."""

    id: str
    method: str
    student: str
    dataset: str
    setting: str
    seed: int
    state: str
    detail: str
    suites: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The cell of the overview: `evaluated: whitebox, blackbox`, `running: epoch 3 of 20, 4 min left`."""
        words = f"{self.state}: {self.detail}" if self.detail else self.state
        return words + (f" ({len(self.flags)} flags)" if self.flags else "")


def standings(home: Home, records: Iterable[Record]) -> list[Standing]:
    """Every student's run of a home, and what its records tell of it."""
    suites, flags = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for record in records:
        if record.subject.run is not None:
            part = "" if record.data.n == record.data.total else f" (n={record.data.n})"
            suites[record.subject.run].append(record.suite + part)
            flags[record.subject.run].extend(record.flags)
    found = []
    for folder in all_runs(home):
        config = folder.config()
        if config.role is None:
            found.append(_standing(folder, config, sorted(set(suites[folder.id])), flags[folder.id]))
    return found


def failed_checks(records: Iterable[Record]) -> list[tuple[str, str]]:
    """(run, or record of a file from elsewhere; flag) for every failed check of an evaluation, each once."""
    found = ((record.subject.run or record.id, flag) for record in records for flag in record.flags)
    return sorted(dict.fromkeys(found))


def _standing(folder: RunFolder, config: RunConfig, suites: list[str], flags: list[str]) -> Standing:
    state, detail = str(folder.state()), ""
    progress = folder.progress()
    if state == "trained" and suites:
        state, detail = "evaluated", ", ".join(suites)
    elif progress is not None and state in ("running", "interrupted"):
        detail = f"epoch {progress.epoch} of {progress.epochs}"
        if state == "running" and progress.seconds_left is not None:
            detail += f", {duration(progress.seconds_left)} left"
    method = defense_label(config.method, config.overrides)
    return Standing(
        folder.id,
        method,
        config.student,
        config.data.name,
        config.setting,
        config.seed,
        state,
        detail,
        suites,
        flags,
    )


def grid(found: Iterable[Standing], methods: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows) of method x (student, dataset, setting); a cell names the state of each of its runs."""
    found = list(found)
    columns = sorted({(run.dataset, run.student, run.setting) for run in found})
    # Before the first run: the grid of the paper, so that a newcomer sees what there is to do.
    columns = columns or [(data, student, "") for data in ("cifar10", "cifar100") for student in PAPER_STUDENTS]
    cells: dict[tuple[str, tuple[str, str, str]], list[Standing]] = defaultdict(list)
    for run in found:
        cells[run.method, (run.dataset, run.student, run.setting)].append(run)
    names = list(dict.fromkeys([*methods, *sorted(run.method for run in found)]))
    rows = [[name, *("\n".join(_cell(cells[name, column])) or "not run" for column in columns)] for name in names]
    return [f"{student} on {data}\n{setting}".strip() for data, student, setting in columns], rows


PAPER_STUDENTS = ("resnet18", "mobilenet_v2")


def _cell(runs: list[Standing]) -> list[str]:
    return [f"seed {run.seed}: {run.text}" if len(runs) > 1 or run.seed else run.text for run in runs]
