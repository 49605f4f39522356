"""One attack of an evaluation on one model: what it makes of the images batch by batch, and who is right after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.attack import Attack, Model, Outcome, ResumableAttack, check_images, distance
from bench.compute.batches import at_once
from bench.compute.seeding import generator, seeded
from bench.data.dataset import Split, to_float
from bench.errors import BenchError
from bench.evaluation.cache import SAVE_SECONDS, Kept, Slot
from bench.evaluation.passes import CountingKeep, KeepFrom
from bench.evaluation.target import Job
from bench.models import not_finite
from bench.threat import Entry, Threat

BATCH_SIZE = 250
"""Samples in a batch of an attack that couples them: part of its definition here, and in every record."""
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


def batch_size(attack: Attack, split: Split, n: int) -> int:
    """Samples in a batch of an attack on the first n of a split."""
    if attack.whole_set:
        return n
    return BATCH_SIZE if attack.couples_batch else at_once(split.images.shape, split.labels.device)


def start_noise(attack: Attack, x: Tensor, first: int, seed: int, name: str) -> Tensor | None:
    """Start noise for samples first, first + 1, ...: each sample's own, whatever the batch size or device."""
    one = x[:1].cpu()
    drawn = [attack.start_noise(one.shape, one, generator(seed, name, first + offset)) for offset in range(len(x))]
    return None if drawn[0] is None else torch.cat([noise for noise in drawn if noise is not None]).to(x.device)


@dataclass(frozen=True)
class Begun:
    """Outcomes of an attack that another one begins as.

    Attributes:
        right: who was right after it, bool, (n,). components: its, with what each left standing.
        record: of which they are; None: of this very evaluation.
    """

    right: Tensor
    components: Mapping[str, float]
    record: str | None = None

    def state(self, attack: ResumableAttack, x: Tensor) -> Kept:
        """What the attack would have kept of them."""
        tensors, facts = attack.state_after(x, self.right.to(x.device), self.components)
        return Kept(tensors, facts)


