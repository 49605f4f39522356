"""Natural training: no defense at all; it makes the clean teachers, and the floor of every table."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch, Defense, Loss, Models
from bench.threat import NORMS


@dataclass(kw_only=True)
class Natural(Defense):
    """CE(s(x), y)."""

    label = "Natural"
    source = "standard training"
    norms = NORMS

    def outer(self, batch: Batch, models: Models, x: Tensor) -> Loss:
        ce = F.cross_entropy(models.student(x), batch.y)
        return Loss(ce, {"ce_clean": ce})
