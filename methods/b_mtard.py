"""B-MTARD, balanced multi-teacher adversarial distillation (Zhao et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bench.defense import Batch, Loss, Models
from methods.balance import TemperatureBalance
from methods.losses import mean_entropy, softened
from methods.mtard import MTARD


@dataclass(kw_only=True)
class BMTARD(MTARD):
    """MTARD with the targets p(r(x*); T_adv) and p(t(x); T_nat), temperatures balanced by `TemperatureBalance`.

    Attributes:
        temperature_rate: how far a temperature moves in a step.
    """

    temperature_rate: float = 0.001

    label = "B-MTARD"
    source = "Zhao et al. 2024, TPAMI"
    carried = (*MTARD.carried, "temperatures")

    def begin(self, models: Models, epochs: int) -> None:
        super().begin(models, epochs)
        self.temperatures = TemperatureBalance(models.device)

    def targets(self, adv_logits: Tensor, clean_logits: Tensor) -> tuple[Tensor, Tensor]:
        target_adv = softened(adv_logits, self.temperatures.adv)
        target_nat = softened(clean_logits, self.temperatures.nat)
        self._entropies = mean_entropy(target_adv, self.log_offset), mean_entropy(target_nat, self.log_offset)
        return target_adv, target_nat

    def outer(self, batch: Batch, models: Models, inner: tuple[Tensor, Tensor, Tensor]) -> Loss:
        loss = super().outer(batch, models, inner)
        entropy_adv, entropy_nat = self._entropies
        loss.terms.update(t_adv=self.temperatures.adv, t_nat=self.temperatures.nat)
        rate = self.rate(self.temperature_rate, batch.epoch)
        self.temperatures.update(batch.mean(entropy_adv), batch.mean(entropy_nat), rate)
        return loss