@dataclass(frozen=True)
class AttackRun:
    """One attack, as an evaluation conducts it.

    Attributes:
        job: the model and its samples. subject: what the model is called in messages.
        attack: with its parameters. result: the name of its result.
            transferred: gives the images of all samples, bytes or floats, that were crafted on another model or are the
            same for every model; None: crafted on this one.
        begun: the outcomes of the attack that this one begins as (`ResumableAttack.begins_as`), by the same model on
            the same samples with the same parameters; None: from the beginning.
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
    begun: Begun | None = None

    @property
    def device(self) -> torch.device:
        return self.job.split.labels.device

    @property
    def batch_size(self) -> int:
        """Samples in a batch, as the record says it."""
        return batch_size(self.attack, self.job.split, self.job.data.n)

    @property
    def _noise_name(self) -> str:
        """What start noise is drawn for: the attack, under whatever threat, so that a larger ball is all it changes."""
        return replace(Entry.of(self.result), threat=None).result

    @property
    def _decides_early(self) -> bool:
        """Whether a sample may be left alone once it is fooled, if the attack can."""
        return self.worst_case and self.transferred is None

    def outcomes(self, advance: Callable[[int], None]) -> Progress:
        """Attack all samples, from where a stopped evaluation stood; `advance` hears of each batch's number."""
        progress, size = Progress.of(self.slot), self.batch_size
        alone = self.attack.couples_batch or self.attack.at_the_boundary or isinstance(self.attack, Clean)
        if self._decides_early and not alone:
            size = _POOL  # many, so that those still standing fill whole batches
        advance(progress.done)
        try:
            for start in range(progress.done, self.job.data.n, size):
                self.check_stop()
                x, y = self.job.batch(start, start + size)
                before = self.job.passed
                with seeded(self.device, self.seed, self._noise_name, start):
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
        if outcome.radii is not None:
            return self._judged_by_radius(x, y, outcome.x_adv, outcome.radii)
        right = self._logits(x, outcome.x_adv, self.attack.threat).argmax(1) == y
        if survivors is not None:
            return self._attacked_again(x, y, start, survivors, right), Outcome(x)
        if outcome.always_right is not None:
            outcome = self._shown(x, y, outcome, right)
            assert outcome.always_right is not None
            if self.worst_case:
                right &= outcome.always_right
        if self.begun is not None:  # what fooled the model then was judged then
            right &= self.begun.right.to(right.device)
        return right, outcome

    def _survivors(self, x: Tensor, y: Tensor, start: int) -> Outcome | None:
        noise = start_noise(self.attack, x, start, self.seed, self._noise_name)
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
            images = self.transferred()[start : start + len(x)]
            return Outcome(to_float(images).to(x) if images.dtype == torch.uint8 else images.to(x))
        if isinstance(self.attack, ResumableAttack):
            inner, before = self.slot.within("inner"), self.job.passed
            begun = None if self.begun is None else self.begun.state(self.attack, x)
            keep = CountingKeep(
                inner if begun is None else KeepFrom(inner, begun), lambda: self.job.passed - before, self.check_stop
            )
            outcome = self.attack.run_in_sittings(self.job.module, x, y, keep, keep.check_stop)
            self.job.passes.images += keep.before
            inner.forget()
            return outcome
        noise = start_noise(self.attack, x, start, self.seed, self._noise_name)
        return self.attack.run(self.job.model_for(self.attack), x, y, noise=noise, track=True)

    def _judged_by_radius(self, x: Tensor, y: Tensor, x_adv: Tensor, radii: Tensor) -> tuple[Tensor, Outcome]:
        """Who is right at the attack's eps, by distances that their images are the proof of."""
        if (radii.shape, radii.is_floating_point()) != (y.shape, True) or radii.isnan().any() or (radii < 0).any():
            raise BenchError(
                f"The attack {self.result} gives radii that are no distances of {len(y)} samples.\n"
                "Its author has to return one for each, 0 or more, infinite where nothing was found."
            )
        fooled = self._logits(x, x_adv, None).argmax(1) != y
        # In a record they are float32, and who is right has to follow from what stands there.
        radii = torch.where(fooled, radii, torch.inf).float()
        far = distance(x_adv, x, self.attack.norm)
        if (fooled & (far > radii * (1 + 1e-5) + 1e-6)).any():
            raise BenchError(
                f"The attack {self.result} made images further from their originals than its radii say.\n"
                "Nothing is recorded: its author has to give the distances of the images that it returns."
            )
        return radii.double() > self.attack.eps, Outcome(x_adv, radii=radii)

    def _logits(self, x: Tensor, x_adv: Tensor, threat: Threat | None) -> Tensor:
        """What the original network says of the images that an attack made of x, both checked."""
        check_images(self.result, threat, x_adv, x)
        with torch.no_grad():  # in parts: an attack on the whole set gives more than a network can take
            logits = torch.cat([self.job.network(images) for images in x_adv.split(at_once(x.shape, self.device))])
        if not logits.isfinite().all():
            clean = isinstance(self.attack, Clean)
            images = "images of the test set" if clean else f"images of the attack {self.result}"
            raise not_finite(f"{self.subject} gives NaN or infinity for {images}")
        return logits

    def _attacked_again(self, x: Tensor, y: Tensor, start: int, survivors: Outcome, right: Tensor) -> Tensor:
        """Who is right in the worst case: what fooled a cheaper way to compute the network has to fool itself.

        Where rounding decided otherwise, the attack is made on the network itself.

        Args:
            right: who is right on the images of `survivors`, by the network itself.
        """
        assert survivors.always_right is not None
        (left,) = (right & ~survivors.always_right).nonzero(as_tuple=True)
        if not len(left):
            return right
        noise = start_noise(self.attack, x, start, self.seed, self._noise_name)
        noise, size = None if noise is None else noise[left], self.batch_size
        found = self.attack.survivors(self.job.network, x[left], y[left], noise=noise, batch_size=size)
        assert found is not None
        right[left] = self._logits(x[left], found.x_adv, self.attack.threat).argmax(1) == y[left]
        return right

    def _shown(self, x: Tensor, y: Tensor, outcome: Outcome, right: Tensor) -> Outcome:
        """The outcome of an attack that tells of its iterates, as far as these fool the network itself.

        Args:
            right: who is right on its last iterate; of the others no iterate before has to be looked at.
        """
        if outcome.witnesses is None:
            raise BenchError(
                f"The attack {self.result} gives `always_right` without `witnesses`, the images to believe it by.\n"
                "Its author has to add them, or to leave both out."
            )
        check_images(self.result, self.attack.threat, outcome.witnesses, x)
        assert outcome.always_right is not None
        (left,) = (right & ~outcome.always_right).nonzero(as_tuple=True)
        if not len(left):
            return outcome
        always = outcome.always_right.clone()
        always[left] = self._logits(x[left], outcome.witnesses[left], self.attack.threat).argmax(1) == y[left]
        return replace(outcome, always_right=always)


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
    radii: list[Tensor] = field(default_factory=list)
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
        always, radii = ([kept.tensors[name]] if name in kept.tensors else [] for name in ("always", "radii"))
        facts = kept.facts
        passed = facts.get("passed")
        return cls(slot, [kept.tensors["final"]], always, radii, facts["components"], facts["seconds"], passed)

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
        if outcome.radii is not None:
            self.radii.append(outcome.radii.cpu())
        self.components |= outcome.components or {}
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the outcomes."""
        if self.final:
            named = {"final": self.final, "always": self.always, "radii": self.radii}
            tensors = {name: torch.cat(parts) for name, parts in named.items() if parts}
            self.slot.save(tensors, components=self.components, seconds=self.seconds, passed=self.passed)
        self.saved = time.monotonic()
