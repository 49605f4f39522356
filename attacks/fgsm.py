"""FGSM, the fast gradient sign method (Goodfellow et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass, field

from attacks.loop import GradientAttack
from bench.attack import Start


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One step of length eps along sign(grad CE), from x itself."""

    step_size: float = field(init=False)
    steps: int = 1
    start: Start = "none"

    label = "FGSM"
    source = "Goodfellow et al. 2015, arXiv:1412.6572"
    lengths = ("eps",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_size", self.eps)
