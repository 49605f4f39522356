"""Evaluates one model under a suite of attacks and makes the record of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench import environment, sanity
from bench.attack import Attack, Outcome, Protocol, ResumableAttack, check_images
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.fast import enabled
from bench.job import Job, check_device, ready, view_of
from bench.kept import Slot, forget_folder
from bench.models import check_finite, not_finite
from bench.records import AttackResult, Data, Record, Subject, pack
from bench.reporting import Reporter
from bench.runs import now
from bench.seeding import generator, seeded
from bench.statistics import wilson_interval
from bench.stopping import StopRequest, interruptible
from bench.suites import Entry, Suite, attack_class
from bench.transfers import Surrogate, Transfers

BATCH_SIZE = 250
"""Samples in a batch of an attack that couples them: part of its definition here, and in every record."""
FASTEST = {"cpu": 32, "cuda": 1000}
"""Samples attacked at once where they do not meet: a CPU's caches like few, a GPU many."""
_POOL = 2000
"""Samples that are attacked side by side in the worst case: those still standing share their batches."""
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
        speedups: those that are on, of `bench.fast.SPEEDUPS`; they change no outcome.
        worst_case: whether a sample is left alone once an iterate of a gradient attack fools the model; the record then
            holds who was right on every iterate, and nothing of the last one alone.
        precision: what it was asked to compute in (`bench.device.prepare`).
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
            BenchError: a transfer attack has no surrogate, the model is on another device, weights or outputs are not
                finite, or an attack made what are no images within its eps.
            Interrupted: a signal asked to stop; what is computed by then is kept.
        """
        check_device(network, self.device)
        check_finite(network, _named(subject))
        if surrogate is not None:
            check_finite(surrogate.network, f"the surrogate {surrogate.model}")
        split = dataset.test.first(limit)
        started = time.monotonic()
        unfinished = self.kept / "unfinished" / record_id if self.kept else None
        entries = [Entry("clean"), *suite.entries]
        results: dict[str, AttackResult] = {}
        with ExitStack() as stack:
            stack.enter_context(ready(network))
            data, view = _data(dataset, split), view_of(network, self.speedups)
            job = Job(network, split.to(self.device), data, subject, surrogate, view)
            for module in {network, job.module}:
                stack.enter_context(interruptible(module, self._check_stop))
            total = len(entries) * len(split)
            advance = stack.enter_context(self.reporter.task(f"{subject.label}: {suite.name}", total))
            for entry in entries:
                results[entry.result] = self._attack(job, entry, self._slot(job, entry, unfinished), advance)
            flags = sanity.flags(results, len(split), self._probes(job, suite))
            flags += sanity.other_radii(results, dataset.eps)
        forget_folder(unfinished)
        return Record(
            id=record_id,
            subject=subject,
            suite=suite.name,
            protocol=self.protocol,
            data=job.data,
            seed=self.seed,
            results=results,
            flags=flags,
            worst_case=self.worst_case,
            precision=self.precision,
            environment=environment.describe(self.device) | {"speedups": job.speedups},
            created=now(),
            seconds=round(time.monotonic() - started, 3),
        )

    def crafted(self, network: nn.Module, dataset: Dataset, name: str, n: int) -> Tensor:
        """The images that an attack makes of the test split's first n when this evaluation runs it: (n, C, H, W).

        Args:
            network: the model, on the evaluator's device; it comes back as it was.
            name: of an attack that looks at each sample alone, without a surrogate.
        """
        check_device(network, self.device)
        split = dataset.test.first(n).to(self.device)
        x, attack = to_float(split.images), self.attack_named(name, dataset.eps)
        with ready(network), seeded(self.device, self.seed, name, 0):
            x_adv = attack(network, x, split.labels, noise=self._noise(attack, x, 0, name))
        check_images(name, attack.eps, x_adv, x)
        return x_adv

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
            "batch_size": self._batch_size(job, attack),
            "worst_case": self.worst_case,
            "precision": self.precision,
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
        batch_size = self._batch_size(job, attack)
        if self.worst_case and attack is not None and not entry.transfer and not attack.couples_batch:
            batch_size = _POOL  # many, so that those still standing fill whole batches
        progress = Progress.of(slot)
        advance(progress.done)
        try:
            for start in range(progress.done, job.data.n, batch_size):
                self._check_stop()
                x, y = job.batch(start, start + batch_size)
                with seeded(self.device, self.seed, entry.result, start):
                    judged = self._judged(job, entry, attack, x, y, start, slot)
                progress.add(*judged)
                advance(len(y))
        finally:
            progress.save()
        return _result(
            torch.cat(progress.final).numpy(),
            torch.cat(progress.always).numpy() if progress.always and not self.worst_case else None,
            job.split.labels.cpu().numpy(),
            job.data.classes,
            parameters=attack.parameters() if attack else {},
            surrogate=job.surrogate.checkpoint if entry.transfer and job.surrogate else None,
            batch_size=getattr(attack, "batch_size", self._batch_size(job, attack)),
            seconds=round(progress.seconds, 3),
            components=progress.components,
        )

    def _batch_size(self, job: Job, attack: Attack | None) -> int:
        """Samples in a batch."""
        if attack is not None and attack.whole_set:
            return job.data.n
        return BATCH_SIZE if attack is not None and attack.couples_batch else FASTEST[self.device.type]

    def _judged(
        self, job: Job, entry: Entry, attack: Attack | None, x: Tensor, y: Tensor, start: int, slot: Slot
    ) -> tuple[Tensor, Outcome]:
        """Who is right after the attack (in the worst case: on all iterates), and what the attack gave."""
        if self.worst_case and attack is not None and not entry.transfer:
            noise, size = self._noise(attack, x, start, entry.attack), self._batch_size(job, attack)
            survivors = attack.survivors(job.model_for(attack), x, y, noise=noise, batch_size=size)
            if survivors is not None:
                if not isinstance(survivors, Outcome) or survivors.always_right is None:
                    raise BenchError(
                        f"The attack {entry.result} gives survivors that are no Outcome with `always_right`.\n"
                        "Its author has to return Outcome(x_adv, always_right): what it decided by, and who is right."
                    )
                x, _ = job.batch(start, start + len(y))
                self._logits(job, entry, attack, x, survivors.x_adv)  # for the checks: who is right is known
                return survivors.always_right, Outcome(x)
        outcome = self._outcome(job, entry, attack, x, y, start, slot)
        x, y = job.batch(start, start + len(y))  # as they are, should the attack have written into those it was given
        right = self._logits(job, entry, attack, x, outcome.x_adv).argmax(1) == y
        if attack is not None and outcome.always_right is not None:
            _check_witnesses(entry, attack, x, outcome)
            if self.worst_case:
                right &= outcome.always_right
        return right, outcome

    def _logits(self, job: Job, entry: Entry, attack: Attack | None, x: Tensor, x_adv: Tensor) -> Tensor:
        """The network's own word on what an attack made of x, both checked."""
        if attack is not None:
            check_images(entry.result, attack.eps, x_adv, x)
        with torch.no_grad():  # in parts: an attack on the whole set gives more than a network can take
            logits = torch.cat([job.network(images) for images in x_adv.split(FASTEST[self.device.type])])
        if not logits.isfinite().all():
            images = "images of the test set" if attack is None else f"images of the attack {entry.result}"
            raise not_finite(f"{_named(job.subject)} gives NaN or infinity for {images}")
        return logits

    def _outcome(
        self, job: Job, entry: Entry, attack: Attack | None, x: Tensor, y: Tensor, start: int, slot: Slot
    ) -> Outcome:
        """The outcome of one batch; what a resumable attack keeps of its own goes beside the slot."""
        if attack is None:
            return Outcome(x)
        if entry.transfer:
            return Outcome(self._transferred(job, entry.attack, attack)[start : start + len(x)].to(x))
        if isinstance(attack, ResumableAttack):
            inner = slot.within("inner")
            outcome = attack.run_in_sittings(job.module, x, y, inner, self._check_stop)
            inner.forget()
            return outcome
        noise = self._noise(attack, x, start, entry.attack)
        return attack.run(job.model_for(attack), x, y, noise=noise, track=True)

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
        with seeded(self.device, self.seed, "probes"):
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
        made: list[Job] = []  # where images have to be crafted at all

        def craft(first: int, end: int) -> Tensor:
            made[:] = made or [job.on(surrogate, self.speedups)]
            (crafting,) = made
            x, y = crafting.batch(first, end)
            with ready(surrogate), interruptible(crafting.module, self._check_stop):
                noise = self._noise(attack, x, first, f"transfer:{name}")
                x_adv = attack(crafting.model_for(attack), x, y, noise=noise)
            x, _ = crafting.batch(first, end)  # as they are
            check_images(f"transfer:{name}", attack.eps, x_adv, x)  # before they are kept for others
            return x_adv

        size = self._batch_size(job, attack)
        batches = [(first, min(first + size, job.data.n)) for first in range(0, job.data.n, size)]
        samples = {"images": job.data.fingerprint, "seed": self.seed, "device": self.device.type}
        return self.transfers.images(name, attack, job.surrogate, samples, batches, craft)


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


def _named(subject: Subject) -> str:
    """What a network is called in messages: its run, or its file or class."""
    return subject.run or subject.label


def _check_witnesses(entry: Entry, attack: Attack, x: Tensor, outcome: Outcome) -> None:
    """An attack that says which samples its iterates fooled has to show those iterates."""
    if outcome.witnesses is None:
        raise BenchError(
            f"The attack {entry.result} gives `always_right` without `witnesses`, the images to believe it by.\n"
            "Its author has to add them, or to leave both out."
        )
    check_images(entry.result, attack.eps, outcome.witnesses, x)


def _data(dataset: Dataset, split: Split) -> Data:
    """What a record says of the test images: all of them, or the first ones, `split`."""
    return Data(
        name=dataset.name,
        split="test",
        n=len(split),
        total=len(dataset.test),
        classes=dataset.num_classes,
        eps=dataset.eps,
        fingerprint=split.fingerprint,
        class_counts=torch.bincount(split.labels, minlength=dataset.num_classes).tolist(),
    )


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
