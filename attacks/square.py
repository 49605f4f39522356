"""Square Attack, a query-only random search in L-infinity or L2 (Andriushchenko et al. 2020), by torchattacks."""

from __future__ import annotations

from collections.abc import Mapping
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
"""The norms as the library calls them."""
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
    """torchattacks' Square with its defaults but for the number of queries.

    Attributes:
        queries: forward passes allowed for a sample.
        seed: of the random search. The library draws for a batch, so a sample's result depends on its batch.
    """

    queries: int = 100
    seed: int = 0

    label = "Square"
    source = "Andriushchenko et al. 2020, arXiv:1912.00049; torchattacks"
    couples_batch = True
    needs_module = True
    white_box = False
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    under: ClassVar[Mapping[Norm, Mapping[str, Any]]] = {"l2": {"eps": GEOMETRY["l2"].eps}}

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
        import torchattacks

        if not isinstance(model, nn.Module):
            raise TypeError("Square needs an nn.Module: torchattacks reads the device from its parameters")
        check_size(self.norm, x)
        library = torchattacks.Square(
            model, norm=_NAMES[self.norm], eps=self.eps, n_queries=self.queries, seed=self.seed
        )
        # The library seeds torch's global generators; whoever called keeps theirs.
        with torch.random.fork_rng():
            return Outcome(library(x, y))
