"""`bench.evaluate`: attack any PyTorch classifier from Python, as `bench eval` does from the command line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from bench.api import arguments
from bench.api.networks import as_network, check_gradient, fingerprint, name_of
from bench.api.trained import Trained, given_dataset
from bench.attack import Protocol
from bench.compute.device import as_before, name_memory_errors, prepare
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.evaluation import own_parameters
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import Suite, suites_named
from bench.evaluation.target import check_device
from bench.evaluation.transfers import Surrogate
from bench.jobs.make_record import Asked, begun_by
from bench.models.checkpoints import weights_hash
from bench.records.files import write_record
from bench.records.record import Record, Subject
from bench.records.subjects import foreign_subject
from bench.runs.folder import RunFolder
from bench.runs.networks import network_of
from bench.runs.subject import run_subject
from bench.system import locks
from bench.system.console import Reporter
from bench.system.home import Home
from bench.system.signals import StopRequest
from bench.threat import Threat
from bench.vocabulary import Selected

Model = nn.Module | Callable[[Tensor], Any]
"""A network, or a function of images: what either returns may hold the logits as `.logits`, "logits" or in a tuple."""


def evaluate(
    model: Model | Trained,
    dataset: str | Dataset | None = None,
    suite: str | Sequence[str] = "whitebox",
    *,
    limit: int | None = None,
    protocol: Protocol = "official",
    seed: int = 0,
    threat: Threat | str | float | None = None,
    attack_set: Mapping[str, Any] | None = None,
    surrogate: Model | None = None,
    name: str | None = None,
    home: Path | str | None = None,
    save: bool = False,
    checks: bool = True,
    checkpoint_of: Selected = "best",
    device: torch.device | str | None = None,
) -> Record:
    """Attack a model with all attacks of a suite.

    The progress of an evaluation that is broken off is kept in HOME/results/kept until the record is made: the same
    call goes on from there.

    Args:
        model: maps images in [0, 1], (B, C, H, W), to logits, (B, classes); RobustBench's models do. A network or a
            function; what it returns may also be an object with `.logits`, a mapping with "logits", or a tuple with one
            tensor of that shape. It is attacked on the device it is on, in its own precision and in eval mode (so are
            the networks that a function uses), and comes back in the mode and with the gradient flags it was given in,
            also when something fails. Or what `bench.train` returns: the record is then of that run, as
            `bench eval`'s.
        dataset: as for `bench eval --dataset` (`parquet:DIR`), or one that is loaded; None: what a run was trained on,
            `cifar10` for other models.
        suite: `bench list suites`, or an attack's name; several as a list or with commas between them.
        limit: how many test images, from the first.
        protocol: whose attack parameters: `official` or `paper`.
        seed: of the attacks' start noise.
        threat: what to attack under: "l2:0.5", or a radius in the data set's own norm; None: what a run was trained
            against, and for other models the data set's own.
        attack_set: parameters of the attacks in place of the protocol's: {"steps": 100}, or of one of them:
            {"pgd-sat.steps": 100}. Tables keep such numbers apart and name the parameters.
        surrogate: what transferred attacks are crafted on; needed by the suites `blackbox` and `full`.
        name: what records and tables call the model; its class's name if not given.
        home: folder of `data/` and `results/`; None: a run's own, what BENCH_HOME names, or the current folder.
        save: whether to write the record to HOME/results/records; `bench results list` shows it, and so does
            `bench tables --student NAME`, with the name of its class. Where it was saved before, that record is
            returned, and nothing is computed.
        checks: False does without the checks that notice weak attacks; the record then has a flag "not checked".
        checkpoint_of: of what `bench.train` returns the `best` weights or the `last` ones.
        device: where a function computes that does not show its networks; a network's own is known.

    Returns:
        The record: accuracies with intervals, the outcome of every sample, flags of a weak evaluation.

    Raises:
        BenchError: an unknown name, images that the model cannot take, a model whose weights or outputs are not finite,
            a function without a gradient, a surrogate that is missing, an attack that leaves its eps or [0, 1], a
            record of the same name of a model that computes otherwise.
    """
    run, place = (model if isinstance(model, Trained) else None), _device(device)
    arguments.one_of("checkpoint_of", checkpoint_of, get_args(Selected))
    if run is None and checkpoint_of != "best":
        raise BenchError(
            "A model has no best and no last weights.\nGive what bench.train() returns, or no checkpoint_of."
        )
    model = _student(model, checkpoint_of) if isinstance(model, Trained) else model
    place_of_records = run.home if run and home is None else home
    how = _conditions(suite, limit, protocol, seed, name, save, checks, place_of_records, attack_set)
    usual = run.dataset if run else "cifar10"
    data = given_dataset(usual if dataset is None else dataset, how.home.data).under(threat)
    how = replace(how, suite=how.suite.on(data.test.images.shape[1:]))
    own_parameters.check(how.attack_set, how.suite, protocol, data.threat)
    label = how.name or (run.id if run else name_of(model))
    network = as_network(model, label, data.test, data.num_classes, place)
    if place is not None:
        check_device(network, place)
    if not isinstance(model, nn.Module) and how.suite.white_box:
        check_gradient(network, label, data.test)
    own, function = _identity(model, network, data)
    subject = foreign_subject("checkpoint", label, name_of(model), own, setting="model given from Python")
    if run is not None:
        subject, function = _subject_of(run, network, checkpoint_of), None
    crafted_on = None if surrogate is None else _surrogate(surrogate, data, place)
    return how.record_of(network, data, subject, function, crafted_on)


@dataclass(frozen=True)
class Conditions:
    """How a model is evaluated; all that `evaluate` is told beside the model and its data."""

    suite: Suite
    limit: int | None
    protocol: Protocol
    seed: int
    name: str | None
    save: bool
    checks: bool
    home: Home
    attack_set: Mapping[str, Any] = field(default_factory=dict)

    def record_of(
        self, network: nn.Module, data: Dataset, subject: Subject, function: str | None, crafted_on: Surrogate | None
    ) -> Record:
        """The record of a network, made now or before.

        Args:
            function: a digest of what it computes; None where that is not always the same.
        """
        on = crafted_on.checkpoint if crafted_on is not None and self.suite.needs_surrogate else None
        asked = Asked(
            subject,
            data,
            self.suite,
            self.limit,
            self.protocol,
            self.seed,
            surrogate=on,
            checks=self.checks,
            attack_set=self.attack_set,
        )
        found = self._found(asked, function)
        if found is not None:
            return found
        place = next(network.parameters(), torch.empty(0)).device
        sure = function is not None or subject.run is not None
        with as_before(), name_memory_errors(), kept_in(self.home if sure else None, asked.id) as kept:
            prepare(place, autotune=False)
            evaluator = Evaluator(
                place,
                self.protocol,
                Reporter(),
                StopRequest(),
                self.seed,
                kept=kept,
                checks=self.checks,
                function=function,
                attack_set=self.attack_set,
                places=self.suite.places,
            )
            known = crafted_on is not None and crafted_on.function is not None
            evaluator.transfers.folder = kept / "unfinished" / asked.id if kept is not None and known else None
            begun = begun_by(asked, self.home.records) if self.save else None
            record = evaluator.evaluate(network, data, subject, self.suite, self.limit, asked.id, crafted_on, begun)
            if function is not None:
                record = record.model_copy(update={"environment": record.environment | {"function": function}})
            if self.save:
                write_record(record, self.home.records)
            evaluator.forget(asked.id)
        return record

    def _found(self, asked: Asked, function: str | None) -> Record | None:
        """The record that was saved before, of a model that computes the same."""
        found = asked.find(self.home.records) if self.save else None
        if found is None:
            return self._same_weights(asked) if self.save and asked.subject.run is not None else None
        of_run = asked.subject.run is not None
        if not of_run and (function is None or found.environment.get("function") != function):
            raise BenchError(
                f"The record {found.id} exists already in {self.home.records}, of a model that may compute otherwise.\n"
                "Delete it, or choose a name=."
            )
        Reporter().say(f"Already evaluated, nothing changed: {self.home.records / f'{found.id}.json'}")
        return found

    def _same_weights(self, asked: Asked) -> Record | None:
        """The record of a run's network that has the weights of its other one, if that was saved before."""
        twin = asked.find_of("last" if asked.subject.checkpoint_of == "best" else "best", self.home.records)
        if twin is None:
            return None
        record = asked.of_same_weights(twin)
        write_record(record, self.home.records)
        return record


