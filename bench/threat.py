"""Threat models: in which norm, and how far, an attacker may move an image; and how results name theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final, get_args

from bench.errors import BenchError, unknown_name
from bench.vocabulary import LINF_EPS, Norm

NORMS: Final[tuple[Norm, ...]] = get_args(Norm)
NORM_TEXT: Final[dict[Norm, str]] = {"linf": "L∞", "l2": "L2", "l1": "L1"}
"""The norms as readers know them."""
USUAL: Final[Mapping[Norm, float]] = {"linf": LINF_EPS, "l2": 0.5, "l1": 12.0}
"""The radius that each norm is usually measured at on CIFAR."""


@dataclass(frozen=True, order=True)
class Threat:
    """The ball of radius eps around an image, for images in [0, 1].

    Attributes:
        norm: of the perturbation, over all pixels and channels.
        eps: its largest value; 0 leaves the images as they are, in L-infinity at most 1.

    Raises:
        BenchError: a norm that is none, or a radius out of range.
    """

    norm: Norm = "linf"
    eps: float = LINF_EPS

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown_name("norm", str(self.norm), NORMS)
        if not (math.isfinite(self.eps) and self.eps >= 0 and (self.norm != "linf" or self.eps <= 1)):
            most = " and at most 1" if self.norm == "linf" else ""
            raise BenchError(
                f"The threat {self.norm} has eps = {self.eps:g}.\n"
                f"Give a radius for images in [0, 1], above 0{most}: 8 levels of 255 are 8/255."
            )

    @classmethod
    def parse(cls, text: str) -> Threat:
        """A threat as `str` writes it and users give it: linf:8/255, l2:0.5, l1:12."""
        norm, colon, radius = text.strip().lower().partition(":")
        if not colon:
            raise BenchError(f"The threat {text!r} names no radius.\nGive NORM:EPS, as in linf:8/255, l2:0.5 or l1:12.")
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        threat = cls(norm, parse_eps(radius))
        if not threat.eps:
            raise BenchError(f"The threat {text!r} moves no image.\nGive a radius above 0, or the suite `clean`.")
        return threat

    @classmethod
    def wanted(cls, value: Any) -> Wanted | None:
        """What a caller from Python asks for: a threat, its text, a radius in the data set's own norm, or None."""
        if value is None or isinstance(value, Threat):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise BenchError(f"threat={value!r} is none.\nGive a text as in 'l2:0.5', a bench.threat.Threat, or a radius.")

    @classmethod
    def of(cls, threat: Threat | float) -> Threat:
        """A threat as it is; of a number the L-infinity ball of that radius."""
        return threat if isinstance(threat, Threat) else cls(eps=threat)

    def __str__(self) -> str:
        return f"{self.norm}:{self.radius}"

    @property
    def radius(self) -> str:
        """Its radius as papers write it: 8/255; in L2 and L1, where grey levels are rare, 0.6 rather than 153/255."""
        short = f"{self.eps:.6g}"
        return short if self.norm != "linf" and float(short) == self.eps else eps_text(self.eps)

    @property
    def text(self) -> str:
        """The threat in a reader's words: `eps = 8/255` in L-infinity, which goes without saying; `L2, eps = 0.5`."""
        radius = f"eps = {self.radius}"
        return radius if self.norm == "linf" else f"{NORM_TEXT[self.norm]}, {radius}"

    def at(self, eps: float) -> Threat:
        """The same norm at another radius."""
        return Threat(self.norm, eps)

    def within(self, other: Threat) -> bool:
        """Whether its ball lies in the other's: L1's in L2's of the same radius, and that in L-infinity's."""
        outward = NORMS.index(self.norm) >= NORMS.index(other.norm)
        return outward and self.eps <= other.eps


@dataclass(frozen=True)
class Entry:
    """One attack of a suite, as a record names its result: ATTACK, transfer:ATTACK, ATTACK@l2:0.5, ATTACK@1.5x.

    Attributes:
        attack: its registered name.
        transfer: whether it is crafted on the surrogate, the robust teacher as it was before any student's training.
        threat: its own, where it has one: `l2:0.5`; or relative to the dataset's: `1.5x` its radius. In a suite also a
            norm alone: `l2` is the dataset's radius where that is its norm, and else the usual one.

    Raises:
        BenchError: a threat that is none.
    """

    attack: str
    transfer: bool = False
    threat: str | None = None

    def __post_init__(self) -> None:
        if self.threat is not None and self.threat not in NORMS:
            factor = _factor(self.threat)
            text = str(Threat.parse(self.threat)) if factor is None else f"{factor:.6g}x"
            object.__setattr__(self, "threat", text)

    @classmethod
    def of(cls, result: str) -> Entry:
        """What the name of a result says."""
        name, stated, threat = result.partition("@")
        attack = name.removeprefix("transfer:")
        return cls(attack, attack != name, threat if stated else None)

    @property
    def result(self) -> str:
        """The name of its result in a record."""
        return f"{'transfer:' if self.transfer else ''}{self.attack}{f'@{self.threat}' if self.threat else ''}"

    def under(self, own: Threat) -> Threat:
        """What it is run under, on a dataset of this threat."""
        if self.threat is None or self.threat == own.norm:
            return own
        if self.threat in NORMS:
            return Threat(self.threat, USUAL[self.threat])
        factor = _factor(self.threat)
        return Threat.parse(self.threat) if factor is None else own.at(factor * own.eps)

    def on(self, own: Threat) -> Entry:
        """The entry as a dataset of this threat names it: without a threat where that is the dataset's own."""
        threat = self.under(own)
        if threat == own:
            return replace(self, threat=None)
        return replace(self, threat=str(threat)) if self.threat in NORMS else self


def _factor(text: str) -> float | None:
    """Of a relative threat, `1.5x`, how many times the dataset's radius it has; None of another one."""
    if not text.endswith("x"):
        return None
    factor = parse_eps(text[:-1])
    if not (0 < factor < math.inf):
        raise BenchError(f"The threat {text!r} moves no image.\nGive a factor above 0, as in 1.5x.")
    return factor


def label_in(label: str, norm: Norm | None) -> str:
    """An attack's label in a norm: `CW∞` and `CW-inf` name one, and in any other are `CW`; None: in several."""
    return label if norm == "linf" else label.replace("∞", "").replace("-inf", "")


Wanted = Threat | float
"""A threat that is asked for; a number is a radius in the data set's own norm."""


def parse_eps(text: str) -> float:
    """A radius as users write it: 8/255, 0.5, 12."""
    from fractions import Fraction  # it brings decimal, and every command starts by importing this module

    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise BenchError(f"The radius {text!r} is no number.\nGive one as in 8/255, 0.5 or 12.") from error


def eps_text(eps: float) -> str:
    """A radius as papers write it, `8/255`; as a number where it is no whole number of grey levels."""
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and round(levels) > 0 and eps < 1
    return f"{round(levels)}/255" if whole else f"{eps:.6g}"
