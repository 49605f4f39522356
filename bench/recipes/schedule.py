"""Learning rates over a run; epochs count from 1.

A schedule's own epochs are stated for its `horizon`; in a run of another length they scale in proportion.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Schedule(BaseModel):
    """How the student's learning rate moves.

    `constant`; `multistep`: times gamma after each milestone epoch; `cosine`: from lr to lr_min, epoch by epoch;
    `one-cycle`: linearly up to lr over the first quarter and down to 0, step by step; `ciard`: the released CIARD
    code: lr up to epoch `milestones[0]`, then times (0.5 + 0.5 cos(pi u)) exp(-0.01 u^2) with u = (epoch -
    milestones[0]) / milestones[0].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["constant", "multistep", "cosine", "one-cycle", "ciard"]
    horizon: int = Field(default=0, ge=0, description="epochs the milestones are stated for; 0: the run's own length")
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    lr_min: float = 0.0

    def lr(self, base: float, epoch: int, epochs: int, fraction: float = 0.0) -> float:
        """The learning rate in an epoch.

        Args:
            base: the recipe's learning rate.
            epoch: 1 to epochs.
            epochs: length of the run.
            fraction: share of the epoch that has passed, 0 to 1; only `one-cycle` looks at it.
        """
        milestones = [milestone * epochs / (self.horizon or epochs) for milestone in self.milestones]
        if self.kind == "multistep":
            return base * self.gamma ** sum(epoch > milestone for milestone in milestones)
        if self.kind == "cosine":
            share = (epoch - 1) / epochs
            return self.lr_min + (base - self.lr_min) * 0.5 * (1 + math.cos(math.pi * share))
        if self.kind == "one-cycle":
            share = (epoch - 1 + fraction) / epochs
            return base * (share / 0.25 if share < 0.25 else (1 - share) / 0.75)
        if self.kind == "ciard" and epoch > milestones[0]:
            share = (epoch - milestones[0]) / milestones[0]
            return base * (0.5 + 0.5 * math.cos(math.pi * share)) * math.exp(-0.01 * share**2)
        return base
