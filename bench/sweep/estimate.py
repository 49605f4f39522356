"""How long a plan's tasks take and what memory they need, from what was measured on the same device, or not at all."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bench.cost.profile import Profile, load_profiles
from bench.cost.workload import IMAGES
from bench.errors import unknown_name
from bench.jobs import train
from bench.jobs.train import Request
from bench.recipes import hyperparameters, recipe
from bench.recipes.schedule import first_epoch
from bench.records.index import home_records
from bench.records.record import Record
from bench.runs.folder import RunFolder, all_runs
from bench.sweep.plan import Task
from bench.system.home import Home
from bench.threat import Threat
from bench.training.monitor import held_out_of
from bench.training.step import phase_shares
from bench.vocabulary import LINF_EPS


@dataclass(frozen=True)
class Estimate:
    """What a task takes.

    Attributes:
        seconds, memory: None where nothing tells; memory in bytes, at most.
        basis: what they follow from, or how to find out.
    """

    seconds: float | None
    memory: int | None
    basis: str


@dataclass(frozen=True)
class _Finished:
    """A finished run: what it was, its training images, and its training time in seconds."""

    id: str
    what: tuple[object, ...]
    seconds: float


class Estimator:
    """Estimates tasks from the profiles, runs and records of a home.

    Args:
        hardware: the device's name, as `bench profile` writes it.
    """

    def __init__(self, home: Home, hardware: str) -> None:
        self.hardware, self._home = hardware, home
        self._every = load_profiles(home)
        self._finished = [run for folder in all_runs(home) if (run := _finished(folder)) is not None]
        self._profiles = [profile for profile in self._every if profile.device == hardware and not profile.off]
        self._runs = [run for device, run in self._finished if device == hardware]

    @cached_property
    def _records(self) -> list[Record]:
        """Read where evaluations are asked for: reading them keeps an index."""
        return list(home_records(self._home))

    @cached_property
    def _rates(self) -> dict[tuple[object, ...], list[float]]:
        """Seconds an image of the evaluations on this device."""
        rates: dict[tuple[object, ...], list[float]] = defaultdict(list)
        for record in self._records:
            if _device(record) == self.hardware:
                what = (record.suite, record.conduct, record.data.norm, record.subject.model, record.data.name)
                rates[what].append(record.seconds / record.data.n)
        return rates

    def check_hardware(self) -> None:
        """Raise `BenchError` where nothing was ever measured on such a device, but on others."""
        devices = {profile.device for profile in self._every} | {device for device, _ in self._finished}
        others = sorted((devices | {_device(record) for record in self._records}) - {self.hardware, ""})
        if others and not (self._profiles or self._runs or self._rates):
            raise unknown_name("device (nothing was measured on it)", self.hardware, others)

    def estimate(self, task: Task) -> Estimate:
        """What a task takes."""
        if task.evaluation is not None:
            return self._evaluation(task)
        return self._from_profiles(task) or self._from_runs(task) or Estimate(None, None, _how_to_find_out(task))

    def _from_profiles(self, task: Task) -> Estimate | None:
        """The steps of all phases; what a setting of `--set` changes of a step's own cost is not in a profile."""
        request = task.request
        epochs = request.epochs or train.scheduled(request, task.dataset).training.epochs
        fitting = {profile.phase: profile for profile in sorted(self._fitting(task), key=lambda each: each.created)}
        shares = self._phase_shares(task, epochs)
        if not fitting or not shares.keys() <= fitting.keys():
            return None
        used = [fitting[phase] for phase in shares]
        steps = length(request, task.dataset, used[0].train_images).steps
        seconds = sum(epochs * shares[each.phase] * steps * each.seconds_per_step for each in used)
        return Estimate(seconds, max(each.peak_memory for each in used), f"profile of {used[0].created[:10]}")

    def _fitting(self, task: Task) -> Iterable[Profile]:
        request = task.request
        variant, training, _ = train.scheduled(request, task.dataset)
        chosen, roles = recipe.load(request.recipe), hyperparameters.method_class(request.method).roles
        what = {
            "method": request.method,
            "variant": variant,
            "student": request.student,
            "teachers": {role: chosen.teacher(role, request.method, task.dataset).model for role in roles},
            "dataset": task.dataset,
            "batch_size": request.batch_size or training.batch_size,
            "precision": request.precision,
            "norm": request.threat.norm if isinstance(request.threat, Threat) else "linf",
        }
        return (each for each in self._profiles if all(getattr(each, name) == value for name, value in what.items()))

    def _phase_shares(self, task: Task, epochs: int) -> dict[str, float]:
        request = task.request
        variant, training, own = train.scheduled(request, task.dataset)
        settings = hyperparameters.parse_settings(request.method, request.settings)
        values = hyperparameters.resolve(request.method, variant, own, settings, LINF_EPS)
        defense = hyperparameters.make(request.method, values)
        awp, horizon = training.awp, training.scaling_schedule.horizon
        begins = None if awp is None else first_epoch(awp.from_epoch, epochs, horizon)
        return {name: share for name, (_, share) in phase_shares(defense, epochs, begins).items()}

    def _from_runs(self, task: Task) -> Estimate | None:
        """A finished run of the same length, of any seed and setting of `--set`."""
        request = task.request
        training, chosen = train.scheduled(request, task.dataset).training, recipe.load(request.recipe)
        wanted = (
            *(request.method, request.student, task.dataset, chosen.name, chosen.digest),
            *(request.precision, request.role, request.threat.norm if isinstance(request.threat, Threat) else "linf"),
            *(request.limit_train, request.epochs or training.epochs, request.batch_size or training.batch_size),
        )
        same = [run for run in self._runs if run.what == wanted]
        if not same:
            return None
        basis = f"run {same[0].id}" if len(same) == 1 else f"{len(same)} finished runs"
        return Estimate(statistics.median(run.seconds for run in same), None, basis)

    def _evaluation(self, task: Task) -> Estimate:
        evaluation, request = task.evaluation, task.request
        assert evaluation is not None
        asked = evaluation.threats[0] or request.threat
        norm = asked.norm if isinstance(asked, Threat) else "linf"
        rates = self._rates.get((evaluation.suite, evaluation.protocol, norm, request.student, task.dataset))
        if not rates:
            return Estimate(
                None, None, f"no record of {evaluation.suite} with {request.student} on {task.dataset} on this device"
            )
        total = next(record.data.total for record in reversed(self._records) if record.data.name == task.dataset)
        n, networks = min(evaluation.limit or total, total), self._networks(task)
        basis = f"{len(rates)} records, {n} images" + (f", {networks} networks" if networks > 1 else "")
        return Estimate(networks * n * statistics.median(rates), None, basis)

    def _networks(self, task: Task) -> int:
        """How many networks an evaluation attacks, at most: the best may turn out to be the last."""
        training = train.scheduled(task.request, task.dataset).training
        both = task.evaluation is not None and task.evaluation.checkpoint_of == "both"
        kept = 2 if both and training.selection.keep != "last" else 1
        return kept * (1 if training.average is None else 2)  # and the student itself beside its average