def _conditions(
    suite: Any, limit: Any, protocol: Any, seed: Any, name: Any, save: Any, checks: Any, home: Any, attack_set: Any
) -> Conditions:
    """Find mistakes before anything long begins."""
    if limit is not None:
        limit = arguments.whole("limit", limit, 1, "give the number of test images to attack, 1 or more, or None")
    arguments.one_of("protocol", protocol, ("official", "paper"))
    seed = arguments.whole("seed", seed, 0, "a seed is a whole number, 0 or more")
    if torch.is_inference_mode_enabled():
        raise BenchError("Attacks need gradients, and inference mode has none.\nCall outside torch.inference_mode().")
    chosen = suites_named(arguments.names_in("suite", suite, "['fgsm', 'pgd-sat']"))
    flags = arguments.yes_or_no("save", save), arguments.yes_or_no("checks", checks)
    own = own_parameters.parsed(arguments.settings("attack_set", attack_set, "{'steps': 100}"), chosen)
    place = arguments.home_at(home)
    return Conditions(chosen, limit, protocol, seed, arguments.text("name", name), *flags, place, own)


def _student(run: Trained, which: Selected) -> nn.Module:
    """A run's network where its student is; of the student's own class."""
    if which == "best":
        return run.student
    place = next(run.student.parameters(), torch.empty(0)).device
    return network_of(RunFolder(run.folder), which, copy.deepcopy(run.student)).to(place)


