"""What exists in a home: every run, finished or not, and every network that was measured, wherever it comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.jobs.results import Row, headline
from bench.records.networks import Network, networks_of
from bench.records.record import Record
from bench.runs.config import RunConfig
from bench.runs.folder import Progress, RunFolder, all_runs
from bench.system.home import Home
from bench.system.text import defense_label, duration

PAPER_STUDENTS = ("resnet18", "mobilenet_v2")


@dataclass(frozen=True)
class Standing:
    """A run, or a network that has records alone, and how far it is.

    Attributes:
        method: its registered name; of a file from elsewhere what that is called.
        model: architecture.
        state: of `RunFolder.state`, or `evaluated`.
        progress: of a run that is not finished, where it is known.
        suites: that it was evaluated under, with the number of samples where these were not all.
        flags: the checks that failed, in words.
        measured: on the most samples; None without a record.
    """

    id: str
    kind: Literal["student", "teacher", "checkpoint"]
    role: str | None
    method: str
    label: str
    overrides: Mapping[str, Any]
    model: str
    dataset: str
    setting: str
    seed: int | None
    state: str
    progress: Progress | None
    suites: tuple[str, ...]
    flags: tuple[str, ...]
    measured: Row | None

    @property
    def defense(self) -> str:
        """Its name for readers: `CIARD (push=false)`, `TRADES, robust teacher`."""
        return defense_label(self.label, self.overrides) + (f", {self.role} teacher" if self.role else "")

    @property
    def detail(self) -> str:
        """What there is to say of its state: `whitebox, blackbox`, or `epoch 3 of 20, 4 min left`."""
        if self.state == "evaluated":
            return ", ".join(self.suites)
        if self.progress is None:
            return ""
        left = self.progress.seconds_left if self.state == "running" else None
        where = f"epoch {self.progress.epoch} of {self.progress.epochs}"
        return where if left is None else f"{where}, {duration(left)} left"

    @property
    def text(self) -> str:
        """State and detail: `evaluated: whitebox, blackbox (2 flags)`."""
        words = f"{self.state}: {self.detail}" if self.detail else self.state
        return words + (f" ({len(self.flags)} flags)" if self.flags else "")

    def content(self, short: Mapping[str, str]) -> dict[str, Any]:
        """In plain types; accuracies in [0, 1]. short: the shortest name of each network, by its id."""
        measured = None if self.measured is None else self.measured.content(short)
        own = {name: value for name, value in vars(self).items() if name not in ("id", "measured", "progress")}
        return {
            "id": self.id,
            "short": short[self.id],
            **own,
            "suites": list(self.suites),
            "flags": list(self.flags),
            "detail": self.detail,
            "progress": None if self.progress is None else self.progress.model_dump(),
            "n": measured and measured["n"],
            "results": measured and measured["results"],
        }


def standings(home: Home, records: Iterable[Record]) -> list[Standing]:
    """Every run of a home and every network that has a record: students, teachers, files from elsewhere."""
    networks = {network.name: network for network in networks_of(records)}
    found = [_of_run(folder, folder.config(), networks.pop(folder.id, None)) for folder in all_runs(home)]
    return sorted([*found, *map(_of_records, networks.values())], key=_order)


def _order(one: Standing) -> tuple[Any, ...]:
    kind = ("student", "teacher", "checkpoint").index(one.kind)
    return kind, one.dataset, one.model, one.setting, one.defense, one.seed or 0, one.id


def _of_run(folder: RunFolder, config: RunConfig, network: Network | None) -> Standing:
    state, evaluation = str(folder.state()), _evaluation(network)
    return Standing(
        id=folder.id,
        kind="student" if config.role is None else "teacher",
        role=config.role,
        method=config.method,
        label=config.label,
        overrides=config.overrides,
        model=config.student,
        dataset=config.data.name,
        setting=config.setting,
        seed=config.seed,
        state="evaluated" if state == "trained" and evaluation["suites"] else state,
        progress=folder.progress() if state in ("running", "interrupted") else None,
        **evaluation,
    )


def _of_records(network: Network) -> Standing:
    subject = network.subject
    return Standing(
        id=network.name,
        kind=subject.kind,
        role=subject.role,
        method=subject.method,
        label=subject.label,
        overrides=subject.overrides,
        model=subject.model,
        dataset=" and ".join(sorted({condition.dataset for condition in network.conditions})),
        setting=subject.setting,
        seed=subject.seed,
        state="evaluated",
        progress=None,
        **_evaluation(network),
    )


def _evaluation(network: Network | None) -> dict[str, Any]:
    """What the records of a network say, if there is any: `suites`, `flags`, `measured`."""
    records = {} if network is None else {each.record.id: each.record for each in network.measured.values()}
    suites = {
        record.suite + ("" if record.data.n == record.data.total else f" (n={record.data.n})")
        for record in records.values()
    }
    return {
        "suites": tuple(sorted(suites)),
        "flags": tuple(dict.fromkeys(flag for record in records.values() for flag in record.flags)),
        "measured": None if network is None else headline(network),
    }


def grid(found: Iterable[Standing], methods: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows) of method x (student, dataset, setting); a cell names the state of each of its runs."""
    students = [one for one in found if one.kind == "student"]
    columns = sorted({(one.dataset, one.model, one.setting) for one in students})
    # Before the first run: the grid of the paper, so that a newcomer sees what there is to do.
    columns = columns or [(data, student, "") for data in ("cifar10", "cifar100") for student in PAPER_STUDENTS]
    cells: dict[tuple[str, tuple[str, str, str]], list[Standing]] = defaultdict(list)
    for one in students:
        cells[defense_label(one.method, one.overrides), (one.dataset, one.model, one.setting)].append(one)
    names = list(dict.fromkeys([*methods, *sorted(name for name, _ in cells)]))
    rows = [[name, *("\n".join(_cell(cells[name, column])) or "not run" for column in columns)] for name in names]
    return [f"{student} on {data}\n{setting}".strip() for data, student, setting in columns], rows


def _cell(runs: list[Standing]) -> list[str]:
    return [f"seed {run.seed}: {run.text}" if len(runs) > 1 or run.seed else run.text for run in runs]
