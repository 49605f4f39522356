"""What the checks of an evaluation look at: the reference attack and its variations on the first images.

They cost no more than a share of what the attacks cost that they check. The most telling come first; one that there is
no room for, or that could tell nothing of so few images, is left out by name. `sanity` draws the conclusions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.attack import Attack, distance, input_gradient
from bench.errors import BenchError
from bench.evaluation.suites import GRADIENT_FREE
from bench.registry import attack_class
from bench.threat import Threat

SHARE = 0.5
"""What checks may cost, as a share of the images that the attacks passed through the network."""
PROBED = 64
"""How many images are looked at, from the first."""
ENOUGH = 16
"""How many it takes to compare two attacks: eight of one kind are significant at 1 % where none is of the other, and of
eight images nearly all would have to be."""

_LADDER = (2.0, 4.0, 0.5)
"""Radii besides the dataset's, in multiples of it, over which accuracy must fall; the last rung reaches every image."""
_SUM = 1e-4
"""By how much probabilities may miss a sum of one."""

Outcomes = dict[str, Tensor]


class Probed(NamedTuple):
    """What was looked at.

    Attributes:
        outcomes: by probe, bool, shape (m,), of the first m images: whether the model is right.
        left_out: what was not checked, and why, in words.
    """

    outcomes: Outcomes
    left_out: list[str]


@dataclass(frozen=True)
class Probe:
    """One look at a model.

    Attributes:
        title: what is checked by it, in words.
        price: images that it passes through the network for each image, at most.
        look: its outcomes by name, on images and labels.
        compared: whether it tells something only beside the reference.
    """

    title: str
    price: int
    look: Callable[[Tensor, Tensor], Outcomes]
    compared: bool = False


