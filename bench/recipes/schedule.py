"""Learning rates over a run; epochs count from 1.

A schedule's own epochs are stated for its `horizon`; in a run of another length they scale in proportion.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from bench.recipes.frozen import Frozen


class Schedule(Frozen):
    """How the student's learning rate moves.

    `constant`; `multistep`: times gamma after each milestone epoch; `cosine`: from lr to lr_min, epoch by epoch;
    `one-cycle`: linearly up to lr over the first quarter and down to 0, step by step; `one-cycle-cosine`: PyTorch's
    OneCycleLR with a first quarter: from lr / 25 up to lr and down to lr / 250,000 by half a cosine each, while the
    momentum goes from 0.95 down to 0.85 and back; `ciard`: the released CIARD code: lr up to epoch `milestones[0]`,
    then times (0.5 + 0.5 cos(pi u)) exp(-0.01 u^2) with u = (epoch - milestones[0]) / milestones[0]. With a `warmup`
    the rate of each step of the first epochs is multiplied by the share of the warm-up that has passed before it; with
    `first` that of the run's first epoch is multiplied by this number.
    """

    later: ClassVar[frozenset[str]] = frozenset({"early", "first", "warmup"})

    kind: Literal["constant", "multistep", "cosine", "one-cycle", "one-cycle-cosine", "ciard"]
    horizon: int = Field(default=0, ge=0, description="epochs the milestones are stated for; 0: the run's own length")
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    lr_min: float = Field(default=0.0, ge=0)
    early: bool = Field(
        default=False, description="whether multistep drops in a milestone's last step already, not after it"
    )
    warmup: float = Field(default=0.0, ge=0, description="epochs of it, stated for the horizon as milestones are")
    first: float = Field(default=1.0, gt=0, description="what the rate of the first epoch is multiplied by")

    @model_validator(mode="after")
    def _has_milestones(self) -> Schedule:
        if self.kind == "ciard" and not self.milestones:
            raise ValueError("ciard needs a milestone, of milestones")
        return self

    def lr(
        self, base: float, epoch: int, epochs: int, fraction: float = 0.0, last: bool = False, steps: int = 1
    ) -> float:
        """The learning rate in an epoch.

        Args:
            base: the recipe's learning rate.
            epoch: 1 to epochs.
            epochs: length of the run.
            fraction: share of the epoch that has passed, 0 to 1; only the cycles and a warm-up look at it.
            last: whether it is the rate of the epoch's last step; only an `early` multistep looks at it.
            steps: of an epoch; only `one-cycle-cosine`, whose turn and end are at a step, looks at it.
        """
        if self.kind == "one-cycle-cosine":
            rate = _cycled(base / 25, base, base / 250_000, epoch - 1 + fraction, epochs, steps)
        else:
            rate = self._after_warmup(base, epoch, epochs, fraction, last)
        rate *= self.first if epoch == 1 else 1
        warmup = self.warmup * epochs / (self.horizon or epochs)
        passed = epoch - 1 + fraction
        return rate * passed / warmup if passed < warmup else rate

    def momentum(self, epoch: int, epochs: int, fraction: float, steps: int) -> float | None:
        """The momentum of a step; None where it stays what the optimizer has. Arguments as for `lr`."""
        if self.kind != "one-cycle-cosine":
            return None
        return _cycled(0.95, 0.85, 0.95, epoch - 1 + fraction, epochs, steps)

    def first_averaged(self, stated: int, epochs: int) -> int:
        """The first epoch of a run whose end an average takes in: the last but one at the latest.

        The mean of one network is no average.
        """
        return min(first_epoch(stated, epochs, self.horizon), max(1, epochs - 1))

    def _after_warmup(self, base: float, epoch: int, epochs: int, fraction: float, last: bool) -> float:
        milestones = [milestone * epochs / (self.horizon or epochs) for milestone in self.milestones]
        if self.kind == "multistep":
            at_its_end = self.early and last
            passed = [milestone < epoch or (at_its_end and milestone == epoch) for milestone in milestones]
            return base * self.gamma ** sum(passed)
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


def _cycled(start: float, middle: float, end: float, passed: float, epochs: int, steps: int) -> float:
    """From the start to the middle in a quarter of the run and from there to the end, by half a cosine each.

    Args:
        passed: epochs that have passed.
        steps: of an epoch. As in PyTorch the middle is at the last step of the quarter, and the end at the run's last.
    """
    turn, whole = epochs * steps / 4 - 1, epochs * steps - 1
    step = passed * steps
    if step <= turn and turn > 0:
        first, last, share = start, middle, step / turn
    else:
        first, last, share = middle, end, (step - turn) / (whole - turn)
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))


def first_epoch(stated: int, epochs: int, horizon: int) -> int:
    """The epoch of a run of so many epochs that an epoch of a schedule is which is stated for `horizon`; from 1."""
    return max(1, round(stated * epochs / (horizon or epochs)))
