"""PGD, projected gradient descent (Madry et al. 2018), and the two settings of it that the papers report.

By the papers' text PGD-SAT and PGD-TRADES are the same attack; only the authors' released evaluation code tells them
apart, by its step of 0.003 for PGD-TRADES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from attacks.loop import GradientAttack


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """K steps on the cross-entropy, from a uniform start unless told otherwise."""

    label = "PGD"
    source = "Madry et al. 2018, arXiv:1706.06083"
    same_every_step = True


@dataclass(frozen=True, kw_only=True)
class PGDSAT(PGD):
    """PGD-20 with steps of 2/255 from a uniform start, as SAT is evaluated."""

    steps: int = 20

    label = "PGD-SAT"


@dataclass(frozen=True, kw_only=True)
class PGD20(PGDSAT):
    """PGD-SAT by the name that DARD has for it."""

    label = "PGD-20"


@dataclass(frozen=True, kw_only=True)
class PGDTRADES(PGD):
    """PGD-20 from a uniform start, as TRADES is evaluated: steps of 0.003 (official) or 2/255 (paper)."""

    steps: int = 20

    label = "PGD-TRADES"
    source = "Zhang et al. 2019, arXiv:1901.08573"
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "official": {"step_size": 0.003},
        "paper": {"step_size": 2 / 255},
    }
