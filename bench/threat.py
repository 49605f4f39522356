"""Threat models: in which norm, and how far, an attacker may move an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, get_args

from bench.errors import BenchError, unknown_name
from bench.vocabulary import LINF_EPS, Norm

NORMS: Final[tuple[Norm, ...]] = get_args(Norm)
NORM_TEXT: Final[dict[Norm, str]] = {"linf": "L∞", "l2": "L2", "l1": "L1"}
"""The norms as readers know them."""


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
    def of(cls, threat: Threat | float) -> Threat:
        """A threat as it is; of a number the L-infinity ball of that radius."""
        return threat if isinstance(threat, Threat) else cls(eps=threat)

    def __str__(self) -> str:
        return f"{self.norm}:{eps_text(self.eps)}"

    @property
    def text(self) -> str:
        """The threat in a reader's words: `eps = 8/255` in L-infinity, which goes without saying; `L2, eps = 0.5`."""
        radius = f"eps = {eps_text(self.eps)}"
        return radius if self.norm == "linf" else f"{NORM_TEXT[self.norm]}, {radius}"

    def at(self, eps: float) -> Threat:
        """The same norm at another radius."""
        return Threat(self.norm, eps)


def parse_eps(text: str) -> float:
    """A radius as users write it: 8/255, 0.5, 12."""
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise BenchError(f"The radius {text!r} is no number.\nGive one as in 8/255, 0.5 or 12.") from error


def eps_text(eps: float) -> str:
    """A radius as papers write it, `8/255`; as a number where it is no whole number of grey levels."""
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and round(levels) > 0 and eps < 1
    return f"{round(levels)}/255" if whole else f"{eps:.6g}"
