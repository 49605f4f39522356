"""`bench run`: from what the user asked for to a finished run folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from bench import loggers, registry
from bench.compute.ranks import ranks
from bench.compute.seeding import derive
from bench.data.dataset import Dataset, Split
from bench.errors import BenchError
from bench.jobs import additional as extra_images
from bench.jobs import companions, lost_summary
from bench.jobs.session import Session, absolute_spec
from bench.models import build_model, split_spec, try_out
from bench.recipes import hyperparameters, recipe
from bench.recipes.recipe import Recipe, Resolved
from bench.recipes.training import Extra, Training, value_at
from bench.runs.config import DataRef, RunConfig, TeacherRef
from bench.runs.folder import RunFolder, all_runs
from bench.system import locks, provenance
from bench.threat import Threat, Wanted
from bench.training.awp import check_split
from bench.training.optimizer import completed
from bench.training.trainer import Trainer
from bench.vocabulary import Precision, Role, usual_eps


@dataclass(frozen=True)
class Teacher:
    """A teacher ready for use, with what a run records of it."""

    ref: TeacherRef
    network: nn.Module


GIVEN = "given from Python"
"""Where the data set of a run came from that no name loads."""


@dataclass(frozen=True)
class Own:
    """What a caller from Python has in place of names.

    Attributes:
        student: the network before its first step; its class's name is the request's student. A run trains a copy.
        dataset: of the name that the request has.
        teachers: by role.
        digests: by part: SHA-256 of all that decides the result and is in no other field of a run's configuration.
    """

    student: nn.Module | None = None
    dataset: Dataset | None = None
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One training run as the user (or a recipe, for a teacher) asks for it.

    Attributes:
        teachers: checkpoints named by the user, by role (`bench.models.references`).
        recipe: a built-in one's name, or the path of a file (`bench.recipes.recipe.find`).
        teacher_seeds: whether teachers that the harness trains are trained with this run's seed, not with 0.
        settings: `key=value` texts (`--set`): hyper-parameters, and fields of the recipe's training.
        extra, extra_share: additional training images, and their share of every batch; instead of the recipe's.
        threat: what is trained against, instead of the dataset's own threat; a number: its norm at this radius.
        role: for a teacher's own training.
        own: what was given as it is, from Python.
    """

    method: str
    student: str
    dataset: str = "cifar10"
    recipe: str = "official"
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    precision: Precision = "32"
    limit_train: int | None = None
    teachers: dict[str, str] = field(default_factory=dict)
    teacher_seeds: bool = False
    settings: tuple[str, ...] = ()
    extra: str | None = None
    extra_share: float | None = None
    threat: Wanted | None = None
    role: Role | None = None
    own: Own = Own()

    @property
    def requested(self) -> dict[str, int]:
        """What is changed of the recipe's schedule."""
        values = {"epochs": self.epochs, "batch_size": self.batch_size, "limit_train": self.limit_train}
        return {name: value for name, value in values.items() if value is not None}


def check(request: Request) -> None:
    """Find mistakes in names and settings before anything long begins."""
    method = hyperparameters.method_class(request.method)
    if request.own.student is None:
        registry.find("models", split_spec(request.student)[0])
    hyperparameters.parse_settings(request.method, request.settings)
    fields, _ = hyperparameters.parse_training(request.settings)
    for name, flag, value in (
        ("training.epochs", "--epochs", request.epochs),
        ("training.batch_size", "--batch-size", request.batch_size),
    ):
        if name in fields and value is not None:
            raise BenchError(f"{flag} and --set {name}=... set the same.\nGive one of them.")
    resolved = scheduled(request, request.dataset)
    training = resolved.training
    completed(training.optimizer)
    _check_options(request, training)
    _check_threat(request)
    companions.check(request.method, resolved, request.settings, request.own.student)
    extra_images.check(request.extra, request.extra_share)
    given = (*request.teachers, *request.own.teachers)
    if request.teacher_seeds and set(method.roles) <= set(given):
        raise BenchError(
            f"--teacher-seeds: there is no teacher of {request.method} to be trained.\n"
            "Leave it away; the run is the same."
        )
    for role in given:
        if role not in method.roles:
            needed = " and ".join(method.roles) or "none"
            raise BenchError(
                f"--teacher {role}=...: {request.method} has no {role} teacher.\nTeachers it needs: {needed}."
            )


def _check_options(request: Request, training: Training) -> None:
    """A `BenchError` where the recipe's training combines what cannot be combined."""
    if training.awp is not None:
        check_split(hyperparameters.method_class(request.method))
    epochs = request.epochs or training.epochs
    if training.average is not None and epochs < 2:
        raise BenchError(
            "An average over training (training.average) of one epoch is none.\nTrain for more epochs, or without it."
        )


