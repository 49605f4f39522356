"""Evaluates one model under a suite of attacks and makes the record of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import environment, sanity
from bench.attack import Attack, Outcome, Protocol, ResumableAttack
from bench.data.dataset import Dataset, Split, to_float
from bench.defense import mode
from bench.errors import BenchError
from bench.kept import Slot, forget_folder
from bench.records import AttackResult, Data, Record, Subject, pack
from bench.reporting import Reporter
from bench.runs import now
from bench.seeding import generator
from bench.statistics import wilson_interval
from bench.stopping import StopRequest, interruptible
from bench.suites import Entry, Suite, attack_class
from bench.transfers import Surrogate, Transfers

BATCH_SIZE = 250
"""Samples attacked at once. It is in every record: the results of attacks that couple a batch depend on it."""
_SAVE_SECONDS = 60
"""Longest time between two saves of what an attack has come to; a kill loses no more."""


@dataclass
class Evaluator:
    """Runs suites on models; what a stopped evaluation has computed, and a surrogate's images, are kept.

    Attributes:
        device: where models and images are.
        protocol: whose attack parameters.
        seed: of the attacks' start noise, which belongs to the sample and not to its batch.
        kept: folder for what is kept; None: in memory alone.
    """

    device: torch.device
    protocol: Protocol
    reporter: Reporter
    stop: StopRequest
    seed: int = 0
    kept: Path | None = None

    def __post_init__(self) -> None:
        self.transfers = Transfers(self.kept / "transfers" if self.kept else None, self.reporter.say)

    def evaluate(
        self,
        network: nn.Module,
        dataset: Dataset,
        subject: Subject,
        suite: Suite,
        limit: int | None,
        record_id: str,
        surrogate: Surrogate | None = None,
    ) -> Record:
        """Attack a model with all attacks of a suite on the test split's first `limit` images.

        The model is evaluated in eval mode, in its own precision, and comes back in the mode and with the gradient
        flags it was given in.

        Raises:
            BenchError: a transfer attack has no surrogate, or the model is on another device.
            Interrupted: a signal asked to stop; what is computed by then is kept.
        """
        check_device(network, self.device)
        split = dataset.test.first(limit)
        data = Data(
            name=dataset.name,
            split="test",
            n=len(split),
            total=len(dataset.test),
            classes=dataset.num_classes,
            eps=dataset.eps,
            fingerprint=split.fingerprint,
            class_counts=torch.bincount(split.labels, minlength=dataset.num_classes).tolist(),
        )
        started = time.monotonic()
        job = Job(network, split.to(self.device), data, subject, surrogate)
        unfinished = self.kept / "unfinished" / record_id if self.kept else None
        entries = [Entry("clean"), *suite.entries]
        results: dict[str, AttackResult] = {}
        with (
            ready(network),
            interruptible(network, self._check_stop),
            self.reporter.task(f"{subject.label}: {suite.name}", len(entries) * len(split)) as advance,
        ):
            for entry in entries:
                results[entry.result] = self._attack(job, entry, self._slot(job, entry, unfinished), advance)
            flags = sanity.flags(results, len(split), self._probes(job, suite))
        forget_folder(unfinished)
        return Record(
            id=record_id,
            subject=subject,
            suite=suite.name,
            protocol=self.protocol,
            data=data,
            seed=self.seed,
            results=results,
            flags=flags,
            environment=environment.describe(self.device),
            created=now(),
            seconds=round(time.monotonic() - started, 3),
        )

    def _slot(self, job: Job, entry: Entry, unfinished: Path | None) -> Slot:
        """Where the outcomes of one attack are kept until the record is written."""
        attack = None if entry.attack == "clean" else self.attack_named(entry.attack, job.data.eps)
        key = {
            "checkpoint": job.subject.checkpoint,
            "model": job.subject.model,
            "attack": entry.result,
            "parameters": attack.parameters() if attack else {},
            "images": job.data.fingerprint,
            "seed": self.seed,
            "batch_size": BATCH_SIZE,
            "device": self.device.type,
            "packages": environment.describe(self.device)["packages"],
            "surrogate": job.surrogate.checkpoint if entry.transfer and job.surrogate else None,
        }
        name = entry.result.replace(":", "-") + ".safetensors"
        return Slot(unfinished / name if unfinished else None, key, self.reporter.say)

    def _attack(self, job: Job, entry: Entry, slot: Slot, advance: Any) -> AttackResult:
        attack = None if entry.attack == "clean" else self.attack_named(entry.attack, job.data.eps)
        if entry.transfer and job.surrogate is None:
            raise BenchError(f"{entry.result} needs a surrogate.\nGive one with --teacher robust=FILE.")
        batch_size = job.data.n if attack is not None and attack.whole_set else BATCH_SIZE
        progress = Progress.of(slot)
        advance(progress.done)
        try:
            for start in range(progress.done, job.data.n, batch_size):
                self._check_stop()
                x, y = job.batch(start, start + batch_size)
                outcome = self._outcome(job, entry, attack, x, y, start, slot)
                with torch.no_grad():  # in parts: an attack on the whole set gives more than a network can take
                    logits = torch.cat([job.network(images) for images in outcome.x_adv.split(BATCH_SIZE)])
                progress.add(logits.argmax(1) == y, outcome)
                advance(len(y))
        finally:
            progress.save()
        return _result(
            torch.cat(progress.final).numpy(),
            torch.cat(progress.always).numpy() if progress.always else None,
            job.split.labels.cpu().numpy(),
            job.data.classes,
            parameters=attack.parameters() if attack else {},
            surrogate=job.surrogate.checkpoint if entry.transfer and job.surrogate else None,
            batch_size=getattr(attack, "batch_size", batch_size),
            seconds=round(progress.seconds, 3),
            components=progress.components,
        )

    def _outcome(
        self, job: Job, entry: Entry, attack: Attack | None, x: Tensor, y: Tensor, start: int, slot: Slot
    ) -> Outcome:
        """The outcome of one batch; what a resumable attack keeps of its own goes beside the slot."""
        if attack is None:
            return Outcome(x)
        if entry.transfer:
            return Outcome(self._transferred(job, entry.attack, attack)[start : start + len(x)].to(x.device))
        if isinstance(attack, ResumableAttack):
            inner = slot.within("inner")
            outcome = attack.run_in_sittings(job.network, x, y, inner, self._check_stop)
            inner.forget()
            return outcome
        return attack.run(job.network, x, y, noise=self._noise(attack, x, start, entry.attack), track=True)

    def _check_stop(self) -> None:
        """Raise `Interrupted` where a signal has asked to stop; called before every pass through a network."""
        if self.stop:
            raise self.stop.interrupt("Stopped; what is computed is kept. Run the same command again for the rest.")

    def _probes(self, job: Job, suite: Suite) -> dict[str, np.ndarray]:
        """Outcomes on the first images for the checks of the evaluation: all of a white-box one, else the reference."""
        white_box = any(not entry.transfer and attack_class(entry.attack).white_box for entry in suite.entries)
        x, y = job.batch(0, sanity.PROBED)
        attack = self.attack_named(sanity.PROBE, job.data.eps)
        probe = sanity.measure if white_box else sanity.reference
        found = probe(job.network, x, y, attack, self._noise(attack, x, 0, sanity.PROBE))
        return {name: value.cpu().numpy() for name, value in found.items()}

    def attack_named(self, name: str, eps: float) -> Attack:
        """An attack as the protocol defines it, for a ball of radius eps."""
        return attack_class(name).for_protocol(self.protocol, eps)

    def _noise(self, attack: Attack, x: Tensor, first: int, name: str) -> Tensor | None:
        """Start noise for samples first, first + 1, ...: each sample's own, whatever the batch size or device."""
        one = x[:1].cpu()
        drawn = [
            attack.start_noise(one.shape, one, generator(self.seed, name, first + offset)) for offset in range(len(x))
        ]
        return None if drawn[0] is None else torch.cat([noise for noise in drawn if noise is not None]).to(x.device)

    def _transferred(self, job: Job, name: str, attack: Attack) -> Tensor:
        """The surrogate's adversarial images of all samples."""
        assert job.surrogate is not None, "checked where the attack begins"
        surrogate = job.surrogate.network

        def craft(first: int, end: int) -> Tensor:
            x, y = job.batch(first, end)
            with ready(surrogate), interruptible(surrogate, self._check_stop):
                return attack(surrogate, x, y, noise=self._noise(attack, x, first, f"transfer:{name}"))

        batches = [(first, min(first + BATCH_SIZE, job.data.n)) for first in range(0, job.data.n, BATCH_SIZE)]
        samples = {"images": job.data.fingerprint, "seed": self.seed, "device": self.device.type}
        return self.transfers.images(name, attack, job.surrogate, samples, batches, craft)


