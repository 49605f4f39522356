"""`bench eval`: which runs lack a suite, with which surrogate, into which record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import nn

from bench.attack import Protocol
from bench.data.dataset import Dataset
from bench.errors import BenchError, unknown_name
from bench.evaluation import own_parameters
from bench.evaluation.suites import Suite
from bench.evaluation.transfers import Surrogate
from bench.jobs import teachers
from bench.jobs.foreign import find as find_foreign
from bench.jobs.foreign import load_foreign
from bench.jobs.make_record import Asked, evaluator_for, measure, repeat
from bench.jobs.session import Session
from bench.jobs.train import Request, Teacher
from bench.models import references
from bench.models.checkpoints import weights_hash
from bench.records.measurement import differing
from bench.records.record import Record, Subject
from bench.records.subjects import foreign_subject
from bench.runs.folder import RunFolder, all_runs, find_run
from bench.runs.networks import evaluated, kept, network_of
from bench.runs.subject import run_subject
from bench.system import locks
from bench.system.left_out import name_left_out
from bench.system.text import duration
from bench.threat import Wanted
from bench.vocabulary import LEAST_CORRUPTED, Checkpoint, Evaluated


class Unusable(BenchError):
    """The weights of a run are damaged, or not those that it selected."""


@dataclass
class Evaluation:
    """One `bench eval`: the suite and how it is run, with what is kept between one model and the next.

    Attributes:
        surrogate_file: the checkpoint that transfer attacks are crafted on (`bench.models.references`); None: the
            recipe's robust teacher, the same for all students of a recipe.
        worst_case, precision, checks, seed: see `Evaluator`.
        checkpoint_of: which of a run's networks are evaluated; where they have the same weights, one is attacked.
        threat: what to attack under; a number: a radius in the norm that would be attacked in without it. None: what
            a run was trained against, and for other files the data set's own.
        attack_set: `KEY=VALUE` texts, parameters of the attacks in place of the protocol's.
        records: of all that was asked for so far, made now or before.
        attacked: how many networks were attacked for them now.
    """

    session: Session
    suite: Suite
    protocol: Protocol
    limit: int | None = None
    surrogate_file: str | None = None
    worst_case: bool = False
    precision: Literal["32", "tf32"] = "32"
    checks: bool = True
    checkpoint_of: Evaluated = "both"
    threat: Wanted | None = None
    seed: int = 0
    attack_set: Sequence[str] = ()
    records: list[Record] = field(default_factory=list)
    attacked: int = 0
    _surrogates: dict[tuple[object, ...], Teacher] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)  # weights that another process is attacking

    def __post_init__(self) -> None:
        self._own = own_parameters.parsed(self.attack_set, self.suite)
        self.evaluator = evaluator_for(
            self.session,
            self.protocol,
            worst_case=self.worst_case,
            precision=self.precision,
            checks=self.checks,
            seed=self.seed,
            attack_set=self._own,
            places=self.suite.places,
        )

    def run(self, folder: RunFolder) -> list[Path]:
        """Evaluate a finished run: its networks and, where these are averages, the student itself beside them.

        Returns:
            The new records; none of what has a record already, or of what another process is evaluating.
        """
        return list(self._each(folder))

    def _each(self, folder: RunFolder) -> Iterator[Path]:
        """As `run`, one record after the other."""
        for which in evaluated(folder, self.checkpoint_of):
            path = self._run(folder, which)
            if path is not None:
                yield path

    def _run(self, folder: RunFolder, which: Checkpoint) -> Path | None:
        """The new record of one network of a run."""
        config = folder.config()
        if config.own.keys() & {"student", "dataset"}:
            raise Unusable(
                f"The run {folder.id} was trained from Python on what no name stands for.\n"
                "Evaluate it there: bench.evaluate() takes what bench.train() returns."
            )
        dataset = self.session.dataset(config.data.spec)
        if dataset.limit_train(config.data.n).train.fingerprint != config.data.fingerprint:
            raise BenchError(
                f"{config.data.spec} no longer holds the images that {folder.id} was trained on.\n"
                "Put the original files back, or train again."
            )
        dataset = dataset.under(config.data.threat).under(self.threat)
        try:
            subject = run_subject(folder, which)
        except BenchError as error:
            raise Unusable(str(error)) from error
        asked = self._asked(subject, dataset)
        found = asked.find(self.session.home.records)
        if found is not None:
            self.records.append(found)
            return None
        if subject.checkpoint in self._left:
            return None
        same = (asked.find_of(other, self.session.home.records) for other in kept(folder) if other != which)
        twin = next((record for record in same if record is not None), None)
        try:
            if twin is not None:
                return self._repeat(asked, twin)
            network = self._network(folder, which)
            surrogate = self._surrogate(dataset, folder) if self.suite.needs_surrogate else None
            return self._evaluate(network, asked, surrogate)
        except locks.Busy as error:
            self._left.add(subject.checkpoint)
            self.session.reporter.say(f"{str(error).splitlines()[0]} It is left to that process.")
            return None

    def _repeat(self, asked: Asked, twin: Record) -> Path | None:
        """The new record of a network whose weights were attacked as another network of the run."""
        record, made = repeat(self.session, asked, twin)
        self.records.append(record)
        return self._path(record) if made else None

    def _network(self, folder: RunFolder, which: Checkpoint) -> nn.Module:
        try:
            return network_of(folder, which)
        except BenchError as error:
            raise Unusable(str(error)) from error

    def run_all(self, folders: Sequence[RunFolder]) -> list[Path]:
        """Evaluate finished runs; weights that cannot be used are named and left out."""
        written: list[Path] = []
        unusable = []
        for folder in folders:
            try:
                written.extend(self._each(folder))  # what was written before an error is among them
            except Unusable as error:
                unusable.append(error)
        name_left_out("run", unusable)
        return written

    def file(self, checkpoint: str, model: str | None, dataset_spec: str) -> Path:
        """Evaluate a checkpoint from elsewhere, named as in `bench.models.references`; `model`: its architecture."""
        dataset = self.session.dataset(dataset_spec).under(self.threat)
        source = find_foreign(self.session, checkpoint, dataset)
        said = references.Reference.parse(checkpoint).model
        if None not in (said, model) and said != model:
            raise BenchError(f"--checkpoint {checkpoint} is called a {said}, and --student says {model}.\nSay it once.")
        network, spec = load_foreign(self.session, source._replace(model=model or source.model), dataset)
        subject = foreign_subject("checkpoint", source.name, spec, weights_hash(network))
        asked = self._asked(subject, dataset)
        found = asked.find(self.session.home.records)
        if found is not None:
            self.records.append(found)
            self.session.reporter.say(f"Already evaluated, nothing changed: {self._path(found)}")
            return self._path(found)
        surrogate = self._surrogate(dataset, None) if self.suite.needs_surrogate else None
        return self._evaluate(network, asked, surrogate)

    def _asked(self, subject: Subject, dataset: Dataset) -> Asked:
        named = self.suite.needs_surrogate and self.surrogate_file is not None
        surrogate = self._surrogate(dataset, None).checkpoint if named else None
        shape = dataset.test.images.shape[1:]
        suite = self.suite.on(shape)
        if suite != self.suite and dataset.name not in self._told:
            size = " x ".join(map(str, shape))
            wanted = f"3 channels and {LEAST_CORRUPTED} pixels a side"
            self.session.reporter.say(f"Without corruptions: they take {wanted}, and {dataset.name} has {size}.")
            self._told.add(dataset.name)
        own_parameters.check(self._own, suite, self.protocol, dataset.threat)
        conditions = (self.worst_case, self.precision, surrogate, self.checks, self._own)
        return Asked(subject, dataset, suite, self.limit, self.protocol, self.seed, *conditions)

    def _path(self, record: Record) -> Path:
        return self.session.home.records / f"{record.id}.json"

    def _evaluate(self, network: nn.Module, asked: Asked, surrogate: Surrogate | None) -> Path:
        record, made = measure(self.session, self.evaluator, asked, network, surrogate)
        self.records.append(record)
        if made:
            self.attacked += 1
            self.session.reporter.say(summary_line(record))
            if self.precision != "32":
                self._say_what_precision_changed(asked, record)
        return self._path(record)

    def _say_what_precision_changed(self, asked: Asked, record: Record) -> None:
        """Count the outcomes that differ from those in float32, if those were measured."""
        exact = replace(asked, precision="32").find(self.session.home.records)
        if exact is None:
            self.session.reporter.say("There is no float32 record to compare it with: run it without --precision.")
            return
        counts = ", ".join(f"{name} {count}" for name, count in differing(record, exact).items())
        self.session.reporter.say(f"Outcomes that differ from float32's, of {record.data.n}: {counts}.")

    def _surrogate(self, dataset: Dataset, folder: RunFolder | None) -> Surrogate:
        """The robust teacher as it was before any student's training, for transfer attacks."""
        key: tuple[object, ...] = (dataset.name, self.surrogate_file)
        if folder is not None and self.surrogate_file is None:
            config = folder.config()
            recipe = (config.recipe, config.recipe_digest)
            key = (dataset.name, recipe, config.precision, config.requested.get("limit_train"), config.data.threat)
        if key not in self._surrogates:
            self._surrogates[key] = self._find_surrogate(dataset, folder)
            self._surrogates[key].network.to(self.session.device)
        teacher = self._surrogates[key]
        return Surrogate(teacher.network, teacher.ref.checkpoint, teacher.ref.model)

    def _find_surrogate(self, dataset: Dataset, folder: RunFolder | None) -> Teacher:
        if self.surrogate_file is not None:
            return teachers.from_file(self.session, self.surrogate_file, "robust", dataset)
        if folder is None:
            raise BenchError(
                f"The suite {self.suite.name!r} transfers attacks from a robust teacher, and a checkpoint from "
                "elsewhere has none.\nName one: --teacher robust=FILE (`bench teacher list` shows those trained here)."
            )
        config = folder.config()
        request = Request(
            method=config.method,
            student=config.student,
            dataset=config.data.spec,
            recipe=folder.recipe,
            precision=config.precision,
            limit_train=config.requested.get("limit_train"),
            threat=config.data.threat if config.data.asked else None,
        )
        # No method's own: DARD's teacher, say, may be another one, and all students face the same images.
        asked = teachers.teacher_request(request, "robust", dataset.name, method="")
        return teachers.from_run(teachers.train_teacher(self.session, asked), "robust")