def _check_threat(request: Request) -> None:
    """A `BenchError` where the method, or its inner attack, does not know the norm that is asked for."""
    dataset = request.own.dataset
    threat = dataset.threat if dataset is not None and request.threat is None else request.threat
    if isinstance(threat, Threat):
        _hyperparameters(request, request.dataset, threat)


def _hyperparameters(request: Request, dataset: str, threat: Threat) -> dict[str, Any]:
    """The method's hyper-parameters for a dataset of this name; under another norm than L-infinity they are tried."""
    variant, _, own = scheduled(request, dataset)
    settings = hyperparameters.parse_settings(request.method, request.settings)
    values = hyperparameters.resolve(request.method, variant, own, settings, threat)
    if threat.norm != "linf":
        hyperparameters.make(request.method, values)
    return values


def limited(session: Session, request: Request) -> Dataset:
    """The dataset of a request: under its threat, and with as many training images as it allows."""
    dataset = request.own.dataset
    dataset = session.dataset(absolute_spec(request.dataset)) if dataset is None else dataset
    return dataset.under(request.threat).limit_train(request.limit_train)


def extra_of(request: Request, dataset: str) -> Extra | None:
    """The additional images that a request asks for, on a dataset of this name."""
    return extra_images.asked_for(request.extra, request.extra_share, scheduled(request, dataset).training.extra)


def additional(session: Session, request: Request, dataset: Dataset) -> Split | None:
    """The additional images of a request, if it asks for any."""
    asked = extra_of(request, dataset.name)
    return None if asked is None else extra_images.loaded(session, asked, dataset)


def data_ref(request: Request, dataset: Dataset, extra: Split | None = None) -> DataRef:
    """The dataset of a request, as `limited` has it, as a run names it; extra: from `additional`."""
    asked = extra_of(request, dataset.name)
    assert (asked is None) == (extra is None), "additional images are asked for, and not given"
    return DataRef(
        name=dataset.name,
        spec=absolute_spec(request.dataset) if request.own.dataset is None else GIVEN,
        fingerprint=dataset.train.fingerprint,
        n=len(dataset.train),
        classes=dataset.num_classes,
        in_channels=dataset.in_channels,
        eps=dataset.eps,
        norm=dataset.norm,
        asked=request.threat is not None and dataset.threat != Threat(eps=usual_eps(dataset.name)),
        extra=None if asked is None or extra is None else extra_images.ref(asked, extra),
    )


def resolve(request: Request, dataset: Dataset, teachers: Sequence[Teacher], extra: Split | None = None) -> RunConfig:
    """The configuration a request comes to: recipe, then what the user changed."""
    return configure(request, data_ref(request, dataset, extra), [teacher.ref for teacher in teachers])


def configure(request: Request, data: DataRef, teachers: Sequence[TeacherRef]) -> RunConfig:
    """As `resolve`, without the images and the teachers' networks."""
    chosen = recipe.load(request.recipe)
    variant, training, _ = scheduled(request, data.name)
    settings = hyperparameters.parse_settings(request.method, request.settings)
    fields, _ = hyperparameters.parse_training(request.settings)
    _check_options(request, training)
    method = hyperparameters.method_class(request.method)
    return RunConfig(
        method=request.method,
        label=method.label,
        variant=variant,
        hyperparameters=_hyperparameters(request, data.name, data.threat),
        overrides=settings | {name: value_at(training, name) for name in fields},
        student=request.student,
        role=request.role,
        data=data,
        recipe=chosen.name,
        recipe_digest=chosen.digest,
        published=chosen.published,
        protocol=chosen.protocol,
        requested=request.requested,
        epochs=request.epochs or training.epochs,
        batch_size=request.batch_size or training.batch_size,
        seed=request.seed,
        precision=request.precision,
        optimizer=completed(training.optimizer),
        schedule=training.scaling_schedule,
        selection=training.selection,
        augmentation=training.augmentation,
        average=training.average,
        awp=training.awp,
        teachers=list(teachers),
        own=dict(request.own.digests),
    )


def scheduled(request: Request, dataset: str) -> Resolved:
    """What the recipe comes to for a dataset's name, with what `--set` changes of its training."""
    chosen, (fields, _) = recipe.load(request.recipe), hyperparameters.parse_training(request.settings)
    return chosen.resolve(request.method, dataset, request.student, request.role or "student", fields)


