"""BIM, the basic iterative method (Kurakin et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from attacks.loop import GradientAttack
from bench.attack import Start


@dataclass(frozen=True, kw_only=True)
class BIM(GradientAttack):
    """10 steps of 2/255 on the cross-entropy, from x itself (DARD states neither number: inferred)."""

    steps: int = 10
    start: Start = "none"

    label = "BIM"
    source = "Kurakin et al. 2017, arXiv:1607.02533"
    same_every_step = True