def finished_runs(session: Session, run_ids: Sequence[str], dataset: str | None) -> list[RunFolder]:
    """The runs to evaluate: those named, or all finished students of a dataset, or of all.

    Raises:
        BenchError: a named run does not exist or is not finished; or there is none at all.
    """
    named = [find_run(session.home, run_id) for run_id in run_ids]
    for folder in named:
        if not folder.finished:
            raise BenchError(f"The run {folder.id} is not finished.\nContinue it with the `bench run` that began it.")
    finished = named or [folder for folder in all_runs(session.home) if folder.finished]
    datasets: set[str] = set()
    chosen = []
    for folder in finished:
        config = folder.config()
        datasets |= {config.data.name, config.data.spec}
        if (run_ids or config.role is None) and dataset in (None, config.data.name, config.data.spec):
            chosen.append(folder)
    if dataset is not None and datasets and dataset not in datasets:
        raise unknown_name("dataset (of a finished run)", dataset, datasets)
    if not chosen:
        lost = next((folder for folder in all_runs(session.home) if folder.lost_its_summary), None)
        if lost is not None:
            raise BenchError(
                f"There is no finished run: {lost.path} has lost its summary.json.\n"
                "Repeat the `bench run` that made it: it writes the file again."
            )
        raise BenchError(
            f"There is no finished run{f' on {dataset}' if dataset else ''} in {session.home.runs}.\n"
            "Train one first: bench run --method ciard --student resnet18."
        )
    return chosen


def summary_line(record: Record) -> str:
    """A record in a line, with the half-width of the widest interval."""
    parts = [f"{name} {result.accuracy:.1%}" for name, result in record.results.items()]
    half = max((high - low) / 2 for low, high in (result.interval for result in record.results.values()))
    subject = record.subject
    name = (subject.run or subject.label) + (f" ({subject.checkpoint_of})" if subject.checkpoint_of != "best" else "")
    line = f"{name}: {', '.join(parts)} (n = {record.data.n}, at most ±{half:.1%}; {duration(record.seconds)})"
    return "\n".join([line, *(f"  Flag: {flag}" for flag in record.flags)])
