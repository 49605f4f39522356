"""Checks that an evaluation can fail when its attacks, not the defense, are what is weak.

After Carlini et al. 2019 (arXiv:1902.06705) and Athalye et al. 2018 (arXiv:1802.00420): an attack that is stronger by
construction must not leave more samples standing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.attack import Attack
from bench.records import AttackResult, unpack
from bench.statistics import mcnemar_exact

PROBE = "pgd-sat"
"""The attack that `probe` varies."""
PROBED = 64
"""Images that `probe` looks at: the first so many."""

_ORDER = (
    ("pgd-sat", "fgsm", "FGSM breaks more than PGD-SAT: gradients may be masked"),
    ("pgd-trades", "transfer:pgd-trades", "a transferred PGD-TRADES breaks more than the white-box one"),
    ("cw-inf", "transfer:cw-inf", "a transferred CW-inf breaks more than the white-box one"),
    ("pgd-sat", "square", "Square breaks more than PGD-SAT: gradients may be masked"),
)
_LEVEL = 0.01
_VANISHED = 0.05


def flags(results: Mapping[str, AttackResult], n: int) -> list[str]:
    """The failed checks, in words: those where the weaker attack breaks significantly more (McNemar, 1 %)."""
    failed = []
    for stronger, weaker, message in _ORDER:
        if stronger in results and weaker in results:
            failed += _compared(unpack(results[stronger].final, n), unpack(results[weaker].final, n), message)
    return failed


def probe(
    network: nn.Module, x: Tensor, y: Tensor, attack: Attack, noise: Tensor | None, attacked: np.ndarray
) -> list[str]:
    """The failed ones of the checks that need images of their own.

    More steps must not help the model; noise must hurt it less than the attack; at eps = 1, where any image is within
    reach, nothing may stand; the gradients that the attack climbs must be there.

    Args:
        network: in eval mode.
        x: images in [0, 1], shape (B, C, H, W).
        y: labels, shape (B,).
        attack: PGD as the record has it.
        noise: its start noise for these images.
        attacked: bool, shape (B,): whether the model is right after it.
    """

    def right(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            return (network(images).argmax(1) == y).cpu().numpy()

    longer = replace(attack, steps=2 * attack.parameters()["steps"])  # type: ignore[call-arg]
    signs = torch.ones_like(x) if noise is None else noise.sign()
    failed = _compared(
        right(longer(network, x, y, noise=noise)), attacked, f"{attack.label} breaks less with twice the steps"
    )
    failed += _compared(
        attacked,
        right((x + attack.eps * signs).clamp(0, 1)),
        f"random noise breaks more than {attack.label}",
    )
    standing = int(right(attack.scaled_to(1.0)(network, x, y, noise=noise)).sum())
    if standing:
        failed.append(f"{attack.label} with eps = 1 leaves {standing} of {len(y)} samples standing")
    images = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(images), y, reduction="sum"), images)
    vanished = int((gradient.flatten(1) == 0).all(1).sum())
    if vanished > _VANISHED * len(y):
        failed.append(f"the gradient vanishes on {vanished} of {len(y)} samples")
    return failed


def _compared(under_strong: np.ndarray, under_weak: np.ndarray, message: str) -> list[str]:
    """The message, if the weaker attack breaks significantly more; outcomes are right or not, shape (n,), bool."""
    only_weak_breaks = int((under_strong & ~under_weak).sum())
    only_strong_breaks = int((under_weak & ~under_strong).sum())
    if only_weak_breaks > only_strong_breaks and mcnemar_exact(only_weak_breaks, only_strong_breaks) < _LEVEL:
        return [f"{message} ({only_weak_breaks} against {only_strong_breaks} of {len(under_strong)} samples)"]
    return []
