"""What a gradient attack does in a norm: how it steps, what keeps it in the ball, and where a random start lies.

L-infinity: along the gradient's sign, and clamped. L2: along the gradient itself, and scaled back (Madry et al. 2018).
L1: along the few largest coordinates (SLIDE, Tramer and Boneh 2019), and projected exactly onto the ball's part of the
image range (Croce and Hein 2021). Every sample is treated for itself, and nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.vocabulary import Norm

SPARSITY = 0.01
"""The share of an image's values that a step in L1 moves; Tramer and Boneh's 99th percentile."""


@dataclass(frozen=True)
class Geometry:
    """One norm, for the loop of all gradient attacks.

    Attributes:
        step: (gradient, x') -> a direction of length 1 in the norm, shaped as both; a gradient of 0 stays 0.
        project: (x', x, eps, whether to stay in [0, 1]) -> an image within eps of x.
        ball: (shape, like, generator) -> points that are uniform in the unit ball, shaped as given, one a row.
        eps: the usual radius on CIFAR.
        reach: how many radii all steps of an evaluation go together, where an attack has no step of its own.
    """

    step: Callable[[Tensor, Tensor], Tensor]
    project: Callable[[Tensor, Tensor, float, bool], Tensor]
    ball: Callable[[Sequence[int], Tensor, torch.Generator | None], Tensor]
    eps: float
    reach: float


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """A value for each sample, (B,), so that it meets all of an image's, (B, C, H, W)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _clamped(x_adv: Tensor, x: Tensor, eps: float, in_range: bool) -> Tensor:
    within = torch.minimum(torch.maximum(x_adv, x - eps), x + eps)
    return torch.clamp(within, 0, 1) if in_range else within


def _cube(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype) * 2 - 1


def _unit_l2(gradient: Tensor, x_adv: Tensor) -> Tensor:
    # By the largest value first: the squares of a gradient of 1e-25 would vanish where its sign does not.
    largest = gradient.flatten(1).abs().amax(1)
    scaled = gradient / _per_sample(largest.clamp(min=torch.finfo(gradient.dtype).tiny), gradient)
    length = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return scaled / _per_sample(length.clamp(min=1), scaled)  # at least the 1 of the largest, or 0 of none


def _scaled(x_adv: Tensor, x: Tensor, eps: float, in_range: bool) -> Tensor:
    delta = x_adv - x
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    within = x + delta * _per_sample((eps / length.clamp(min=eps)), delta)
    return within.clamp(0, 1) if in_range else within


def _ball(order: int) -> Callable[[Sequence[int], Tensor, torch.Generator | None], Tensor]:
    """Uniform in the unit ball of L1 or L2: y / (|y|^p + w)^(1/p), y of density exp(-|t|^p), w exponential.

    Barthe, Guedon, Mendelson and Naor 2005.
    """

    def points(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
        y = torch.empty(tuple(shape), device=like.device, dtype=like.dtype)
        if order == 2:
            y.normal_(0, math.sqrt(0.5), generator=generator)
        else:
            y.exponential_(1, generator=generator)
            signs = torch.rand(y.shape, device=y.device, dtype=y.dtype, generator=generator)
            y = torch.where(signs < 0.5, -y, y)
        beside = torch.empty(y.shape[:1], device=y.device, dtype=y.dtype).exponential_(1, generator=generator)
        length = (y.flatten(1).abs().pow(order).sum(1) + beside).pow(1 / order)
        return y / _per_sample(length, y)

    return points


def _largest(gradient: Tensor, x_adv: Tensor) -> Tensor:
    """SLIDE: equal lengths along the largest coordinates, of those that do not already lie at the end of the range."""
    stuck = ((x_adv <= 0) & (gradient < 0)) | ((x_adv >= 1) & (gradient > 0))
    free = gradient.masked_fill(stuck, 0).flatten(1)
    index = free.abs().topk(max(1, math.ceil(SPARSITY * free.shape[1])), dim=1).indices
    signs = free.gather(1, index).sign()
    lengths = signs / signs.abs().sum(1, keepdim=True).clamp(min=1)
    return torch.zeros_like(free).scatter(1, index, lengths).view_as(gradient)


def _nearest_l1(x_adv: Tensor, x: Tensor, eps: float, in_range: bool) -> Tensor:
    """The nearest point of the L1 ball around x, and of [0, 1]: z = x + sign(d) * clip(|d| - t, 0, room), d = x' - x.

    The room is what lies between x and the end of the range in d's direction. What is left of |d| falls with t in
    straight pieces, so that the t at which eps is left is found by sorting their ends.
    """
    delta, origin = (x_adv - x).flatten(1), x.flatten(1)
    size = delta.abs()
    room = torch.where(delta > 0, 1 - origin, origin).clamp(min=0) if in_range else torch.full_like(size, torch.inf)
    begins = (size - room).clamp(min=0)  # until t reaches it, a coordinate keeps its room; then it falls, to |d|
    ends, order = torch.cat([begins, size], 1).sort(1)
    falling = torch.where(order < size.shape[1], 1, -1).cumsum(1).to(size.dtype)
    fall = (ends[:, 1:] - ends[:, :-1]) * falling[:, :-1]
    kept = torch.minimum(size, room)
    total = kept.sum(1, keepdim=True)
    left = total - torch.cat([torch.zeros_like(total), fall.cumsum(1)], 1)  # at each end; none falls before the first
    last = (left > eps).sum(1, keepdim=True).clamp(min=1) - 1  # the last end at which too much is left
    t = ends.gather(1, last) + (left.gather(1, last) - eps) / falling.gather(1, last).clamp(min=1)
    # Within the room: |d| - t may exceed it by rounding, and what is left in all eps.
    moved = torch.where(total > eps, torch.minimum((size - t).clamp(min=0), room), kept)
    moved = moved * (eps / moved.sum(1, keepdim=True).clamp(min=eps))
    within = (origin + torch.where(delta > 0, moved, -moved)).view_as(x)
    return within.clamp(0, 1) if in_range else within


GEOMETRY: dict[Norm, Geometry] = {
    "linf": Geometry(lambda gradient, x_adv: gradient.sign(), _clamped, _cube, 8 / 255, reach=2.5),
    # Madry et al. evaluate with steps of 2.5 eps / steps.
    "l2": Geometry(_unit_l2, _scaled, _ball(2), 0.5, reach=2.5),
    # CleverHans' SparseL1Descent, by the attack's authors: eps 10, 20 steps of 1.
    "l1": Geometry(_largest, _nearest_l1, _ball(1), 12.0, reach=2.0),
}
