"""Evaluates one model under a suite of attacks and makes the record of it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.attack import Attack, Protocol, ResumableAttack, check_images
from bench.compute.seeding import seeded
from bench.compute.speedups import enabled
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.evaluation import sanity
from bench.evaluation.attack_run import AttackRun, Begun, Clean, batch_size, start_noise
from bench.evaluation.cache import Slot
from bench.evaluation.made_before import MadeBefore
from bench.evaluation.probes import PROBED, SHARE, Probes
from bench.evaluation.suites import GRADIENT_FREE, Entry, Suite
from bench.evaluation.target import Job, check_device, ready, view_of
from bench.evaluation.transfers import Surrogate, Transfers
from bench.models import check_finite
from bench.records.outcomes import pack, pack_radii, unpack
from bench.records.parameters import applied
from bench.records.record import AttackResult, Checks, Data, Record, Subject
from bench.registry import attack_class
from bench.stats import wilson_interval
from bench.system import provenance
from bench.system.console import Reporter
from bench.system.signals import StopRequest, interruptible
from bench.system.text import now
from bench.threat import Threat


@dataclass
class Evaluator:
    """Runs suites on models; what a stopped evaluation has computed, and a surrogate's images, are kept.

    Attributes:
        seed: of the attacks' start noise, which belongs to the sample and not to its batch.
        kept: folder for what is kept; None: in memory alone.
        speedups: those that are on, of `bench.compute.speedups.SPEEDUPS`; they change no outcome.
        worst_case: whether a sample is left alone once an iterate of a gradient attack fools the model; the record then
            holds who was right on every iterate, and nothing of the last one alone.
        precision: what it was asked to compute in (`bench.compute.device.prepare`).
        checks: whether to look at images for the checks of the evaluation too.
        attack_set: parameters of the attacks in place of the protocol's (`bench.evaluation.own_parameters`); those of
            the checks stay the protocol's. places: see `Suite`.
        function: a digest of what the network computes, where its weights may be another's too; see `kept`.
    """

    device: torch.device
    protocol: Protocol
    reporter: Reporter
    stop: StopRequest
    seed: int = 0
    kept: Path | None = None
    speedups: frozenset[str] = field(default_factory=enabled)
    worst_case: bool = False
    precision: Literal["32", "tf32"] = "32"
    checks: bool = True
    function: str | None = None
    attack_set: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.transfers = Transfers(self.kept / "transfers" if self.kept else None, self.reporter.say)
        self.made_before = MadeBefore(self.transfers, self.device, self.seed, self.speedups, self._check_stop)

    def evaluate(
        self,
        network: nn.Module,
        dataset: Dataset,
        subject: Subject,
        suite: Suite,
        limit: int | None,
        record_id: str,
        surrogate: Surrogate | None = None,
        begun: Record | None = None,
    ) -> Record:
        """Attack a model with all attacks of a suite on the test split's first `limit` images.

        An attack that begins as another one (AutoAttack as `apgd`) does only the rest where the other's outcomes are
        among these results, or in the record `begun`, of the same model under the same conditions.

        The model is evaluated in eval mode, in its own precision, and comes back in the mode and with the gradient
        flags it was given in.

        Raises:
            BenchError: a transfer attack has no surrogate, the model is on another device, weights or outputs are not
                finite, or an attack made what are no images within its eps.
            Interrupted: a signal asked to stop; what is computed by then is kept.
        """
        check_device(network, self.device)
        check_finite(network, _named(subject))
        if surrogate is not None:
            check_device(surrogate.network, self.device, "surrogate")
            check_finite(surrogate.network, f"the surrogate {surrogate.model}")
        split = dataset.test.first(limit)
        started = time.monotonic()
        unfinished = self.kept / "unfinished" / record_id if self.kept else None
        with ready(network):
            data, view = _data(dataset, split), view_of(network, self.speedups)
            job = Job(network, split.to(self.device), data, subject, surrogate, view)
            results, flags, checks = self._attacked(job, suite, unfinished, begun)
            environment = provenance.describe(self.device) | {"speedups": job.speedups}
        return Record(
            id=record_id,
            subject=subject,
            suite=suite.name,
            protocol=self.protocol,
            data=job.data,
            seed=self.seed,
            results=results,
            flags=flags,
            checks=checks,
            worst_case=self.worst_case,
            precision=self.precision,
            attack_set=dict(self.attack_set),
            environment=environment,
            created=now(),
            seconds=round(time.monotonic() - started, 3),
        )

    def forget(self, record_id: str) -> None:
        """Remove what is kept of an evaluation, once its record is where it is wanted."""
        if self.kept is not None:
            shutil.rmtree(self.kept / "unfinished" / record_id, ignore_errors=True)

    def _attacked(
        self, job: Job, suite: Suite, unfinished: Path | None, begun: Record | None
    ) -> tuple[dict[str, AttackResult], list[str], Checks]:
        """The results of a suite's attacks by name, the checks that failed, and what checks there were."""
        entries = dict.fromkeys([Entry("clean"), *(entry.on(job.data.threat) for entry in suite.entries)])
        results: dict[str, AttackResult] = {}
        passed: list[int | None] = []
        with ExitStack() as stack:
            for module in {job.network, job.module}:
                stack.enter_context(interruptible(module, self._check_stop))
                stack.enter_context(job.passes.through(module))
            total = len(entries) * job.data.n
            with self.reporter.task(f"{job.subject.label}: {suite.name}", total) as advance:
                for entry in entries:
                    results[entry.result], images = self._attack(
                        job, entry, unfinished, self._begun(job, entry, results, begun), advance
                    )
                    passed.append(images)
            counted = [images for images in passed if images is not None]
            attacked = sum(counted) if len(counted) == len(passed) else None
            outcomes, checks = self._checked(job, suite, results, attacked)
        flags = [
            *sanity.flags(results, job.data.n, outcomes, job.data.threat),
            *sanity.other_radii(results, job.data.eps),
        ]
        return results, flags if self.checks else [*flags, sanity.UNCHECKED], checks

    def crafted(self, network: nn.Module, dataset: Dataset, name: str, n: int) -> Tensor:
        """The images that an attack makes of the test split's first n when this evaluation runs it: (n, C, H, W).

        The attack has to be one that looks at each sample alone. The model comes back as it was.
        """
        check_device(network, self.device)
        split = dataset.test.first(n).to(self.device)
        x, attack = to_float(split.images), self.attack_named(name, dataset.threat)
        with ready(network), seeded(self.device, self.seed, name, 0):
            x_adv = attack(network, x, split.labels, noise=start_noise(attack, x, 0, self.seed, name))
        check_images(name, attack.threat, x_adv, x)
        return x_adv

    def _begun(self, job: Job, entry: Entry, results: dict[str, AttackResult], record: Record | None) -> Begun | None:
        """The outcomes that an attack may begin from: they are its own first part's, under the same conditions."""
        attack = self.attack_of(entry, job.data.threat)
        if not isinstance(attack, ResumableAttack) or attack.begins_as is None or entry.transfer:
            return None
        first = replace(entry, attack=attack.begins_as)
        source = None if first.result in results else record
        if source is not None and not self._same_conditions(job, source):
            return None
        result = (results if source is None else source.results).get(first.result)
        if (
            result is None
            or not result.parameters == self.attack_of(first, job.data.threat).parameters() == attack.parameters()
        ):
            return None
        right = torch.from_numpy(unpack(result.final, job.data.n))
        return Begun(right, result.components, None if source is None else source.id)

    def _same_conditions(self, job: Job, record: Record) -> bool:
        """Whether a record's numbers are what this evaluation would find: same weights, images and software."""
        here = provenance.describe(self.device) | {"speedups": job.speedups}
        if self.function is not None:
            here["function"] = self.function
        conditions = ("device", "packages", "speedups", "function")
        return (
            (record.subject.checkpoint, record.subject.model) == (job.subject.checkpoint, job.subject.model)
            and record.data == job.data
            and (record.seed, record.protocol, record.precision) == (self.seed, self.protocol, self.precision)
            and all(record.environment.get(name) == here.get(name) for name in conditions)
        )

    def _slot(self, job: Job, entry: Entry, unfinished: Path | None, begun: Begun | None = None) -> Slot:
        """Where the outcomes of one attack are kept until the record is written."""
        attack = self.attack_of(entry, job.data.threat)
        key = {
            "checkpoint": job.subject.checkpoint,
            "model": job.subject.model,
            "attack": entry.result,
            "parameters": attack.parameters(),
            "images": job.data.fingerprint,
            "seed": self.seed,
            "batch_size": batch_size(attack, job.split, job.data.n),
            "worst_case": self.worst_case,
            "precision": self.precision,
            "device": self.device.type,
            "packages": provenance.packages(),
            "surrogate": job.surrogate.checkpoint if entry.transfer and job.surrogate else None,
        }
        if self.function is not None:
            key["function"] = self.function
        name = re.sub("[:/@]", "-", entry.result)
        if begun is not None:  # without those outcomes what is kept says too little
            key["begun"], name = pack(begun.right.numpy()), f"{name}.rest"
        name += ".safetensors"
        return Slot(unfinished / name if unfinished else None, key, self.reporter.say)

    def _attack(
        self, job: Job, entry: Entry, unfinished: Path | None, begun: Begun | None, advance: Any
    ) -> tuple[AttackResult, int | None]:
        """The result of one attack, and how many images it passed through the network, if that is known."""
        slot = self._slot(job, entry, unfinished)
        if begun is not None and (slot.load() or slot.within("inner").load()):  # it is further already
            begun = None
        elif begun is not None:
            slot = self._slot(job, entry, unfinished, begun)
            self.reporter.say(f"{entry.result} begins from {begun.record or 'what was just attacked'}.")
        attack, surrogate = self.attack_of(entry, job.data.threat), job.surrogate if entry.transfer else None
        if entry.transfer and surrogate is None:
            raise BenchError(f"{entry.result} needs a surrogate.\nGive one with --teacher robust=FILE.")
        run = AttackRun(
            job=job,
            subject=_named(job.subject),
            attack=attack,
            result=entry.result,
            transferred=self.made_before.images(job, entry.attack, attack, surrogate),
            seed=self.seed,
            worst_case=self.worst_case,
            slot=slot,
            check_stop=self._check_stop,
            begun=begun,
        )
        progress = run.outcomes(advance)
        result = _result(
            torch.cat(progress.final).numpy(),
            torch.cat(progress.always).numpy() if progress.always and not self.worst_case else None,
            job.split.labels.cpu().numpy(),
            job.data.classes,
            parameters=attack.parameters(),
            surrogate=None if surrogate is None else surrogate.checkpoint,
            batch_size=getattr(attack, "batch_size", run.batch_size),
            seconds=round(progress.seconds, 3),
            components=progress.components,
            radii=pack_radii(torch.cat(progress.radii).numpy()) if progress.radii else None,
        )
        return result, progress.passed

    def _check_stop(self) -> None:
        """Raise `Interrupted` where a signal has asked to stop; called before every pass through a network."""
        if self.stop:
            raise self.stop.interrupt("Stopped; what is computed is kept. Run the same command again for the rest.")

    def _checked(
        self, job: Job, suite: Suite, results: dict[str, AttackResult], attacked: int | None
    ) -> tuple[dict[str, np.ndarray], Checks]:
        """Outcomes on the first images for the checks of the evaluation, and what they cost.

        Args:
            attacked: images that the attacks passed through the network; None where that is not known.
        """
        if not self.checks:
            return {}, Checks(made=False, passes=0, attack_passes=attacked, seconds=0)
        began, started = job.passed, time.monotonic()
        if not suite.entries:  # of no attack there is nothing to doubt
            return {}, Checks(passes=0, attack_passes=attacked, seconds=0, left_out=_without_chance(job.data))
        probes = self._probes(job, suite, results)
        budget = None if attacked is None else int(SHARE * attacked)
        most = probes.price if budget is None else min(budget, probes.price)
        share = f", at most {most / (most + attacked):.0%} of all passes" if attacked else ""
        with (
            seeded(self.device, self.seed, "probes"),
            self.reporter.task(f"{job.subject.label}: checks{share}", most) as advance,
        ):
            found = probes.look(budget, lambda: job.passed, advance)
        left_out = [*found.left_out, *_without_chance(job.data)]
        outcomes = {name: value.cpu().numpy() for name, value in found.outcomes.items()}
        seconds = round(time.monotonic() - started, 3)
        passes = job.passed - began
        return outcomes, Checks(passes=passes, attack_passes=attacked, seconds=seconds, left_out=left_out)

    def _probes(self, job: Job, suite: Suite, results: dict[str, AttackResult]) -> Probes:
        """What to look at: all variations of the reference attack for a white-box suite, else the reference alone."""
        x, y = job.batch(0, PROBED)
        attack = attack_class(sanity.PROBE).for_protocol(self.protocol, job.data.threat)
        noise = start_noise(attack, x, 0, self.seed, sanity.PROBE)
        known: dict[str, Tensor | None] = {}
        own = self.attack_named(sanity.PROBE, job.data.threat)
        if sanity.PROBE in results and not self.worst_case and own == attack:  # the same attack from the same noise
            known["reference"] = torch.from_numpy(unpack(results[sanity.PROBE].final, job.data.n)[: len(x)]).to(
                y.device
            )
        if GRADIENT_FREE in results:
            known["queries"] = None
        return Probes(job.network, x, y, attack, noise, suite.white_box, known)

    def attack_named(self, name: str, threat: Threat | float) -> Attack:
        """An attack as the protocol defines it, for a threat, but for `attack_set`; `clean` is none."""
        if name == "clean":
            return Clean()
        attack = attack_class(name).for_protocol(self.protocol, threat)
        own = {key: place for key, place in self.places.items() if hasattr(attack, key)}
        return applied(attack, name, {**own, **self.attack_set})

    def attack_of(self, entry: Entry, own: Threat) -> Attack:
        """The attack of an entry, on a dataset of this threat.

        Raises:
            BenchError: the entry states a threat, and the attack keeps a radius of its own.
        """
        attack = self.attack_named(entry.attack, entry.under(own))
        if entry.threat is not None and attack.threat != entry.under(own):
            raise BenchError(
                f"The attack {entry.attack} keeps its own radius, {attack.threat}, and was to be run under "
                f"{entry.under(own)}.\nRun it without @{entry.threat}."
            )
        return attack


