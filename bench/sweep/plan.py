"""From a sweep's spec to its tasks: each is one command, with the tasks that have to be done before."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench import registry
from bench.data import find
from bench.evaluation.suites import suites_named
from bench.jobs.session import absolute_spec
from bench.jobs.teachers import teacher_request
from bench.jobs.train import Request, check
from bench.recipes import hyperparameters
from bench.sweep.spec import EvaluationSpec, Grid, SweepSpec, Value
from bench.threat import Wanted, eps_text
from bench.vocabulary import Role

Command = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A run, or the evaluation of one.

    Attributes:
        number: its place in the plan, from 1.
        request: the run that is trained, or evaluated.
        run_command: what trains that run, as a user types it.
        needs: numbers of the tasks to be done before.
        dataset: the dataset's name.
        evaluation: None for a task that trains.
    """

    number: int
    request: Request
    run_command: Command
    needs: tuple[int, ...]
    dataset: str
    evaluation: EvaluationSpec | None = None

    @property
    def kind(self) -> Literal["teacher", "student", "evaluation"]:
        if self.evaluation is not None:
            return "evaluation"
        return "teacher" if self.request.role else "student"

    @property
    def command(self) -> str:
        """The task as a line for the shell; an evaluation asks `bench run`, which finds the run, for its folder."""
        trains = shlex.join(self.run_command)
        return trains if self.evaluation is None else f'{self._evaluates} --run "$(basename "$({trains})")"'

    @property
    def line(self) -> str:
        """The command for people: an evaluation names the task that trains its run."""
        return self.command if self.evaluation is None else f"{self._evaluates} --run (that of {self.needs[0]})"

    @property
    def _evaluates(self) -> str:
        assert self.evaluation is not None
        return shlex.join(_evaluation_command(self.evaluation))


Plan = tuple[Task, ...]


def expand(spec: SweepSpec, name_of: Callable[[str], str]) -> Plan:
    """All tasks of a sweep, each after those it needs, each once.

    Args:
        name_of: a dataset's name by its spec, "parquet:DIR".

    Raises:
        BenchError: an unknown name, or a setting that a method does not have.
    """
    builder = _Builder(name_of)
    for grid in spec.runs:
        for request in _requests(grid):
            check(request)
            builder.add_student(request, grid.each_evaluation)
    return tuple(builder.tasks)


def dataset_name(load: Callable[[str], str], root: Path) -> Callable[[str], str]:
    """A dataset's name by its spec: the registered one, one's own in the data folder, or what `load` finds."""

    def name_of(spec: str) -> str:
        is_name = find(spec, root) != spec or "*" not in registry.find("datasets", spec).name
        return spec if is_name else load(spec)

    return name_of


def of_run(request: Request, name_of: Callable[[str], str]) -> Plan:
    """The task of one student's run, after those of the teachers that it does not name itself."""
    builder = _Builder(name_of)
    builder.add_student(request, [])
    return tuple(builder.tasks)


def _requests(grid: Grid) -> Iterator[Request]:
    axes = (grid.datasets, grid.threats, grid.recipes, grid.students, grid.methods, grid.ablations, grid.seeds)
    for dataset, threat, recipe, student, method, ablation, seed in itertools.product(*axes):
        roles = hyperparameters.method_class(method).roles
        yield Request(
            method=method,
            student=student,
            dataset=absolute_spec(dataset),
            recipe=recipe,
            epochs=grid.epochs,
            batch_size=grid.batch_size,
            seed=seed,
            precision=grid.precision,
            limit_train=grid.limit_train,
            teachers={role: file for role, file in grid.teachers.items() if role in roles},
            extra=grid.extra and absolute_spec(grid.extra),
            extra_share=grid.extra_share,
            threat=threat,
            teacher_seeds=grid.teacher_seeds and not set(roles) <= set(grid.teachers),
            settings=tuple(f"{key}={_written(value)}" for key, value in ablation.items()),
        )


