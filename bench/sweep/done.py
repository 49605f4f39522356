"""Which tasks of a plan are done: told by the runs and records that are there, without doing anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from bench.errors import BenchError
from bench.evaluation.suites import TEACHERS, suites_named
from bench.jobs import teachers, train
from bench.jobs.session import Session
from bench.jobs.train import Request
from bench.models import references
from bench.recipes import hyperparameters, recipe
from bench.records.files import read_record
from bench.records.record import Subject
from bench.records.subjects import record_id
from bench.runs.config import DataRef, ExtraRef, RunConfig, TeacherRef
from bench.runs.folder import RunFolder, all_runs
from bench.runs.subject import run_subject
from bench.sweep.ledger import Ledger
from bench.sweep.plan import Plan, Task
from bench.sweep.spec import EvaluationSpec
from bench.system.files import check_writable
from bench.system.home import Home
from bench.threat import Threat
from bench.vocabulary import Checkpoint, Role


class Source(Protocol):
    """What a run's id depends on besides its request."""

    def data(self, request: Request) -> DataRef | None:
        """The request's dataset; None where nothing is known of it, and so nothing was trained on it."""

    def given(self, request: Request, role: Role, file: str) -> TeacherRef | None:
        """A teacher from a file; None where nothing is known of it."""


@dataclass
class Known:
    """What the runs of a home tell of datasets and files, so that none has to be read."""

    home: Home

    @cached_property
    def configs(self) -> list[RunConfig]:
        """Of all runs."""
        return [folder.config() for folder in all_runs(self.home)]

    @cached_property
    def _data(self) -> dict[tuple[str, int | None], DataRef]:
        """By spec and number of images: under the dataset's own threat where anything was trained under it."""
        ordered = sorted(self.configs, key=lambda config: not config.data.asked)
        return {(config.data.spec, config.requested.get("limit_train")): config.data for config in ordered}

    @cached_property
    def _extra(self) -> dict[str, ExtraRef]:
        return {config.data.extra.spec: config.data.extra for config in self.configs if config.data.extra is not None}

    @cached_property
    def _given(self) -> dict[tuple[str, Role], TeacherRef]:
        refs = (ref for config in self.configs for ref in config.teachers if ref.given)
        return {(ref.source, ref.role): ref for ref in refs}

    def data(self, request: Request) -> DataRef | None:
        data = self._data.get((request.dataset, request.limit_train))
        asked = None if data is None else train.extra_of(request, data.name)
        extra = None if asked is None else self._extra.get(asked.source)
        if data is None or (asked is not None and extra is None):
            return None
        threat = self._threat(request, data)
        if threat is None:
            return None
        changed = {"norm": threat.norm, "eps": threat.eps, "asked": data.asked or request.threat is not None}
        if extra is not None and asked is not None:
            extra = extra.model_copy(update={"share": asked.share})
        return data.model_copy(update={**changed, "extra": extra})

    @staticmethod
    def _threat(request: Request, known: DataRef) -> Threat | None:
        """What a request trains against, by a known run's dataset; None where that does not tell its own threat."""
        if isinstance(request.threat, Threat):
            return request.threat
        if request.threat is not None:  # all but strangers' datasets are of L-infinity
            return (Threat() if known.asked else known.threat).at(request.threat)
        return None if known.asked else known.threat

    def given(self, request: Request, role: Role, file: str) -> TeacherRef | None:
        return self._given.get((references.locate(file, self.home.models, request.dataset, ask=False).source, role))

    def name(self, spec: str) -> str | None:
        """The name of a dataset that something was trained on."""
        return next((data.name for (known, _), data in self._data.items() if known == spec), None)


@dataclass
class Actual:
    """Datasets and files as they are now."""

    session: Session
    _given: dict[tuple[str, str, int | None, Role], TeacherRef] = field(default_factory=dict)

    def data(self, request: Request) -> DataRef:
        dataset = train.limited(self.session, request)
        return train.data_ref(request, dataset, train.additional(self.session, request, dataset))

    def given(self, request: Request, role: Role, file: str) -> TeacherRef:
        key = (file, request.dataset, request.limit_train, role)
        if key not in self._given:
            dataset = train.limited(self.session, request)
            self._given[key] = teachers.from_file(self.session, file, role, dataset).ref
        return self._given[key]


