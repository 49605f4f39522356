"""Square Attack, a query-only random search (Andriushchenko et al. 2020), by torchattacks.

In L1, which torchattacks does not know, it is Croce and Hein's (2021), by pyautoattack, with the same defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attacks.norms import GEOMETRY
from bench.attack import Attack, Model, Outcome
from bench.errors import BenchError
from bench.threat import NORM_TEXT
from bench.vocabulary import Norm

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}
"""The norms as torchattacks calls them."""
_LEAST_SIDE = 5
"""In L2, and in L1, libraries begin with five tiles a side."""


def check_size(norm: Norm, x: Tensor) -> None:
    """Refuse images that a library's Square cannot tile."""
    if norm != "linf" and min(x.shape[2:]) < _LEAST_SIDE:
        raise BenchError(
            f"Square in {NORM_TEXT[norm]} needs images of {_LEAST_SIDE} pixels or more a side; these have "
            f"{x.shape[2]} x {x.shape[3]}.\nLeave it out: --suite pgd-sat,apgd."
        )


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """torchattacks' Square with its defaults but for the number of queries; in L1 pyautoattack's.

    Attributes:
        queries: forward passes allowed for a sample.
        seed: of the random search. The libraries draw for a batch, so a sample's result depends on its batch.
    """

    queries: int = 100
    seed: int = 0

    label = "Square"
    source = "Andriushchenko et al. 2020, arXiv:1912.00049; torchattacks, in L1 pyautoattack"
    couples_batch = True
    needs_module = True
    white_box = False
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    under: ClassVar[Mapping[Norm, Mapping[str, Any]]] = {norm: {"eps": GEOMETRY[norm].eps} for norm in ("l2", "l1")}

    def run(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        track: bool = False,
    ) -> Outcome:
        if not isinstance(model, nn.Module):
            raise TypeError("Square needs an nn.Module: torchattacks reads the device from its parameters")
        check_size(self.norm, x)
        # The libraries seed torch's global generators; whoever called keeps theirs.
        with torch.random.fork_rng():
            return Outcome(self._library(model)(x, y))

    def _library(self, model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        """Makes the images of (x, y)."""
        options = {"eps": self.eps, "n_queries": self.queries, "seed": self.seed}
        if self.norm == "l1":
            from pyautoattack.square import SquareAttack

            perturb: Callable[[Tensor, Tensor], Tensor] = SquareAttack(model, norm="L1", **options).perturb
            return perturb
        import torchattacks

        attack: Callable[[Tensor, Tensor], Tensor] = torchattacks.Square(model, norm=_NAMES[self.norm], **options)
        return attack
