"""Square Attack, a query-only random search (Andriushchenko et al. 2020), by torchattacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.attack import Attack, Model, Outcome


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
        library = torchattacks.Square(model, norm="Linf", eps=self.eps, n_queries=self.queries, seed=self.seed)
        # The library seeds torch's global generators; whoever called keeps theirs.
        with torch.random.fork_rng():
            return Outcome(library(x, y))
