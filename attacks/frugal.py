"""What pyautoattack asks of a network, for less: in batches that a CPU's caches hold, and never of a decided sample.

Every sample is attacked from the start that the library draws for it, and judged by the same network, so that verdicts
differ by rounding at most.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.batches import at_once

_CLEAR = 1e-3
"""By what share of the spread of the logits the largest has to be ahead."""


class Frugal(nn.Module):
    """A network to the library.

    What it asks without gradients goes through in small batches. While `leaves_out` is on, what it asks with gradients
    are the iterates of an APGD, after the clean images of the same samples: one that is fooled once is fooled for good
    (the image of then stays its result), and is answered from then on as if it were right, without a pass.
    """

    def __init__(self, network: nn.Module, leaves_out: bool) -> None:
        super().__init__()
        self.network = network
        self.may_leave_out = leaves_out
        self.leaves_out = False
        self.clean: Tensor | None = None
        self._standing: Tensor | None = None
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            logits = torch.cat([self.network(part) for part in x.split(at_once(x.shape, x.device))])
            self.begin(logits)
            return logits
        if not self.leaves_out or self.clean is None or len(self.clean) != len(x):
            whole: Tensor = self.network(x)
            return whole
        assert self._standing is not None
        (left,) = self._standing.nonzero(as_tuple=True)
        # Connected to every image, that it may ask for the gradient of those that none is computed of.
        logits = self.clean + 0 * x.flatten(1)[:, :1]
        if len(left):
            answers = self.network(x[left])
            logits = logits.index_put((left,), answers)
            self._standing[left] = ~_surely_wrong(answers.detach(), self.clean[left].argmax(1))
        return logits

    def begin(self, clean: Tensor | None) -> None:
        """Samples with these logits on their clean images, all of them right, are attacked next; None: not known."""
        self.clean = clean
        self._standing = None if clean is None else torch.ones(len(clean), dtype=torch.bool, device=clean.device)


def _surely_wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Which samples are wrong by more than rounding, so that another batch or network view finds the same; (B,)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.amax(1) - own > _CLEAR * (logits.amax(1) - logits.amin(1))


def in_parts(library: Any) -> None:
    """Make the library's APGDs and FAB treat a batch in small parts, each sample from the start it would have had."""
    for attack in (library.apgd, library.apgd_targeted):
        attack.attack_single_run = MethodType(_apgd_in_parts, attack)
    library.fab.attack_single_run = MethodType(_fab_in_parts, library.fab)


def _apgd_in_parts(attack: Any, x: Tensor, y: Tensor, x_init: Tensor | None = None) -> tuple[Tensor, ...]:
    """APGDAttack.attack_single_run, part by part.

    Where it draws its own start in L1 it has to: with one that is given it begins with another sparsity.
    """
    if attack.norm == "L1" and x_init is None:
        whole: tuple[Tensor, ...] = type(attack).attack_single_run(attack, x, y)
        return whole
    start = _start(attack, x) if x_init is None else x_init
    if x_init is not None:
        torch.randn(x.shape)  # it draws a start in any case
    drawn, targets, network = torch.get_rng_state(), attack.y_target, attack.model
    size, clean = at_once(x.shape, x.device), network.clean
    found = []
    network.leaves_out = network.may_leave_out
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        attack.y_target = None if targets is None else targets[part]
        network.begin(clean[part] if clean is not None and len(clean) == len(x) else None)
        found.append(type(attack).attack_single_run(attack, x[part], y[part], x_init=start[part]))
    attack.y_target, network.leaves_out = targets, False
    torch.set_rng_state(drawn)
    return tuple(map(torch.cat, zip(*found, strict=True)))


def _start(attack: Any, x: Tensor) -> Tensor:
    """The first iterate that the library draws: uniform in the L-infinity ball's hull, or on L2's sphere."""
    if attack.norm == "Linf":
        return x + attack.eps * torch.ones_like(x) * attack.normalize(2 * torch.rand(x.shape).to(x.device) - 1)
    return x + attack.eps * torch.ones_like(x) * attack.normalize(torch.randn(x.shape).to(x.device))


def _fab_in_parts(
    attack: Any, x: Tensor, y: Tensor | None = None, use_rand_start: bool = False, is_targeted: bool = False
) -> Tensor:
    """FABAttack.attack_single_run, part by part; a random start is drawn for a whole batch, and left to it."""
    whole = type(attack).attack_single_run
    if use_rand_start or y is None:
        result: Tensor = whole(attack, x, y, use_rand_start, is_targeted)
        return result
    size = at_once(x.shape, x.device)
    return torch.cat(
        [whole(attack, *part, False, is_targeted) for part in zip(x.split(size), y.split(size), strict=True)]
    )
