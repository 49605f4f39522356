"""AutoAttack, the standard ensemble (Croce and Hein 2020), by its authors' code (pyautoattack)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.attack import Attack, Model, Outcome

_STANDARD_TARGETS = 9
_DLR_CLASSES = 4
"""The targeted DLR loss divides by a difference of the largest logit to the third and fourth."""


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """APGD-CE, APGD-T, FAB-T and Square with 5,000 queries; each attacks what the ones before left standing.

    With fewer than four classes APGD-T is left out: its loss is not defined there.

    Attributes:
        seed: of the library's random draws.
        batch_size: samples the library attacks at once.
    """

    seed: int = 0
    batch_size: int = 500

    label: ClassVar[str] = "AutoAttack"
    source: ClassVar[str] = "Croce and Hein 2020, arXiv:2003.01690; pyautoattack"
    couples_batch: ClassVar[bool] = True
    whole_set: ClassVar[bool] = True

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
        if not isinstance(model, nn.Module) or model.training:
            raise TypeError("AutoAttack needs an nn.Module in eval mode: in train mode its result means nothing")
        with torch.no_grad():
            predicted = [model(part) for part in x.split(self.batch_size)]
        right = torch.cat(predicted).argmax(1) == y
        x_adv = x.clone()
        components = {"clean": right.double().mean().item()}
        with torch.random.fork_rng():
            library = self._library(model, x, predicted[0].shape[1])
            for name in list(library.attacks_to_run):
                standing = right.nonzero().squeeze(1)
                if len(standing):
                    library.attacks_to_run = [name]
                    moved, predictions = library.run_standard_evaluation(
                        x[standing], y[standing], batch_size=self.batch_size
                    )
                    x_adv[standing] = moved
                    right[standing] = predictions == y[standing]
                components[name] = right.double().mean().item()
        return Outcome(x_adv, components=components)

    def _library(self, model: nn.Module, x: Tensor, classes: int) -> Any:
        import pyautoattack

        # Its debug lines repeat what `components` holds; its warnings (a model with randomness, say) still appear.
        logging.getLogger("auto-attack").setLevel(logging.WARNING)
        library = pyautoattack.AutoAttack(
            model, norm="Linf", eps=self.eps, device=x.device, seed=self.seed, version="standard"
        )
        # The standard ensemble targets nine classes, more than a dataset of fewer than ten classes has.
        targets = min(_STANDARD_TARGETS, classes - 1)
        library.apgd_targeted.n_target_classes = library.fab.n_target_classes = targets
        if classes < _DLR_CLASSES:
            library.attacks_to_run.remove("apgd-t")
        return library
