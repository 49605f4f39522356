"""One attack of an evaluation on one model: what it makes of the images batch by batch, and who is right after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.attack import Attack, Model, Outcome, ResumableAttack, check_images
from bench.compute.seeding import generator, seeded
from bench.errors import BenchError
from bench.evaluation.cache import SAVE_SECONDS, Slot
from bench.evaluation.passes import CountingKeep
from bench.evaluation.target import Job
from bench.models import not_finite

BATCH_SIZE = 250
"""Samples in a batch of an attack that couples them: part of its definition here, and in every record."""
FASTEST = {"cpu": 32, "cuda": 1000}
"""Samples attacked at once where they do not meet: a CPU's caches like few, a GPU many."""
_POOL = 2000
"""Samples that are attacked side by side in the worst case: those still standing share their batches."""


@dataclass(frozen=True, kw_only=True)
class Clean(Attack):
    """No attack: the images as they are."""

    eps: float = 0.0

    label: ClassVar[str] = "Clean"
    source: ClassVar[str] = ""
    white_box: ClassVar[bool] = False

    def run(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        return Outcome(x)

    def parameters(self) -> dict[str, Any]:
        return {}


def batch_size(attack: Attack, n: int, device: torch.device) -> int:
    """Samples in a batch of an attack on n samples."""
    if attack.whole_set:
        return n
    return BATCH_SIZE if attack.couples_batch else FASTEST[device.type]


def start_noise(attack: Attack, x: Tensor, first: int, seed: int, name: str) -> Tensor | None:
    """Start noise for samples first, first + 1, ...: each sample's own, whatever the batch size or device."""
    one = x[:1].cpu()
    drawn = [attack.start_noise(one.shape, one, generator(seed, name, first + offset)) for offset in range(len(x))]
    return None if drawn[0] is None else torch.cat([noise for noise in drawn if noise is not None]).to(x.device)


@dataclass(frozen=True)
class AttackRun:
    """One attack, as an evaluation conducts it.

    Attributes:
        job: the model and its samples. subject: what the model is called in messages.
        attack: with its parameters. result: the name of its result.
        transferred: gives the images of all samples that were crafted on another model; None: crafted on this one.
        seed, worst_case: see `Evaluator`. slot: where outcomes are kept.
        check_stop: raises where a signal has asked to stop.
    """

    job: Job
    subject: str
    attack: Attack
    result: str
    transferred: Callable[[], Tensor] | None
    seed: int
    worst_case: bool
    slot: Slot
    check_stop: Callable[[], None]

    @property
    def device(self) -> torch.device:
        return self.job.split.labels.device

    @property
    def batch_size(self) -> int:
        """Samples in a batch, as the record says it."""
        return batch_size(self.attack, self.job.data.n, self.device)

    @property
    def _decides_early(self) -> bool:
        """Whether a sample may be left alone once it is fooled, if the attack can."""
        return self.worst_case and self.transferred is None

    def outcomes(self, advance: Callable[[int], None]) -> Progress:
        """Attack all samples, from where a stopped evaluation stood; `advance` hears of each batch's number."""
        progress, size = Progress.of(self.slot), self.batch_size
        if self._decides_early and not self.attack.couples_batch and not isinstance(self.attack, Clean):
            size = _POOL  # many, so that those still standing fill whole batches
        advance(progress.done)
        try:
            for start in range(progress.done, self.job.data.n, size):
                self.check_stop()
                x, y = self.job.batch(start, start + size)
                before = self.job.passed
                with seeded(self.device, self.seed, self.result, start):
                    judged = self._judged(x, y, start)
                progress.add(*judged, passed=self.job.passed - before)
                advance(len(y))
        finally:
            progress.save()
        return progress

    def _judged(self, x: Tensor, y: Tensor, start: int) -> tuple[Tensor, Outcome]:
        """Who is right after the attack (in the worst case: on all iterates), and what the attack gave."""
        survivors = self._survivors(x, y, start) if self._decides_early else None
        outcome = self._outcome(x, y, start) if survivors is None else survivors
        # As they are, should the attack have written into those it was given.
        x, y = self.job.batch(start, start + len(y))
        right = self._logits(x, outcome.x_adv).argmax(1) == y
        if survivors is not None:
            assert survivors.always_right is not None
            return survivors.always_right, Outcome(x)
        if outcome.always_right is not None:
            self._check_witnesses(x, outcome)
            if self.worst_case:
                right &= outcome.always_right
        return right, outcome

    def _survivors(self, x: Tensor, y: Tensor, start: int) -> Outcome | None:
        noise = start_noise(self.attack, x, start, self.seed, self.result)
        model = self.job.model_for(self.attack)
        found = self.attack.survivors(model, x, y, noise=noise, batch_size=self.batch_size)
        if found is not None and (not isinstance(found, Outcome) or found.always_right is None):
            raise BenchError(
                f"The attack {self.result} gives survivors that are no Outcome with `always_right`.\n"
                "Its author has to return Outcome(x_adv, always_right): what it decided by, and who is right."
            )
        return found

    def _outcome(self, x: Tensor, y: Tensor, start: int) -> Outcome:
        """The outcome of one batch; what a resumable attack keeps of its own goes beside the slot."""
        if self.transferred is not None:
            return Outcome(self.transferred()[start : start + len(x)].to(x))
        if isinstance(self.attack, ResumableAttack):
            inner, before = self.slot.within("inner"), self.job.passed
            keep = CountingKeep(inner, lambda: self.job.passed - before, self.check_stop)
            outcome = self.attack.run_in_sittings(self.job.module, x, y, keep, keep.check_stop)
            self.job.passes.images += keep.before
            inner.forget()
            return outcome
        noise = start_noise(self.attack, x, start, self.seed, self.result)
        return self.attack.run(self.job.model_for(self.attack), x, y, noise=noise, track=True)

    def _logits(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """What the original network says of the images that an attack made of x, both checked."""
        check_images(self.result, self.attack.threat, x_adv, x)
        with torch.no_grad():  # in parts: an attack on the whole set gives more than a network can take
            logits = torch.cat([self.job.network(images) for images in x_adv.split(FASTEST[self.device.type])])
        if not logits.isfinite().all():
            clean = isinstance(self.attack, Clean)
            images = "images of the test set" if clean else f"images of the attack {self.result}"
            raise not_finite(f"{self.subject} gives NaN or infinity for {images}")
        return logits

    def _check_witnesses(self, x: Tensor, outcome: Outcome) -> None:
        """An attack that says which samples its iterates fooled has to show those iterates."""
        if outcome.witnesses is None:
            raise BenchError(
                f"The attack {self.result} gives `always_right` without `witnesses`, the images to believe it by.\n"
                "Its author has to add them, or to leave both out."
            )
        check_images(self.result, self.attack.threat, outcome.witnesses, x)


@dataclass
class Progress:
    """Outcomes of one attack so far, batch by batch, on the CPU.

    Attributes:
        passed: images that went through the network, each once for every pass; None where an earlier version has kept
            what it did not count.
    """

    slot: Slot
    final: list[Tensor] = field(default_factory=list)
    always: list[Tensor] = field(default_factory=list)
    components: dict[str, float] = field(default_factory=dict)
    seconds_before: float = 0.0
    passed: int | None = 0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, slot: Slot) -> Progress:
        """Where a stopped evaluation stood; the beginning where there was none."""
        kept = slot.load()
        if kept is None:
            return cls(slot)
        always = [kept.tensors["always"]] if "always" in kept.tensors else []
        facts = kept.facts
        passed = facts.get("passed")
        return cls(slot, [kept.tensors["final"]], always, facts["components"], facts["seconds"], passed)

    @property
    def seconds(self) -> float:
        """Time spent, all sittings together."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def done(self) -> int:
        """Samples that need no attack any more."""
        return sum(map(len, self.final))

    def add(self, right: Tensor, outcome: Outcome, passed: int) -> None:
        """Add a batch, for which so many images went through the network."""
        self.passed = None if self.passed is None else self.passed + passed
        self.final.append(right.cpu())
        if outcome.always_right is not None:
            self.always.append((outcome.always_right & right).cpu())
        self.components |= outcome.components or {}
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the outcomes."""
        if self.final:
            tensors = {"final": torch.cat(self.final)}
            if self.always:
                tensors["always"] = torch.cat(self.always)
            self.slot.save(tensors, components=self.components, seconds=self.seconds, passed=self.passed)
        self.saved = time.monotonic()
