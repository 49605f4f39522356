"""`bench.train`: what `bench run` does, with networks, data sets and teachers of one's own in place of names."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import arguments
from bench.api.networks import Unwrapped, as_network, fingerprint, images_for, name_of
from bench.api.trained import Trained, given_dataset
from bench.compute.device import as_before
from bench.compute.seeding import seeded
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.jobs import teachers as jobs_teachers
from bench.jobs import train as jobs_train
from bench.jobs.session import Session, opened
from bench.jobs.train import Own, Request, Teacher
from bench.models.checkpoints import weights_hash
from bench.recipes.recipe import find
from bench.runs.config import TeacherRef
from bench.runs.folder import RunFolder
from bench.runs.networks import network_of
from bench.system.text import kind_of
from bench.threat import Threat
from bench.vocabulary import Precision

_DIGITS = 9
"""Of what a network computes in float64: as many are the same on every machine."""
_COARSE = 3
"""The same in float32, for a network that computes in nothing else."""


def train(
    method: str,
    student: str | nn.Module | Callable[[], nn.Module],
    dataset: str | Dataset = "cifar10",
    *,
    teachers: Mapping[str, str | Path | nn.Module | Trained] | None = None,
    recipe: str | Path = "official",
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    teacher_seeds: bool = False,
    set: Mapping[str, Any] | None = None,
    precision: Precision = "32",
    limit_train: int | None = None,
    extra: str | None = None,
    extra_share: float | None = None,
    threat: Threat | str | float | None = None,
    device: str = "auto",
    loggers: str | Sequence[str] = (),
    restart: bool = False,
    home: Path | str | None = None,
) -> Trained:
    """Train a student by a defense, as `bench run` does; called again it continues, or finds the run finished.

    Args:
        method: `bench list methods`.
        student: an architecture's name (`bench list models`), a network, whose weights are the first ones and stay as
            they are (a copy is trained), or what makes one without arguments: then the seed decides its weights.
        dataset: as for `bench run --dataset`, or one that is loaded.
        teachers: by role, "clean" and "robust": networks, results of `train`, files, or "MODEL:FILE". Those that are
            left out are trained first, as the recipe says, or found.
        recipe: `bench list recipes`, or a file of one's own.
        epochs, batch_size: instead of the recipe's.
        seed: of the weights (but of a network that is given), the order of the images, augmentation and attacks.
        teacher_seeds: whether teachers that are trained for it are trained with this seed, not with 0 for all seeds.
        set: hyper-parameters of the method, by name, and fields of the recipe (`training.optimizer.lr`).
        precision: `32` or `bf16`. limit_train: train on the first so many images.
        extra, extra_share: additional training images, "npz:FILE", and their share of every batch, 0 to 1.
        threat: what to train against: "l2:0.5", or a radius in the data set's own norm; None: the data set's own.
        device: `auto`, `cpu` or `cuda`. loggers: `bench list loggers`.
        restart: delete the run and train it again.
        home: folder of `data/` and `results/`; None: what BENCH_HOME names, or the current folder.

    Returns:
        The finished run. `bench.evaluate` takes it as a model and records it by the run's name.

    Raises:
        BenchError: an unknown name, objects of the wrong kind, a network that does not fit the images, a loss that is
            no longer finite; or the work was interrupted, and all is saved.
    """
    place = arguments.home_at(home)
    asked = _numbers(epochs, batch_size, seed, limit_train)
    arguments.yes_or_no("restart", restart)
    arguments.yes_or_no("teacher_seeds", teacher_seeds)
    arguments.one_of("device", device, ("auto", "cpu", "cuda"))
    data = given_dataset(dataset, place.data)
    network = _student(student, asked["seed"], data)
    files, given = _teachers(teachers, data)
    digests = {} if isinstance(dataset, str) else {"dataset": _digest([data.padding, data.flip, data.test.fingerprint])}
    if network is not None:
        digests["student"] = _identity(network, data)
    request = Request(
        method=_name("method", method),
        student=_name("student", student) if network is None else _class_of(network),
        dataset=dataset if isinstance(dataset, str) else data.name,
        recipe=find(_name("recipe", str(recipe) if isinstance(recipe, Path) else recipe), place.recipes),
        precision=arguments.one_of("precision", precision, ("32", "bf16")),  # type: ignore[arg-type]
        teachers=files,
        teacher_seeds=teacher_seeds,
        settings=arguments.settings("set", set, "{'weight': 6}"),
        extra=arguments.text("extra", extra),
        extra_share=extra_share,
        threat=Threat.wanted(threat),
        own=Own(
            student=network,
            dataset=None if isinstance(dataset, str) else data,
            teachers={role: teacher for role, (teacher, _) in given.items()},
            digests=digests | {role: digest for role, (_, digest) in given.items()},
        ),
        **asked,
    )
    jobs_train.check(request)
    names = arguments.names_in("loggers", loggers, "['tensorboard']", or_none=True)
    with as_before(), opened(place, device, loggers=names) as session:
        folder = jobs_train.train(session, request, jobs_teachers.gather(session, request), restart)
        return _trained(session, folder, request)


def _trained(session: Session, folder: RunFolder, request: Request) -> Trained:
    own = request.own.student
    network = network_of(folder, network=None if own is None else copy.deepcopy(own)).to(session.device)
    summary = folder.summary()
    assert summary is not None
    return Trained(
        id=folder.id,
        folder=folder.path,
        student=network.network if isinstance(network, Unwrapped) else network,
        summary=summary,
        config=folder.config(),
        dataset=jobs_train.limited(session, replace(request, limit_train=None)),
        home=session.home,
    )


def _numbers(epochs: Any, batch_size: Any, seed: Any, limit_train: Any) -> dict[str, Any]:
    least = {"epochs": (epochs, 1), "batch_size": (batch_size, 1), "limit_train": (limit_train, 10)}
    found: dict[str, Any] = {
        name: None if value is None else arguments.whole(name, value, low, f"give a whole number, {low} or more")
        for name, (value, low) in least.items()
    }
    return found | {"seed": arguments.whole("seed", seed, 0, "a seed is a whole number, 0 or more")}


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BenchError(f"{name} is {kind_of(value)}.\nGive a name: `bench list {name}s` shows them.")
    return value


def _student(student: Any, seed: int, data: Dataset) -> nn.Module | None:
    """A network of the caller's, tried out; None for a name."""
    if isinstance(student, str):
        return None
    made = student
    if callable(student) and not isinstance(student, nn.Module):
        try:
            with jobs_train.fresh(seed):
                made = student()
        except Exception as error:  # whatever a stranger's factory raises
            raise BenchError(
                f"student() failed ({type(error).__name__}: {error}).\n"
                "Give a network, or what makes one without arguments: lambda: Net(10)."
            ) from error
    if not isinstance(made, nn.Module):
        raise BenchError(
            f"student is {kind_of(made)}.\nGive a torch.nn.Module, what makes one without arguments, or a name "
            "(`bench list models`)."
        )
    network = as_network(_copied(made, "student"), name_of(made), data.train, data.num_classes)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise BenchError(f"{name_of(made)} has no weight that may be trained.\nAllow it: student.requires_grad_(True).")
    return network


