"""A number of a table with all that belongs to it: what it was measured on, how sure it and its lead are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from math import floor
from typing import Literal, NamedTuple

from bench.records.measurement import Measurement
from bench.stats import LEVEL, Test
from bench.threat import Threat
from bench.vocabulary import Norm

Mark = Literal["", "best", "second"]

DASH = "–"
_PER_HOUR = {"s": 3600, "min": 60, "h": 1}
TEST_SELECTED, FLAGGED, UNPROVEN, PARTIAL = "†", "‡", "≈", "*"


class Group(NamedTuple):
    """What results must share to be compared, and the block of columns they then stand in.

    Without results there is only the dataset's name. `model` is the students' architecture, empty of teachers, who name
    theirs in their rows.
    """

    dataset: str
    setting: str = ""
    protocol: str = ""
    n: int = 0
    total: int = 0
    eps: float = 0.0
    fingerprint: str = ""
    model: str = ""
    norm: Norm = "linf"

    @property
    def threat(self) -> Threat:
        """What the attacks might do; without results nothing."""
        return Threat(self.norm, self.eps)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a number can be tested by against its rivals in the column.

    Attributes:
        n: samples.
        measured: of each seed; empty for published numbers.
        published: clean and robust accuracy, in [0, 1], where that is all there is.
    """

    n: int
    measured: tuple[Measurement, ...] = ()
    published: tuple[float | None, float | None] | None = None

    @cached_property
    def attacks(self) -> set[tuple[str, str | None]]:
        """Parameters and surrogate of the attack; more than one where seeds differ in them."""
        return {(each.parameters, each.result.surrogate) for each in self.measured}

    @property
    def over(self) -> set[frozenset[str]]:
        """Of a worst over attacks: over which it is; more than one where seeds differ in them."""
        return {frozenset(each.result.parameters["over"]) - {"clean"} for each in self.measured}

    @property
    def worst(self) -> list[tuple[int, int]]:
        """Of each seed, (right, samples) of the class with the lowest robust accuracy, where that is known."""
        return [worst for each in self.measured if (worst := each.worst_class)]

    @property
    def devices(self) -> set[str]:
        """What the seeds were trained on, where that is known."""
        trained = (each.record.subject.training for each in self.measured)
        return {training.device for training in trained if training}


@dataclass(frozen=True)
class Lead:
    """How sure it is that the best number of a column is better than the second best.

    Attributes:
        p: after Holm's correction over the best number's rivals in the column; None where no test is possible.
        test: by which; None where none is.
        rivals: with how many it was compared.
    """

    p: float | None
    test: Test | None
    rivals: int

    @property
    def proven(self) -> bool:
        return self.p is not None and self.p <= LEVEL


@dataclass(frozen=True)
class Cell:
    """A number, or none, with all that belongs to it; numbers are per cent, or hours.

    Attributes:
        value: the number; over several seeds, their mean. None shows as a dash.
        group: what it was measured on and under.
        std: sample standard deviation over seeds; None for one seed.
        interval: 95 % interval of a single seed's number: Wilson's, for `weighted` the score interval, for
            `worst_class` exact bounds; none for a cost.
        seeds: how many seeds are in it.
        selection: what chose the checkpoints.
        flags: failed sanity checks of the records.
        records: ids of the records the number comes from.
        signed: whether it is a difference, in percentage points.
        unit: of the numbers. shown_in: of a cost, the unit that it is shown in.
        mark: place among the rivals in its column.
        lead: of a best number, how sure its lead is.
        evidence: what it is tested by.
        over: of a worst over attacks, the attacks; partial: whether these are fewer than its section has, or not of all
            seeds, so that it is no rival in its column.
        of_seeds: of a mean over attacks, each seed's.
    """

    value: float | None = None
    group: Group | None = None
    std: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    selection: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    signed: bool = False
    unit: Literal["%", "h"] = "%"
    shown_in: Literal["s", "min", "h"] = "h"
    mark: Mark = ""
    lead: Lead | None = None
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    over: frozenset[str] = frozenset()
    partial: bool = False
    of_seeds: tuple[float, ...] = ()

    @cached_property
    def shown(self) -> float | None:
        """The number as a reader sees it; marks and differences come from it.

        Per cent with two decimals, a cost with three significant digits.
        """
        if self.value is None:
            return None
        if self.unit == "h":
            return float(_digits(self.value * _PER_HOUR[self.shown_in]))
        # Halves go up, as in the paper: of 10,000 samples, every other W-R ends in half a hundredth.
        return floor(self.value * 100 + 0.5 + 1e-6) / 100

    @property
    def ranked(self) -> float | None:
        """The number by which it is a rival in its column."""
        return None if self.partial else self.shown

    @property
    def signs(self) -> str:
        """Signs that lead to the notes."""
        return (
            (PARTIAL if self.partial else "")
            + (UNPROVEN if self.lead and not self.lead.proven else "")
            + (TEST_SELECTED if "test" in self.selection else "")
            + (FLAGGED if self.flags else "")
        )

    @property
    def brief(self) -> str:
        """The cell as plain text without its spread over seeds."""
        return replace(self, std=None).text

    @property
    def text(self) -> str:
        """The cell as plain text: `54.54`, `54.54 ± 0.31 (3)†`, or a dash."""
        if self.shown is None:
            return DASH
        cost = self.unit == "h"
        number = _digits(self.shown) if cost else f"{self.shown:{'+' if self.signed else ''}.2f}"
        if self.std is not None:
            spread = _digits(self.std * _PER_HOUR[self.shown_in]) if cost else f"{self.std:.2f}"
            number += f" ± {spread} ({self.seeds})"
        return number + self.signs


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{Decimal(f'{value:.2e}'):f}"