@dataclass(frozen=True)
class Probes:
    """All looks at one model.

    Attributes:
        network: in eval mode.
        x, y: images in [0, 1], shape (B, C, H, W), and labels, shape (B,).
        attack, noise: PGD as the protocol has it, and its start noise for these images.
        white_box: whether the model's gradients are of interest; else the reference and the outputs alone are.
        known: outcomes that the evaluation has anyway, by name; None for one that is judged among its results.
    """

    network: nn.Module
    x: Tensor
    y: Tensor
    attack: Attack
    noise: Tensor | None
    white_box: bool = True
    known: Mapping[str, Tensor | None] = field(default_factory=dict)

    def look(
        self,
        budget: int | None,
        passed: Callable[[], int] = lambda: 0,
        advance: Callable[[int], None] = lambda images: None,
    ) -> Probed:
        """All that the budget allows for.

        `reference`: the attack itself; `noise`: random points on the ball's edge; `queries`: Square, which needs no
        gradient; `longer`: the attack with twice the steps; `eps=...`: at each rung of the ladder, and
        `everywhere` at the last one; `clean` and
        `again`: no attack, twice; `vanished`: whether the gradient at the image is zero or no number; and
        `probabilities`: whether the outputs without an attack are not negative and sum to one.

        Args:
            budget: images that may go through the network; None for any number.
            passed: how many have gone through so far. advance: hears of those that have.
        """
        found: Outcomes = {name: each for name, each in self.known.items() if each is not None}
        left_out, began = [], passed()
        for probe in self.all():
            room = len(self.x) if budget is None else (budget - (passed() - began)) // probe.price
            n, before = min(len(self.x), room), passed()
            reason = self._against(probe, n, found)
            if reason is not None:
                left_out.append(f"{probe.title}: {reason}")
                continue
            try:
                found |= probe.look(self.x[:n], self.y[:n])
            except BenchError as error:  # of an attack that cannot be run on such images
                left_out.append(f"{probe.title}: {str(error).splitlines()[0]}")
            advance(passed() - before)
        if self.white_box and "reference" in found:
            found[f"eps={self.attack.eps!r}"] = found["reference"]
        return Probed(found, left_out)

    @property
    def price(self) -> int:
        """Images that all of them pass through the network, at most."""
        return sum(probe.price for probe in self.all()) * len(self.x)

    def all(self) -> Iterator[Probe]:
        """Every look, the most telling for its price first."""
        steps, name = int(self.attack.parameters()["steps"]), self.attack.label
        if self.white_box:
            yield Probe("outputs and gradients", 3, self._passes)
            yield Probe(f"{name} with eps = {self._furthest:.3g}", steps + 1, self._everywhere)
        else:
            yield Probe("outputs", 1, lambda x, y: {"probabilities": _are_probabilities(_logits(self.network, x))})
        if "reference" not in self.known:
            yield Probe(name, steps + 1, lambda x, y: {"reference": self._under(self.attack, x, y)}, True)
        if not self.white_box:
            return
        yield Probe("random noise", 1, self._random, True)
        if "queries" not in self.known and self.attack.norm in attack_class(GRADIENT_FREE).norms:
            free = attack_class(GRADIENT_FREE).for_protocol("official", Threat(self.attack.norm, self.attack.eps))
            price = int(free.parameters()["queries"]) + 3  # it asks twice before its queries, and is judged once
            yield Probe(free.label, price, lambda x, y: {"queries": self._judged(free, x, y)}, True)
        longer = replace(self.attack, steps=2 * steps)  # type: ignore[call-arg]
        title = f"{name} with twice the steps"
        yield Probe(title, 2 * steps + 1, lambda x, y: {"longer": self._under(longer, x, y)}, True)
        for radius in (factor * self.attack.eps for factor in _LADDER if factor * self.attack.eps < self._furthest):
            yield Probe(f"{name} with eps = {radius:.3g}", steps + 1, self._rung(radius), True)

    def _against(self, probe: Probe, n: int, found: Outcomes) -> str | None:
        """Why a look at n images is not worth it; None where it is."""
        if probe.compared and len(self.x) < ENOUGH:
            return f"{len(self.x)} images are too few"
        without = probe.compared and probe.title != self.attack.label and "reference" not in found
        if without or n < (ENOUGH if probe.compared else 1):
            return "it would cost more than half of what the attacks do"
        return None

    def _passes(self, x: Tensor, y: Tensor) -> Outcomes:
        images = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            gradient = input_gradient(F.cross_entropy(self.network(images), y, reduction="sum"), images)
        logits = _logits(self.network, x)
        return {
            "vanished": ((gradient == 0) | ~gradient.isfinite()).flatten(1).all(1),
            "probabilities": _are_probabilities(logits),
            "clean": logits.argmax(1) == y,
            "again": _right(self.network, x, y),
        }

    def _random(self, x: Tensor, y: Tensor) -> Outcomes:
        noise = torch.ones_like(x) if self.noise is None else self.noise[: len(x)]
        # Onto the ball's corners, or in another norm than L-infinity onto its surface.
        length = distance(noise, torch.zeros_like(noise), self.attack.norm).view(-1, 1, 1, 1)
        direction = noise.sign() if self.attack.norm == "linf" else noise / length
        return {"noise": _right(self.network, (x + self.attack.eps * direction).clamp(0, 1), y)}

    @property
    def _furthest(self) -> float:
        """The radius within which every image lies."""
        size = self.x[0].numel()
        return {"linf": 1.0, "l2": float(size) ** 0.5, "l1": float(size)}[self.attack.norm]

    def _everywhere(self, x: Tensor, y: Tensor) -> Outcomes:
        ((_, right),) = (found := self._rung(self._furthest)(x, y)).items()
        return {**found, "everywhere": right}

    def _rung(self, eps: float) -> Callable[[Tensor, Tensor], Outcomes]:
        return lambda x, y: {f"eps={eps!r}": self._under(self.attack.scaled_to(eps), x, y)}

    def _under(self, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
        return self._judged(attack, x, y, noise=None if self.noise is None else self.noise[: len(x)])

    def _judged(self, attack: Attack, x: Tensor, y: Tensor, **options: Tensor | None) -> Tensor:
        return _right(self.network, attack(self.network, x, y, **options), y)


def _right(network: nn.Module, images: Tensor, y: Tensor) -> Tensor:
    return _logits(network, images).argmax(1) == y


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = network(images)
    return logits


def _are_probabilities(outputs: Tensor) -> Tensor:
    return (outputs >= 0).all(1) & ((outputs.sum(1) - 1).abs() < _SUM)