@dataclass(frozen=True)
class Job:
    """One model and the samples it is attacked on."""

    network: nn.Module
    split: Split
    data: Data
    subject: Subject
    surrogate: Surrogate | None

    def batch(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], of the network's precision, and labels of samples first to end - 1."""
        end = min(end, self.data.n)
        part = self.split.take(torch.arange(first, end, device=self.split.labels.device))
        parameter = next((p for p in self.network.parameters() if p.is_floating_point()), None)
        dtype = torch.float32 if parameter is None else torch.promote_types(parameter.dtype, torch.float32)
        return to_float(part.images, dtype), part.labels


@dataclass
class Progress:
    """Outcomes of one attack so far, batch by batch, on the CPU."""

    slot: Slot
    final: list[Tensor] = field(default_factory=list)
    always: list[Tensor] = field(default_factory=list)
    components: dict[str, float] = field(default_factory=dict)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, slot: Slot) -> Progress:
        """Where a stopped evaluation stood; the beginning where there was none."""
        kept = slot.load()
        if kept is None:
            return cls(slot)
        always = [kept.tensors["always"]] if "always" in kept.tensors else []
        return cls(slot, [kept.tensors["final"]], always, kept.facts["components"], kept.facts["seconds"])

    @property
    def seconds(self) -> float:
        """Time spent, all sittings together."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def done(self) -> int:
        """Samples that need no attack any more."""
        return sum(map(len, self.final))

    def add(self, right: Tensor, outcome: Outcome) -> None:
        """Add a batch."""
        self.final.append(right.cpu())
        if outcome.always_right is not None:
            self.always.append((outcome.always_right & right).cpu())
        self.components |= outcome.components or {}
        if time.monotonic() - self.saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the outcomes."""
        if self.final:
            tensors = {"final": torch.cat(self.final)}
            if self.always:
                tensors["always"] = torch.cat(self.always)
            self.slot.save(tensors, components=self.components, seconds=self.seconds)
        self.saved = time.monotonic()


def check_device(network: nn.Module, device: torch.device) -> None:
    """A BenchError where some of the network's weights are elsewhere: it would run on the wrong device, or crash."""
    for value in (*network.parameters(), *network.buffers()):
        if value.device.type != device.type:
            raise BenchError(
                f"The model's weights are on {value.device}, the evaluation on {device}.\n"
                f"Move the model with .to({device.type!r}), or choose the other device."
            )


@contextmanager
def ready(network: nn.Module) -> Iterator[None]:
    """The network in eval mode and without weight gradients inside the block, and as it was after it."""
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.requires_grad_(False)
    try:
        with mode(network, training=False):
            yield
    finally:
        for parameter, required in flags:
            parameter.requires_grad_(required)


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