def _named(subject: Subject) -> str:
    """What a network is called in messages: its run, or its file or class."""
    return subject.run or subject.label


def _data(dataset: Dataset, split: Split) -> Data:
    """What a record says of the test images: all of them, or the first ones, `split`."""
    return Data(
        name=dataset.name,
        split="test",
        n=len(split),
        total=len(dataset.test),
        classes=dataset.num_classes,
        eps=dataset.eps,
        norm=dataset.norm,
        fingerprint=split.fingerprint,
        class_counts=torch.bincount(split.labels, minlength=dataset.num_classes).tolist(),
    )


def _without_chance(data: Data) -> list[str]:
    """That clean accuracy is not held against chance, where it would tell nothing."""
    few = not sanity.tells_chance(data.n, data.classes)
    return [f"clean accuracy against chance: {data.n} images are too few"] * few


def _result(
    right: np.ndarray, always: np.ndarray | None, labels: np.ndarray, classes: int, **facts: Any
) -> AttackResult:
    correct = int(right.sum())
    by_class = [right[labels == label] for label in range(classes)]
    return AttackResult(
        final=pack(right),
        worst=None if always is None else pack(always),
        correct=correct,
        accuracy=correct / len(right),
        interval=wilson_interval(correct, len(right)),
        worst_accuracy=None if always is None else float(always.mean()),
        class_accuracy=[float(outcomes.mean()) if len(outcomes) else None for outcomes in by_class],
        **facts,
    )
