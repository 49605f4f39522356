"""A duel: the sweep that tells which of some defenses is better, each trained with the same seeds."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from bench.evaluation.suites import suite_named
from bench.jobs import train
from bench.jobs.session import absolute_spec
from bench.recipes import hyperparameters
from bench.sweep.done import Standing
from bench.sweep.plan import Plan
from bench.sweep.spec import EvaluationSpec, Grid, SweepSpec
from bench.threat import Threat, Wanted, eps_text
from bench.vocabulary import Evaluated, Precision, Role, Selected


@dataclass(frozen=True)
class Contender:
    """A defense, and what is set of it as `--set` does; written `ciard`, `ciard:push=false,itt=false`."""

    method: str
    settings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Contender:
        """The defense that a user names."""
        method, _, rest = text.partition(":")
        return cls(method, tuple(re.split(r",(?=[A-Za-z_][\w.]*=)", rest)) if rest else ())  # values may have commas

    def __str__(self) -> str:
        return ":".join([self.method, *[",".join(self.settings)] * bool(self.settings)])


@dataclass(frozen=True)
class Duel:
    """What is asked for.

    Attributes:
        student, dataset, recipe: of all of them; the recipe as jobs take it.
        seeds: how many runs of each, with the seeds from 0 on.
        suites: an evaluation of every run each.
        settings: `KEY=VALUE` texts for all of them.
        threat: to train and attack under; None: the dataset's own.
        teachers: checkpoints by role; else the recipe's are trained.
        teacher_seeds: whether those are trained with each run's own seed, not with 0 for all.
        limit: test images; None: all.
    """

    contenders: tuple[Contender, ...]
    student: str
    dataset: str
    recipe: str
    seeds: int
    suites: tuple[str, ...]
    settings: tuple[str, ...] = ()
    threat: Wanted | None = None
    teachers: dict[Role, str] = field(default_factory=dict)
    teacher_seeds: bool = False
    epochs: int | None = None
    batch_size: int | None = None
    limit_train: int | None = None
    precision: Precision = "32"
    limit: int | None = None
    checkpoint_of: Evaluated = "best"

    def __post_init__(self) -> None:
        if len(self.contenders) < 2:
            raise BenchError("A duel is of two defenses or more.\nName another one: bench duel ciard rslad ...")
        if not any(suite_named(suite).entries for suite in self.suites):
            raise BenchError(
                f"--suite {','.join(self.suites)} has no attack.\nName one that has: `bench list suites` lists them."
            )

    @property
    def spec(self) -> SweepSpec:
        """Its sweep: a seed of every defense, then the next seed, so that wherever it stops all have the same seeds."""
        grids = [self._grid(contender, seed) for seed in range(self.seeds) for contender in self.contenders]
        return SweepSpec(description=f"A duel of {' and '.join(map(str, self.contenders))}.", runs=grids)

    def _grid(self, contender: Contender, seed: int) -> Grid:
        for written in (self.settings, contender.settings):
            hyperparameters.parse_settings(contender.method, written)  # names a mistake as it is written
        pairs = (one.partition("=") for one in (*self.settings, *contender.settings))
        roles = hyperparameters.method_class(contender.method).roles
        evaluations = [
            EvaluationSpec(suite=suite, limit=self.limit, checkpoint_of=self.checkpoint_of) for suite in self.suites
        ]
        grid = Grid(
            methods=[contender.method],
            students=[self.student],
            datasets=[self.dataset],
            recipes=[self.recipe],
            seeds=[seed],
            ablations=[{key: value for key, _, value in pairs}],
            epochs=self.epochs,
            batch_size=self.batch_size,
            limit_train=self.limit_train,
            precision=self.precision,
            teachers={role: file for role, file in self.teachers.items() if role in roles},
            teacher_seeds=self.teacher_seeds,
            evaluations=evaluations,
        )
        return grid if self.threat is None else grid.model_copy(update={"threats": [self.threat]})

    def check(self, plan: Plan) -> None:
        """Refuse what cannot be told apart, and what is said of teachers that none of them has.

        Args:
            plan: of `spec`.
        """
        roles = {role for each in self.contenders for role in hyperparameters.method_class(each.method).roles}
        for role in self.teachers:
            if role not in roles:
                raise BenchError(f"--teacher {role}=...: none of these defenses has a {role} teacher.\nLeave it away.")
        if self.teacher_seeds and not roles - set(self.teachers):
            raise BenchError("--teacher-seeds: none of these defenses has a teacher to be trained.\nLeave it away.")
        firsts = [task for task in plan if task.kind == "student" and task.request.seed == 0]
        if len(firsts) < len(self.contenders):
            raise _same(*(one for one in self.contenders if self.contenders.count(one) > 1))
        known: list[tuple[object, ...]] = []
        for task in firsts:
            request = task.request
            variant, training, own = train.scheduled(request, task.dataset)
            settings = hyperparameters.parse_settings(request.method, request.settings)
            threat = request.threat if isinstance(request.threat, Threat) else Threat()
            values = hyperparameters.resolve(request.method, variant, own, settings, threat)
            what = (request.method, values, training)
            if what in known:
                raise _same(self.contenders[known.index(what)], self.contenders[len(known)])
            known.append(what)

    def runs(self, plan: Plan, standing: Standing) -> list[str]:
        """The ids of all runs of its plan, in the order in which they are trained; of what is not trained none."""
        folders = [standing.folder(task) for task in plan if task.kind == "student"]
        return list(dict.fromkeys(folder.id for folder in folders if folder is not None))

    @property
    def kept(self) -> list[Selected]:
        """Which networks of each run are compared."""
        return ["best", "last"] if self.checkpoint_of == "both" else [self.checkpoint_of]

    def name(self, dataset: str) -> str:
        """What its page is called: readable, and ending in a hash of all that is asked for.

        Args:
            dataset: its name, which may not be what loads it.
        """
        digest = hashlib.sha256(self.spec.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:8]
        sides = "-vs-".join(each.method for each in self.contenders)
        parts = [dataset, self.student, sides, Path(self.recipe).stem, f"{self.seeds}-seeds", digest]
        return "_".join(re.sub(r"[^a-z0-9.-]+", "-", part.lower()) for part in parts)

    @property
    def command(self) -> str:
        """The line that asks for it."""
        return shlex.join(self._words())

    def _words(self) -> Iterator[str]:
        yield from ("bench", "duel", *map(str, self.contenders), *["--teacher-seeds"] * self.teacher_seeds)
        threat = ("--eps", eps_text(self.threat)) if isinstance(self.threat, float) else ("--threat", self.threat)
        options: Sequence[tuple[str, object]] = (
            *(("--student", self.student), ("--dataset", absolute_spec(self.dataset)), ("--recipe", self.recipe)),
            *(("--seeds", self.seeds), ("--suite", ",".join(self.suites)), threat, ("--epochs", self.epochs)),
            *(("--batch-size", self.batch_size), ("--limit-train", self.limit_train), ("--limit", self.limit)),
            ("--precision", None if self.precision == "32" else self.precision),
            ("--checkpoint-of", None if self.checkpoint_of == "best" else self.checkpoint_of),
            *(("--set", setting) for setting in self.settings),
            *(("--teacher", f"{role}={file}") for role, file in self.teachers.items()),
        )
        for option, value in options:
            if value is not None:
                yield from (option, str(value))


def _same(first: Contender, second: Contender, *_: Contender) -> BenchError:
    both = f"{first} comes twice" if first == second else f"{first} and {second} are the same defense here"
    return BenchError(f"{both}.\nName two that differ; `bench explain {first.method}` lists what can be set.")