def _class_of(network: nn.Module) -> str:
    return name_of(network.network if isinstance(network, Unwrapped) else network)


def _copied(network: nn.Module, what: str) -> nn.Module:
    """A copy on the CPU, for training changes networks, and the caller's stay as they are."""
    try:
        return copy.deepcopy(network).cpu()
    except Exception as error:  # whatever a stranger's copying raises
        raise BenchError(
            f"The {what} cannot be copied ({type(error).__name__}: {error}).\nGive what makes it: lambda: Net(10)."
        ) from error


def _teachers(given: Any, data: Dataset) -> tuple[dict[str, str], dict[str, tuple[Teacher, str]]]:
    """Teachers by role: files, and networks with a digest of what they compute."""
    if given is not None and not isinstance(given, Mapping):
        raise BenchError(f"teachers is {kind_of(given)}.\nGive them by role: teachers={{'robust': network}}.")
    files: dict[str, str] = {}
    networks: dict[str, tuple[Teacher, str]] = {}
    for role, value in (given or {}).items():
        value = value.student if isinstance(value, Trained) else value
        if role not in ("clean", "robust"):
            raise BenchError(f"There is no {role!r} teacher.\nThe roles are 'clean' and 'robust'.")
        if isinstance(value, nn.Module):
            name = name_of(value)
            network = as_network(_copied(value, f"{role} teacher").eval(), name, data.train, data.num_classes)
            digest = _identity(network, data)
            ref = TeacherRef(
                role=role, model=name, source=f"{name}-{digest[:8]}", checkpoint=weights_hash(network), given=True
            )
            networks[role] = Teacher(ref, network), digest
        elif isinstance(value, (str, os.PathLike)):
            files[role] = os.fspath(value)
        else:
            raise BenchError(f"The {role} teacher is {kind_of(value)}.\nGive a network, a file, or 'MODEL:FILE'.")
    return files, networks


def _identity(network: nn.Module, data: Dataset) -> str:
    """A digest of a network as it begins: weights, layers, which of them learn, and what it computes in either mode."""
    layers = re.sub(r"0x[0-9a-f]+", "", repr(network))
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    exact = copy.deepcopy(network).double()
    try:
        computed = [fingerprint(exact, data.train, _DIGITS), *_in_training(exact, data)]
    except (RuntimeError, ValueError):  # it computes in float32 alone, or makes nothing of so few images
        computed = [fingerprint(network, data.train, _COARSE)]
    return _digest([weights_hash(network), layers, learning, computed])


@torch.no_grad()
def _in_training(network: nn.Module, data: Dataset) -> list[str]:
    """What a network computes in train mode, dropout included; it is a copy."""
    with seeded(torch.device("cpu"), 0, "identity"):
        logits: Tensor = network.train()(images_for(network, data.train.first(4)))
    return [f"{value:.{_DIGITS - 1}e}" for value in logits.flatten().tolist()]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
