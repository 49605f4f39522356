"""Rotations and translations, the worst of a grid of them (Engstrom et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attack import Attack, Model, Outcome


@dataclass(frozen=True, kw_only=True)
class Geometric(Attack):
    """Tries every rotation with every translation; a sample is right if it is right under all of them.

    One pass for each, and only for samples that are still right. Bilinear interpolation, zeros where nothing was.

    Attributes:
        rotations: how many angles, evenly from -degrees to degrees.
        degrees: the largest angle.
        translations: how many shifts along each axis, evenly from -pixels to pixels.
        pixels: the largest shift.
    """

    rotations: int = 31
    degrees: float = 30.0
    translations: int = 5
    pixels: float = 3.0

    label = "Geometric"
    source = "Engstrom et al. 2019, arXiv:1712.02779"
    in_ball: ClassVar[bool] = False
    white_box: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.rotations >= 1 and self.translations >= 1 and self.degrees >= 0 and self.pixels >= 0):
            raise ValueError("rotations and translations must be 1 or more, degrees and pixels not negative")

    def grid(self) -> list[tuple[float, float, float]]:
        """All (angle in degrees, shift to the right, shift down in pixels), those that move most first.

        The worst of them is the same in any order; what moves most fools soonest, and the rest costs nothing then.
        """
        angles = _spread(self.rotations, self.degrees)
        shifts = _spread(self.translations, self.pixels)
        places = list(product(angles, shifts, shifts))
        return sorted(places, key=lambda place: -self._moved(*place))

    def _moved(self, angle: float, right: float, down: float) -> float:
        return abs(angle) / (self.degrees or 1) + (abs(right) + abs(down)) / (2 * self.pixels or 1)

    def run(self, model: Model, x: Tensor, y: Tensor, **options: Any) -> Outcome:
        """Attack a batch; of samples that nothing fools the images come back as they are."""
        x_adv, places = x.clone(), self.grid()
        with torch.no_grad():
            (standing,) = (model(x).argmax(1) == y).nonzero(as_tuple=True)
            while places and len(standing):
                # As many places at once as fill the batch again: few images at a time would be slow.
                together = max(1, len(x) // len(standing))
                now, places = places[:together], places[together:]
                moved = torch.cat([transformed(x[standing], *place) for place in now])
                fooled = model(moved).argmax(1) != y[standing].repeat(len(now))
                for images, wrong in zip(moved.chunk(len(now)), fooled.chunk(len(now)), strict=True):
                    x_adv[standing[wrong]] = images[wrong]
                standing = standing[~fooled.view(len(now), -1).any(0)]
        return Outcome(x_adv)


def transformed(x: Tensor, angle: float, right: float, down: float) -> Tensor:
    """Images rotated about their centre and then shifted, bilinear, with zeros where nothing was.

    Args:
        x: shape (B, C, H, W), values in [0, 1].
        angle: in degrees, counter-clockwise.
        right: shift in pixels. down: shift in pixels.
    """
    height, width = x.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Where each pixel comes from, in coordinates from -1 to 1 along each axis.
    source = [
        [cos, -sin * height / width, -2 / width * (cos * right - sin * down)],
        [sin * width / height, cos, -2 / height * (sin * right + cos * down)],
    ]
    theta = torch.tensor(source, dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    moved = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    return moved.clamp(0, 1)


def _spread(n: int, most: float) -> list[float]:
    """n values, evenly from -most to most; 0 for one alone."""
    return [0.0] if n == 1 else [most * (2 * i / (n - 1) - 1) for i in range(n)]