def train(session: Session, request: Request, teachers: Sequence[Teacher] = (), restart: bool = False) -> RunFolder:
    """Train, continue, or find finished what a request asks for."""
    dataset = limited(session, request)
    extra = additional(session, request, dataset)
    config = resolve(request, dataset, teachers, extra)
    folder = replace(RunFolder.of(session.home, config.id), writes=ranks().first)
    if ranks().from_first(folder.finished) and not restart:
        return _found_finished(session, folder)
    chosen = recipe.load(request.recipe)
    if chosen.digest is not None and folder.state() == "not run":
        _say_of_other_texts(session, config, chosen)
    student = new_network(config, dataset, request.own.student)
    networks: dict[str, nn.Module] = {teacher.ref.role: teacher.network for teacher in teachers}
    listening = loggers.make(session.loggers if ranks().first else ())
    own = companions.new(config, dataset)
    trainer = Trainer(session, config, dataset, student, networks, folder, listening, extra, own)
    with _alone(folder, session) as dead:
        if dead is not None:
            session.reporter.say(f"{folder.id} was being trained by {dead}, which is dead; this process takes it over.")
        if restart:
            folder.clear()
        elif ranks().from_first(folder.finished):  # by another process, since we looked
            return _found_finished(session, folder)
        elif ranks().from_first(folder.lost_its_summary):
            lost_summary.restore(session, folder, config)
            return folder
        how = {"speedups": sorted(session.speedups), "processes": ranks().size, "sync_bn": ranks().sync_bn}
        folder.create(config, provenance.describe(session.device) | how, chosen.text)
        trainer.run()
    ranks().wait()  # what the first one has written is there for all
    return folder


@contextmanager
def _alone(folder: RunFolder, session: Session) -> Iterator[locks.Owner | None]:
    """The run for the processes of this command alone: the first one's lock is all of theirs, and so is its failure."""
    problem, dead = None, None
    with ExitStack() as stack:
        try:
            dead = stack.enter_context(folder.locked(session.stop.pause))
        except BenchError as error:
            problem = error
        problem = ranks().from_first(problem)
        if problem is not None:
            raise problem
        yield dead


def train_or_wait(session: Session, request: Request) -> RunFolder:
    """As `train`, but where another process trains the same run, its end is awaited: others need this run's result."""
    return locks.patiently(lambda: train(session, request), session.stop.pause, session.reporter.say)


def _say_of_other_texts(session: Session, config: RunConfig, chosen: Recipe) -> None:
    """Tell of interrupted runs that are this one but for what the recipe said when they began, and how to continue."""
    what = ("method", "student", "role", "recipe", "seed", "requested", "overrides", "precision")
    for folder in all_runs(session.home):
        other = folder.config()
        same = (
            all(getattr(other, name) == getattr(config, name) for name in what) and other.data.name == config.data.name
        )
        if same and other.recipe_digest not in (None, config.recipe_digest) and folder.state() == "interrupted":
            fields = ", ".join(recipe.differences(recipe.load(folder.recipe), chosen))
            session.reporter.say(
                f"The recipe {config.recipe} has changed since {folder.id} began ({fields}), so this is another run. "
                f"To continue that one: --recipe {folder.recipe}"
            )


def _found_finished(session: Session, folder: RunFolder) -> RunFolder:
    folder.config()
    session.reporter.say(f"Already trained, nothing changed: {folder.id} (--restart trains it again).")
    return folder


@contextmanager
def fresh(seed: int) -> Iterator[None]:
    """Within the block networks have the weights that a run of this seed begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "weights"))
        yield


def new_network(config: RunConfig, dataset: Dataset, own: nn.Module | None = None) -> nn.Module:
    """The student of a run before its first step; the same weights for the same seed.

    Args:
        own: one of the caller's, whose weights are what they are; it stays so.
    """
    with fresh(config.seed):
        if own is None:
            network = build_model(config.student, config.data.classes, config.data.in_channels)
        else:
            network = copy.deepcopy(own)
    try_out(network, config.student, dataset.train, config.data.classes)
    return network


def parse_teachers(texts: Sequence[str]) -> dict[str, str]:
    """`role=FILE` texts (`--teacher`) by role."""
    parsed: dict[str, str] = {}
    for text in texts:
        role, equals, file = text.partition("=")
        if not equals or role not in ("clean", "robust") or not file:
            raise BenchError(f"--teacher {text!r}: write --teacher robust=FILE or --teacher clean=FILE.")
        if role in parsed:
            raise BenchError(f"--teacher {role}=... is given twice.\nChoose one of {parsed[role]} and {file}.")
        parsed[role] = file
    return parsed