class Length(NamedTuple):
    """How long a run is.

    Attributes:
        steps: in an epoch. batch_size: images a step. images: that it is trained on, without those set aside.
    """

    epochs: int
    steps: int
    batch_size: int
    images: int


def length(request: Request, dataset: str, train_images: int) -> Length:
    """How long a run is on a dataset of so many training images."""
    training = train.scheduled(request, dataset).training
    n = min(request.limit_train or train_images, train_images)
    images, batch_size = n - held_out_of(n, training.selection), request.batch_size or training.batch_size
    return Length(request.epochs or training.epochs, math.ceil(images / batch_size), batch_size, images)


def _how_to_find_out(task: Task) -> str:
    request = task.request
    command = f"bench profile --methods {request.method} --student {request.student} --dataset {task.dataset}"
    if task.dataset not in IMAGES or request.teachers:
        return "no profile, and no finished run like it"
    return f"no profile: {command} --recipe {request.recipe}"


def _finished(folder: RunFolder) -> tuple[str, _Finished] | None:
    """(device, run) of a finished run; None where it is not finished, or nothing tells where it ran."""
    config, summary, device = folder.config(), folder.summary(), folder.device()
    if summary is None or device is None:
        return None
    what = (
        *(config.method, config.student, config.data.name, config.recipe, config.recipe_digest),
        *(config.precision, config.role, config.data.norm),
        *(config.requested.get("limit_train"), config.epochs, config.batch_size),
    )
    return device, _Finished(folder.id, what, summary.seconds)


def _device(record: Record) -> str:
    device = record.environment.get("hardware")
    return device if isinstance(device, str) else ""
