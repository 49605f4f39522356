"""What one `bench run` would train, and for how long, before it does: nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from bench.compute.speedups import enabled
from bench.cost.measure import runners
from bench.cost.workload import IMAGES, Images, Workload
from bench.data.decode import keeping_nothing
from bench.jobs import train
from bench.jobs.session import Session, absolute_spec
from bench.jobs.train import Request
from bench.models.checkpoints import load_model
from bench.models.references import locate
from bench.recipes import recipe
from bench.runs.config import DataRef
from bench.runs.folder import State
from bench.sweep.done import Known, Standing
from bench.sweep.estimate import Estimator, Length, length
from bench.sweep.plan import Task, dataset_name, of_run
from bench.system import provenance
from bench.system.text import duration
from bench.threat import Threat

_PATIENCE = 6.0
"""Seconds that the timed steps of one part of a run may take, or one step where that takes longer."""


@dataclass(frozen=True)
class Part:
    """One network of a run: its student, or a teacher.

    Attributes:
        role: "student", "robust" or "clean". method: what trains it; None for a file.
        state: "given" where a file is named. source: its run, or the file; None where no run of it is known yet.
        epochs, steps, batch_size, images: of the whole run: steps an epoch, images a step and in an epoch; None for
            a file. done: share of the run that is trained, 0 to 1.
        seconds: of training steps that are left. basis: what they follow from.
    """

    role: str
    model: str
    method: str | None
    state: State | Literal["given"]
    source: str | None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    images: int | None = None
    done: float = 0.0
    seconds: float = 0.0
    basis: str = ""


@dataclass(frozen=True)
class RunPlan:
    """What a run comes to.

    Attributes:
        dataset: its name. recipe: whose schedules. device: its name. precision: of the training.
        parts: the teachers, then the student. seconds: of training steps that are left.
    """

    dataset: str
    recipe: str
    device: str
    precision: str
    parts: tuple[Part, ...]
    seconds: float


@dataclass
class _Here(Known):
    """What a run's id depends on, by the runs of a home and by what is known of the images themselves."""

    session: Session

    def data(self, request: Request) -> DataRef | None:
        known = super().data(request)
        if known is not None or request.dataset in IMAGES:
            return known
        dataset = train.limited(self.session, request)
        return train.data_ref(request, dataset, train.additional(self.session, request, dataset))


def plan_run(session: Session, request: Request, usual: bool = True) -> RunPlan:
    """What a request comes to.

    Args:
        usual: whether the session trains as profiles and earlier runs did; else, and where the request sets what they
            may have had otherwise, timed steps alone tell how long it takes.

    Raises:
        BenchError: as the run itself would; nothing is trained.
    """
    with session.stop.at_once(), keeping_nothing():
        request = replace(request, dataset=absolute_spec(request.dataset))
        source = _Here(session.home, session)
        name_of = dataset_name(lambda spec: source.name(spec) or session.dataset(spec).name, session.home.data)
        plan = of_run(request, name_of)
        images = _images(session, plan[-1])
        given = {role: _given(session, text, role, images) for role, text in request.teachers.items()}
        standing = Standing(session.home, plan, source)
        device = provenance.hardware(session.device)
        estimator = Estimator(session.home, device) if usual and not (request.settings or given) else None
        models = {part.role: part.model for part in given.values()}
        trained = [_part(session, task, standing, images, models, estimator) for task in plan]
    parts = (*given.values(), *trained)
    left = sum(part.seconds for part in parts)
    return RunPlan(plan[-1].dataset, recipe.load(request.recipe).name, device, request.precision, parts, left)


def _images(session: Session, task: Task) -> Images:
    """The dataset's images; those of well-known sets need not be here."""
    if task.dataset in IMAGES:
        return IMAGES[task.dataset]
    dataset = session.dataset(task.request.dataset)
    shape = dataset.train.images.shape
    return Images(dataset.name, (shape[1], shape[2], shape[3]), dataset.num_classes, len(dataset.train))


def _given(session: Session, text: str, role: str, images: Images) -> Part:
    """A teacher that the user names, whose file is read."""
    found = locate(text, session.home.models, images.name)
    _, spec = load_model(found.path, found.model, images.classes, images.shape[0])
    return Part(role, spec, None, "given", found.source)


def _part(
    session: Session, task: Task, standing: Standing, images: Images, given: dict[str, str], estimator: Estimator | None
) -> Part:
    request, folder = task.request, standing.folder(task)
    long = length(request, task.dataset, images.train)
    state = "not run" if folder is None else folder.state()
    progress = None if folder is None or state == "trained" else folder.progress()
    done = float(state == "trained")
    if progress is not None:
        done = ((progress.epoch - 1) * progress.steps + progress.step) / (progress.epochs * progress.steps)
    seconds, basis = 0.0, ""
    if state != "trained":
        known = estimator.estimate(task) if estimator is not None else None
        if known is not None and known.seconds is not None:
            seconds, basis = known.seconds, known.basis
        else:
            seconds, basis = _timed(session, task, images, long, given)
    return Part(
        role=request.role or "student",
        model=request.student,
        method=request.method,
        state=state,
        source=None if folder is None or state == "not run" else folder.id,
        **long._asdict(),
        done=done,
        seconds=seconds * (1 - done),
        basis=basis,
    )


def _timed(session: Session, task: Task, images: Images, long: Length, given: dict[str, str]) -> tuple[float, str]:
    """Seconds of a whole run by a few steps of each of its phases, on random images and weights."""
    request = task.request
    session.reporter.say(f"Timing steps of {request.method} on {request.student} ...")
    workload = Workload(
        request.method,
        request.student,
        images,
        request.recipe,
        batch_size=min(long.batch_size, long.images),
        precision=request.precision,
        off=tuple(enabled() - session.speedups),
        epochs=request.epochs,
        settings=request.settings,
        threat=Threat.of(request.threat or Threat()),
        given=given,
    )
    seconds, basis = 0.0, ""
    for _, share, runner in runners(workload, session.device):
        took, basis = runner.few(_PATIENCE)
        seconds += long.epochs * share * long.steps * took
    return seconds, basis


def lines(plan: RunPlan) -> Iterator[str]:
    """A plan for people, but for its table."""
    if plan.seconds:
        yield (
            f"About {duration(plan.seconds)} of training steps are left. Looks at accuracy between epochs and the "
            "attacks on each new teacher come on top."
        )
    else:
        yield "All of it is trained already."
    yield "Nothing was trained or written."


def row(part: Part) -> dict[str, str]:
    """A part as a row of the plan's table."""
    states = {"given": "from a file", "not run": "to be trained", "trained": "here", "running": "under way"}
    epochs = "" if part.epochs is None else f"{part.epochs} epoch{'s' if part.epochs > 1 else ''}"
    long = epochs and f"{epochs} of {part.steps} steps, batches of {part.batch_size}"
    done = f", {part.done:.0%} done" if 0 < part.done < 1 else ""
    return {
        "network": part.role if part.role == "student" else f"{part.role} teacher",
        "model": part.model,
        "by": part.method or "-",
        "state": states.get(part.state, part.state) + done,
        "length": long or "-",
        "left": f"about {duration(part.seconds)} ({part.basis})" if part.seconds else "-",
        "from": part.source or "-",
    }
