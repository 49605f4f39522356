"""AutoAttack, the standard ensemble (Croce and Hein 2020), and what its authors run in its place or before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Ensemble):
    """APGD-CE, APGD-T, FAB-T and Square with 5,000 queries; each attacks what the ones before left standing."""

    label = "AutoAttack"
    source = "Croce and Hein 2020, arXiv:2003.01690; pyautoattack"
    components = ("apgd-ce", "apgd-t", "fab-t", "square")
    begins_as: ClassVar[str | None] = "apgd"


@dataclass(frozen=True, kw_only=True)
class APGD(Ensemble):
    """The first two of AutoAttack, after which it changes next to nothing: APGD-CE, and APGD-T on the survivors."""

    label = "APGD-CE + APGD-T"
    source = "Croce and Hein 2020, arXiv:2003.01690; pyautoattack"
    components = ("apgd-ce", "apgd-t")


@dataclass(frozen=True, kw_only=True)
class AutoAttackRand(Ensemble):
    """AutoAttack for networks that draw: APGD on the cross-entropy and on the DLR, each gradient the mean of 20."""

    label = "AutoAttack (rand)"
    source = "Croce and Hein 2020, arXiv:2003.01690; pyautoattack"
    version = "rand"
    components = ("apgd-ce", "apgd-dlr")
