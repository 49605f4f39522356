"""PGD at several radii, one after the other, each on the samples that the smaller ones left standing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.loop import Objective
from attacks.pgd import PGD, PGDSAT
from bench.attack import Model, Outcome


@dataclass(frozen=True, kw_only=True)
class PGDCurve(PGDSAT):
    """PGD-SAT at eight shares of a radius; a sample that is fooled at one of them counts as fooled at all larger ones.

    What another attack finds as the curve of accuracy over the radius is held against it.

    Attributes:
        shares: of `eps`, rising; a radius beyond the image range is left out.
    """

    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

    label = "PGD curve"
    at_the_boundary: ClassVar[bool] = True

    def radii(self) -> list[float]:
        """The radii that it is run at, rising."""
        most = 1.0 if self.norm == "linf" else float("inf")
        return [radius for share in sorted(self.shares) if (radius := share * self.eps) <= most]

    def run(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        track: bool = False,
        objective: Objective | None = None,
    ) -> Outcome:
        """Attack a batch; `radii` are the smallest radii at which an iterate fooled the model. See `Attack.run`."""
        noise = self.start_noise(x.shape, x, generator) if noise is None else noise
        found, x_adv = torch.full_like(x[:, 0, 0, 0], torch.inf), x.clone()
        with torch.no_grad():
            found[model(x).argmax(1) != y] = 0
        for radius in self.radii():
            (standing,) = found.isinf().nonzero(as_tuple=True)
            if not len(standing):
                break
            own = None if noise is None else noise[standing]
            images, right = self._at(radius, model, x[standing], y[standing], own, objective)
            x_adv[standing[~right]], found[standing[~right]] = images[~right], radius
        return Outcome(x_adv, radii=found)

    def _at(
        self, radius: float, model: Model, x: Tensor, y: Tensor, noise: Tensor | None, objective: Objective | None
    ) -> tuple[Tensor, Tensor]:
        """What fooled the model at one radius, and which samples nothing did."""
        scaled = self.scaled_to(radius)
        assert isinstance(scaled, PGD)
        outcome = PGD.run(scaled, model, x, y, noise=noise, track=True, objective=objective)
        assert outcome.always_right is not None
        assert outcome.witnesses is not None
        with torch.no_grad():
            last = model(outcome.x_adv).argmax(1) == y
        before = outcome.always_right.view(-1, *[1] * (x.ndim - 1))
        return torch.where(before, outcome.x_adv, outcome.witnesses), last & outcome.always_right

    def survivors(
        self, model: Model, x: Tensor, y: Tensor, *, noise: Tensor | None = None, batch_size: int = 250
    ) -> Outcome | None:
        return None  # its own run leaves alone what is fooled
