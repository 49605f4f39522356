"""FMN, the fast minimum-norm attack (Pintor et al. 2021): for each sample the nearest image that fools the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from attacks.labels import one_hot
from attacks.norms import GEOMETRY
from bench.attack import Attack, Model, Outcome, distance, input_gradient
from bench.vocabulary import Norm

_DUAL: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": math.inf}
"""The order of the norm that bounds what a step of length 1 can change."""
_GAMMA_END = 0.001
_STEP_END = 0.01


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Steps along the margin's gradient inside a ball that shrinks while the model is fooled and grows while it is not.

    Its radii give accuracy at every radius at once; `eps` decides alone what counts as right in the record. It starts
    at the image, and nothing is drawn.

    Attributes:
        steps: iterations.
        step_size: L2 length of the first step, for images in [0, 1]; falls to a hundredth along a cosine.
        gamma: by which share the ball changes at first; falls to 0.001 along a cosine.
        overshoot: by which share the ball is larger than the linear estimate says, until the model is fooled once. The
            published attack has 0, and can come to rest on the boundary without ever crossing it.
    """

    steps: int = 100
    step_size: float = 1.0
    gamma: float = 0.05
    overshoot: float = 0.001

    label = "FMN"
    source = "Pintor et al. 2021, arXiv:2102.12827"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    at_the_boundary: ClassVar[bool] = True

    def run(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        """Attack a batch; `radii` are the distances of the nearest images found. See `Attack.run`."""
        delta = torch.zeros_like(x)
        best, nearest = torch.full_like(x[:, 0, 0, 0], torch.inf), torch.zeros_like(x)
        radius, most = best, distance(torch.maximum(x, 1 - x), torch.zeros_like(x), self.norm)
        for step in range(self.steps):
            falling = (1 + math.cos(math.pi * step / self.steps)) / 2
            length = self.step_size * (_STEP_END + (1 - _STEP_END) * falling)
            gamma = _GAMMA_END + (self.gamma - _GAMMA_END) * falling
            x_adv = (x + delta).requires_grad_()
            with torch.enable_grad():
                logits = model(x_adv)
                margin = _margin(logits, y)
                gradient = input_gradient(-margin.sum(), x_adv)
            fooled, moved = logits.argmax(1) != y, distance(x + delta, x, self.norm)
            nearer = fooled & (moved <= best)
            best, nearest = torch.where(nearer, moved, best), torch.where(_as(nearer, x), delta, nearest)
            slope = torch.linalg.vector_norm(gradient.flatten(1), ord=_DUAL[self.norm], dim=1)
            boundary = moved + margin.detach().abs() / slope.clamp(min=torch.finfo(slope.dtype).tiny)
            growing = torch.where(best.isfinite(), radius * (1 + gamma), boundary * (1 + self.overshoot))
            radius = torch.where(fooled, torch.minimum(radius * (1 - gamma), best), growing).minimum(most)
            delta = self._inside(delta + length * _unit(gradient), radius)
            delta = (x + delta).clamp(0, 1) - x
        return Outcome((x + nearest).detach(), radii=best.detach())

    def _inside(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The perturbations within balls of a radius for each sample: a ball of any size is the unit ball, scaled."""
        size = _as(radius.clamp(min=torch.finfo(radius.dtype).tiny), delta)
        within = GEOMETRY[self.norm].project(delta / size, torch.zeros_like(delta), 1.0, False) * size
        return torch.where(_as(radius > 0, delta), within, 0)


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    """The label's logit above the largest other one, (B,); negative where the model is wrong."""
    others = logits.masked_fill(one_hot(y, logits.shape[1], torch.bool), -torch.inf)
    return logits.gather(1, y[:, None]).squeeze(1) - others.amax(1)


def _unit(gradient: Tensor) -> Tensor:
    """The gradient with length 1 in L2; 0 stays 0."""
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return gradient / _as(length.clamp(min=1e-12), gradient)


def _as(values: Tensor, like: Tensor) -> Tensor:
    """A value for each sample, (B,), in the shape that meets its image."""
    return values.view(-1, *[1] * (like.ndim - 1))
