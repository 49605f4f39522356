"""The images of attacks that are not crafted on the model that is attacked: a surrogate's, or those of no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bench.attack import Attack, check_images
from bench.evaluation.attack_run import batch_size, start_noise
from bench.evaluation.target import Job, ready
from bench.evaluation.transfers import Surrogate, Transfers
from bench.system.signals import interruptible


@dataclass(frozen=True)
class MadeBefore:
    """Makes such images once, or finds them where they are kept.

    Attributes:
        transfers: where they are kept. device, seed, speedups: see `Evaluator`.
        check_stop: raises where a signal has asked to stop.
    """

    transfers: Transfers
    device: torch.device
    seed: int
    speedups: frozenset[str]
    check_stop: Callable[[], None]

    def images(self, job: Job, name: str, attack: Attack, surrogate: Surrogate | None) -> Callable[[], Tensor] | None:
        """What gives an attack's images of all samples; None where they are crafted on the model itself.

        Args:
            name: registered name of the attack. surrogate: what to craft on; None: nothing else than the model.
        """
        if surrogate is not None:
            return cache(lambda: self._transferred(job, name, attack, surrogate))
        if attack.sees_model or attack.whole_set:
            return None
        return cache(lambda: self._common(job, name, attack))

    def _common(self, job: Job, name: str, attack: Attack) -> Tensor:
        """The images of all samples that an attack makes without looking at a model, as bytes."""

        def craft(first: int, end: int) -> Tensor:
            self.check_stop()
            x, y = job.batch(first, end)
            images = attack(job.network, x, y, noise=start_noise(attack, x, first, self.seed, name))
            check_images(name, attack.threat, images, x)  # before they are kept for others
            return (images * 255).round().to(torch.uint8)

        return self._kept_or_crafted(job, name, attack, None, craft)

    def _transferred(self, job: Job, name: str, attack: Attack, crafted_on: Surrogate) -> Tensor:
        """The surrogate's adversarial images of all samples."""
        surrogate = crafted_on.network
        made: list[Job] = []  # where images have to be crafted at all

        def craft(first: int, end: int) -> Tensor:
            made[:] = made or [job.on(surrogate, self.speedups)]
            (crafting,) = made
            x, y = crafting.batch(first, end)
            with ready(surrogate), interruptible(crafting.module, self.check_stop):
                noise = start_noise(attack, x, first, self.seed, f"transfer:{name}")
                x_adv = attack(crafting.model_for(attack), x, y, noise=noise)
            x, _ = crafting.batch(first, end)  # as they are
            check_images(f"transfer:{name}", attack.threat, x_adv, x)  # before they are kept for others
            return x_adv

        return self._kept_or_crafted(job, name, attack, crafted_on, craft)

    def _kept_or_crafted(
        self, job: Job, name: str, attack: Attack, on: Surrogate | None, craft: Callable[[int, int], Tensor]
    ) -> Tensor:
        size = batch_size(attack, job.split, job.data.n)
        batches = [(first, min(first + size, job.data.n)) for first in range(0, job.data.n, size)]
        samples = {"images": job.data.fingerprint, "seed": self.seed}
        # What no model is asked for is made on the CPU, and the same everywhere.
        samples |= {} if on is None else {"device": self.device.type}
        return self.transfers.images(name, attack, on, samples, batches, craft)
