"""Checks that an evaluation can fail when its attacks, not the defense, are what is weak.

After Carlini et al. 2019 (arXiv:1902.06705) and Athalye et al. 2018 (arXiv:1802.00420): an attack that is stronger by
construction must not leave more samples standing.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.records import AttackResult, unpack
from bench.statistics import mcnemar_exact

_ORDER = (
    ("pgd-sat", "fgsm", "FGSM breaks more than PGD-SAT: gradients may be masked"),
    ("pgd-trades", "transfer:pgd-trades", "a transferred PGD-TRADES breaks more than the white-box one"),
    ("cw-inf", "transfer:cw-inf", "a transferred CW-inf breaks more than the white-box one"),
    ("pgd-sat", "square", "Square breaks more than PGD-SAT: gradients may be masked"),
)
_LEVEL = 0.01


def flags(results: Mapping[str, AttackResult], n: int) -> list[str]:
    """The failed checks, in words: those where the weaker attack breaks significantly more (McNemar, 1 %)."""
    failed = []
    for stronger, weaker, message in _ORDER:
        if stronger not in results or weaker not in results:
            continue
        under_strong, under_weak = unpack(results[stronger].final, n), unpack(results[weaker].final, n)
        only_weak_breaks = int((under_strong & ~under_weak).sum())
        only_strong_breaks = int((under_weak & ~under_strong).sum())
        if only_weak_breaks > only_strong_breaks and mcnemar_exact(only_weak_breaks, only_strong_breaks) < _LEVEL:
            failed.append(f"{message} ({only_weak_breaks} against {only_strong_breaks} of {n} samples)")
    return failed