class Standing:
    """Tells of each task of a plan whether it is done."""

    def __init__(self, home: Home, plan: Plan, source: Source) -> None:
        self.home, self.plan, self.source = home, plan, source
        records = os.listdir(home.records) if home.records.is_dir() else []
        self._records: dict[str, list[str]] = {}
        for name in records:
            self._records.setdefault(name.partition("__")[0], []).append(name)

    def done(self) -> set[int]:
        """The numbers of all tasks that are done."""
        return {task.number for task in self.plan if self.is_done(task)}

    def is_done(self, task: Task) -> bool:
        """Whether a task is done; what cannot be read is not, and says so when the task is tried."""
        try:
            folder = self.folder(task)
            if folder is None or not folder.finished:
                return False
            evaluation = _evaluation(task)
            return evaluation is None or self._evaluated(task, folder, evaluation)
        except BenchError:
            return False

    def folder(self, task: Task) -> RunFolder | None:
        """The folder of a task's run, which may not exist yet; None where its teachers are not trained."""
        data = self.source.data(task.request)
        refs = [] if task.kind == "teacher" else self._teachers(task)
        if data is None or refs is None:
            return None
        return RunFolder.of(self.home, train.configure(task.request, data, refs).id)

    def _teachers(self, task: Task) -> list[TeacherRef] | None:
        found = []
        for role in hyperparameters.method_class(task.request.method).roles:
            ref = self._teacher(task, role)
            if ref is None:
                return None
            found.append(ref)
        return found

    def _teacher(self, task: Task, role: Role) -> TeacherRef | None:
        request = task.request
        if role in request.teachers:
            return self.source.given(request, role, request.teachers[role])
        data = self.source.data(request)
        if data is None:
            return None
        asked = teachers.teacher_request(request, role, data.name)
        data = self.source.data(asked)
        if data is None:
            return None
        folder = RunFolder.of(self.home, train.configure(asked, data, ()).id)
        return teachers.run_ref(folder, role, request.teacher_seeds) if folder.finished else None

    def _evaluated(self, task: Task, folder: RunFolder, evaluation: EvaluationSpec) -> bool:
        """Whether the records are there."""
        both: list[Checkpoint] = ["best", "last"]
        wanted = both if evaluation.checkpoint_of == "both" else [evaluation.checkpoint_of]
        return all(self._measured(task, folder, evaluation, run_subject(folder, which)) for which in wanted)

    def _measured(self, task: Task, folder: RunFolder, evaluation: EvaluationSpec, subject: Subject) -> bool:
        """Whether the record of a network is there; its name ends in the number of images, which only it knows."""
        suite = suites_named(evaluation.suite.split(","))
        threat, asked = folder.config().data.threat, evaluation.threats[0]
        if asked is not None:
            threat = asked if isinstance(asked, Threat) else threat.at(asked)
        starts = tuple(  # earlier versions left the eps out of every name
            record_id(subject, task.dataset, suite.name, evaluation.protocol, 0, known).removesuffix("0")
            for known in (threat, None)
        )
        surrogate = None
        if suite.needs_surrogate and evaluation.surrogate is not None:
            surrogate = self.source.given(task.request, "robust", evaluation.surrogate)
        for name in self._records.get(folder.id, ()):
            if name.startswith(starts):
                record = read_record(Path(self.home.records, name))
                whole = record.data.n == min(evaluation.limit or record.data.total, record.data.total)
                crafted_on = {result.surrogate for result in record.results.values() if result.surrogate is not None}
                fits = surrogate is None or crafted_on <= {surrogate.checkpoint}
                same = (record.subject.checkpoint, record.data.threat) == (subject.checkpoint, threat)
                if whole and fits and same:
                    return True
        return False


def account(session: Session, plan: Plan) -> Ledger:
    """The account of a plan to be executed.

    Raises:
        BenchError: a checkpoint that the plan names cannot be had; or something is to be done, and nothing can be
            written to the home.
    """
    for named in {text for task in plan for text in _checkpoints(task)}:
        references.check(named, session.home.models)
    ledger = Ledger(plan, Standing(session.home, plan, Actual(session)).done(), session.reporter)
    if ledger.ready():
        check_writable(session.home.records)
    return ledger


def _checkpoints(task: Task) -> list[str]:
    """The checkpoints that a task's file names."""
    surrogate = task.evaluation.surrogate if task.evaluation is not None else None
    return [*task.request.teachers.values(), *([] if surrogate is None else [surrogate])]


def _evaluation(task: Task) -> EvaluationSpec | None:
    """The evaluation that belongs to a task: its own, or the one that every teacher gets."""
    if task.kind != "teacher":
        return task.evaluation
    chosen = recipe.load(task.request.recipe)
    return EvaluationSpec(suite=TEACHERS.name, limit=chosen.teacher_limit, protocol=chosen.protocol)