def _subject_of(run: Trained, network: nn.Module, which: Selected) -> Subject:
    subject = run_subject(RunFolder(run.folder), which)
    if weights_hash(network) != subject.checkpoint:
        raise BenchError(
            f"The student of {run.id} has other weights than the run selected.\n"
            "Evaluate it by itself, bench.evaluate(run.student), or call bench.train() again for what was trained."
        )
    return subject


def _identity(model: Model, network: nn.Module, data: Dataset) -> tuple[str, str | None]:
    """The hash of a network's weights, and a digest of what it computes, which has to do for both of a function."""
    function = fingerprint(network, data.test)
    return weights_hash(model) if isinstance(model, nn.Module) else function or weights_hash(network), function


def _surrogate(model: Model, data: Dataset, device: torch.device | None) -> Surrogate:
    name = name_of(model)
    network = as_network(model, f"the surrogate {name}", data.test, data.num_classes, device)
    own, function = _identity(model, network, data)
    return Surrogate(network, own, name, function)


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise BenchError(f"device={device!r} is none.\nGive 'cpu', 'cuda', 'cuda:1', or None.") from error


@contextmanager
def kept_in(home: Home | None, identity: str) -> Iterator[Path | None]:
    """Where an evaluation keeps what it has done, for this process alone; None where it cannot.

    Folders with nothing else in them go again.
    """
    if home is None:
        yield None
        return
    unfinished, new = home.kept / "unfinished", not home.root.exists()
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.held(unfinished / f"{identity}.lock", f"{identity} is being evaluated"))
                kept: Path | None = home.kept
            except BenchError:  # another process is at it, or nothing can be written
                kept = None
            yield kept
    finally:
        with suppress(OSError):
            for folder in (unfinished, home.kept, *[home.results] * (home.results != home.root), *[home.root] * new):
                folder.rmdir()