def _written(value: Value) -> str:
    """A value as `--set` reads it."""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class _Builder:
    """Collects tasks; a command that is there already is not added again."""

    name_of: Callable[[str], str]
    tasks: list[Task] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def add_student(self, request: Request, evaluations: list[EvaluationSpec]) -> None:
        """A student after its teachers, and its evaluations."""
        roles = hyperparameters.method_class(request.method).roles
        needs = [self._teacher(request, role, request.method) for role in roles if role not in request.teachers]
        student = self._add(request, run_command(request), needs)
        for evaluation in evaluations:
            transfers = suites_named(evaluation.suite.split(",")).needs_surrogate and evaluation.surrogate is None
            # The same for all students.
            surrogates = [self._teacher(replace(request, teacher_seeds=False), "robust", "")] if transfers else []
            self._add(request, run_command(request), [student, *surrogates], evaluation)

    def _teacher(self, request: Request, role: Role, method: str) -> int:
        name = self.name_of(request.dataset)
        asked, usual = (teacher_request(request, role, name, method=each) for each in (method, ""))
        return self._add(asked, _teacher_command(asked, "" if asked == usual else method), [])

    def _add(
        self, request: Request, command: Command, needs: list[int], evaluation: EvaluationSpec | None = None
    ) -> int:
        task = Task(
            number=len(self.tasks) + 1,
            request=request,
            run_command=command,
            needs=tuple(needs),
            dataset=self.name_of(request.dataset),
            evaluation=evaluation,
        )
        if task.command not in self._numbers:
            self._numbers[task.command] = task.number
            self.tasks.append(task)
        return self._numbers[task.command]


def run_command(request: Request) -> Command:
    """`bench run` with all that a student's request asks for."""
    given = [("--teacher", f"{role}={file}") for role, file in request.teachers.items()]
    settings = [("--set", setting) for setting in request.settings]
    return (
        *("bench", "run", "--method", request.method, "--student", request.student),
        *_surroundings(request),
        *_where(("--epochs", request.epochs), ("--batch-size", request.batch_size), ("--seed", request.seed or None)),
        *_where(("--extra", request.extra), ("--extra-share", request.extra_share)),
        *itertools.chain(*given, *settings),
        *(("--teacher-seeds",) if request.teacher_seeds else ()),
    )


def _teacher_command(request: Request, method: str) -> Command:
    assert request.role is not None
    own = ("--method", method) if method else ()
    seed = _where(("--seed", request.seed or None))
    return ("bench", "teacher", "train", "--role", request.role, *own, *_surroundings(request), *seed)


def _evaluation_command(evaluation: EvaluationSpec) -> Command:
    protocol = None if evaluation.protocol == "official" else evaluation.protocol
    surrogate = evaluation.surrogate and f"robust={evaluation.surrogate}"
    which = None if evaluation.checkpoint_of == "both" else evaluation.checkpoint_of  # `bench eval` attacks both
    options = _where(
        ("--limit", evaluation.limit), ("--protocol", protocol), ("--checkpoint-of", which), ("--teacher", surrogate)
    )
    return ("bench", "eval", "--suite", evaluation.suite, *_threat(evaluation.threats[0]), *options)


def _surroundings(request: Request) -> Command:
    precision = None if request.precision == "32" else request.precision
    options = _where(("--precision", precision), ("--limit-train", request.limit_train))
    return ("--dataset", request.dataset, "--recipe", request.recipe, *_threat(request.threat), *options)


def _threat(asked: Wanted | None) -> Command:
    """A threat as the command line takes it."""
    if isinstance(asked, float):
        return ("--eps", eps_text(asked))
    return _where(("--threat", asked))


def _where(*options: tuple[str, object]) -> Command:
    """Options that have a value, with it."""
    return tuple(str(part) for name, value in options if value is not None for part in (name, value))
