"""The one loop of all gradient attacks: an objective, a start, a step.

for k in 1..K: g = grad_x f(x'); x' = x' + step_size * direction(g); project to the eps-ball of x and to [0, 1].

FGSM, BIM, the PGDs, T-PGD, CW-inf and DPGD differ in the objective f, the start and the step alone. Directions (the
sign, in L-infinity), projections and starts are the norm's: `attacks.norms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.norms import GEOMETRY
from attacks.restarts import restarted
from bench.attack import Attack, Model, Outcome, Start, input_gradient
from bench.vocabulary import Norm

Objective = Callable[[Tensor, Tensor, int], Tensor]
"""(logits of x', x', iteration from 0) -> the scalar to maximise."""

GAUSSIAN_START = 0.001
"""Standard deviation of the gaussian start, as in TRADES and all code that descends from it."""


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """Iterated gradient ascent in a ball.

    In another norm than L-infinity, whose step and radius are the defaults, an attack has the norm's usual radius, and
    a step of which all steps together go a few radii.

    Attributes:
        step_size: length of a step, for images in [0, 1].
        steps: iterations, K.
        start: where the first iterate lies.
        restarts: starts from which it is run, each on the samples that no start before has fooled; a start without
            noise is the same each time, and made once.
        same_every_step: whether the objective does not look at the number of the step.
    """

    step_size: float = 2 / 255
    steps: int = 10
    start: Start = "uniform"
    restarts: int = 1

    same_every_step: ClassVar[bool] = False
    lengths: ClassVar[tuple[str, ...]] = ("eps", "step_size")
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def in_norm(self, norm: Norm) -> Attack:
        geometry = GEOMETRY[norm]
        lengths: dict[str, Any] = {"eps": geometry.eps, "step_size": geometry.reach * geometry.eps / self.steps}
        given = {field.name for field in fields(self) if field.init}
        own = {name: value for name, value in lengths.items() if name in given} | dict(self.under.get(norm, {}))
        return replace(self, norm=norm, **own)

    def parameters(self) -> dict[str, Any]:
        """As every attack's; `restarts` where there are several."""
        return {name: value for name, value in super().parameters().items() if (name, value) != ("restarts", 1)}

    def objective(self, logits: Tensor, y: Tensor, step: int) -> Tensor:
        """The scalar to maximise: cross-entropy, summed so that no sample's gradient depends on the batch size."""
        return F.cross_entropy(logits, y, reduction="sum")

    def objective_for(self, model: Model, x: Tensor, y: Tensor) -> Objective:
        """The objective of one batch; an attack that has to look at the model first replaces this."""
        return lambda logits, x_adv, step: self.objective(logits, y, step)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """An image within eps of x and within [0, 1]: the nearest one, but that L2's is scaled first, then clamped."""
        return GEOMETRY[self.norm].project(x_adv, x, self.eps, True)

    def start_noise(
        self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None
    ) -> Tensor | None:
        """Uniform in the norm's unit ball, or N(0, 1) for a gaussian start, on `like`'s device and of its dtype.

        With several restarts that of each, (B, restarts, C, H, W).
        """
        if self.start == "none":
            return None
        drawn = [self._start_noise(shape, like, generator) for _ in range(self.restarts)]
        return drawn[0] if self.restarts == 1 else torch.stack(drawn, 1)

    def _start_noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.start.startswith("uniform"):
            return GEOMETRY[self.norm].ball(shape, like, generator)
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def first(self, x: Tensor, noise: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The first iterate: x, moved by the start noise; a gaussian start may lie outside [0, 1] by a hair."""
        if noise is None:
            noise = self.start_noise(x.shape, x, generator)
        if noise is None or self.start == "none":
            return x.detach().clone()
        length = self.eps if self.start.startswith("uniform") else GAUSSIAN_START
        start = (x + length * noise).detach()
        return self.project(start, x) if self.start in ("uniform", "gaussian-clamped") else start

    def run(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        track: bool = False,
        objective: Objective | None = None,
    ) -> Outcome:
        """Attack a batch; arguments as in `Attack.run`.

        Args:
            objective: replaces the attack's own objective, for a defense whose inner maximisation has one of its own
                (a KL divergence from a teacher, say). Shapes: logits (B, classes), x' (B, C, H, W).
        """
        if self.restarts > 1 and self.start != "none":
            if objective is not None:
                raise ValueError("restarts leave samples out, and an objective of the caller's is of the whole batch")
            starts = self.start_noise(x.shape, x, generator) if noise is None else noise
            assert starts is not None
            return restarted(self, model, x, y, starts, track)
        objective = objective or self.objective_for(model, x, y)
        right, witnesses = torch.ones_like(y, dtype=torch.bool), x
        unsaved = []
        x_adv = self.first(x, noise, generator)
        for step in range(self.steps):
            following, logits = self.advance(model, x_adv, x, step, objective)
            if track and self.may_leave_range(step):
                unsaved.append(x_adv)
            elif track:
                fooled = right & (logits.argmax(1) != y)
                right, witnesses = right & ~fooled, _where(fooled, x_adv, witnesses)
            x_adv = following
        x_adv = self.finish(x_adv)
        if not track:
            return Outcome(x_adv)
        # From the last iterate, which fools most, so that few are left to look at on the others.
        for iterate in reversed(unsaved):
            right, witnesses = self.judged_as_saved(model, iterate, x, y, right, witnesses)
        return Outcome(x_adv, right, witnesses=witnesses)

    def advance(self, model: Model, x_adv: Tensor, x: Tensor, step: int, objective: Objective) -> tuple[Tensor, Tensor]:
        """The next iterate, and the logits of this one; both without graph."""
        x_adv = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x_adv)
            value = objective(logits, x_adv, step)
        gradient = input_gradient(value, x_adv)
        direction = GEOMETRY[self.norm].step(gradient, x_adv.detach())
        return self.project(x_adv.detach() + self.step_size * direction, x), logits.detach()

    def may_leave_range(self, step: int) -> bool:
        """Whether the iterate of this step may lie outside [0, 1], where nobody could save it."""
        return step == 0 and self.start in ("gaussian", "uniform-unclamped")

    def saved(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """An iterate that may lie outside [0, 1] as the image it would be saved as."""
        return GradientAttack.project(self, x_adv, x)

    def judged_as_saved(
        self, model: Model, x_adv: Tensor, x: Tensor, y: Tensor, right: Tensor, witnesses: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Which of the samples that are right so far are right on this iterate too, as saved; and the witnesses."""
        (left,) = right.nonzero(as_tuple=True)
        if not len(left):
            return right, witnesses
        images = self.saved(x_adv[left], x[left])
        with torch.no_grad():
            fooled = model(images).argmax(1) != y[left]
        right, witnesses = right.clone(), witnesses.clone()
        right[left], witnesses[left] = ~fooled, _where(fooled, images, witnesses[left])
        return right, witnesses

    def survivors(
        self, model: Model, x: Tensor, y: Tensor, *, noise: Tensor | None = None, batch_size: int = 250
    ) -> Outcome | None:
        if self.couples_batch:
            return None
        right, shown = torch.ones_like(y, dtype=torch.bool), x.clone()
        if self.restarts == 1 or self.start == "none":
            self._survive(model, x, y, noise, batch_size, right, shown)
            return Outcome(shown, right)
        starts = self.start_noise(x.shape, x) if noise is None else noise
        assert starts is not None
        for restart in range(self.restarts):
            self._survive(model, x, y, starts[:, restart], batch_size, right, shown)
        return Outcome(shown, right)

    def _survive(
        self, model: Model, x: Tensor, y: Tensor, noise: Tensor | None, size: int, right: Tensor, shown: Tensor
    ) -> None:
        """Attack those that are right from one start; which ones are then, and what each was judged by, in place."""
        x_adv = self.first(x, noise, None)
        # All samples make a step before any makes the next: those still standing then fill whole batches.
        for step in range(self.steps):
            for part in right.nonzero(as_tuple=True)[0].split(size):
                objective, before = self.objective_for(model, x[part], y[part]), x_adv[part]
                x_adv[part], logits = self.advance(model, before, x[part], step, objective)
                right[part], shown[part] = logits.argmax(1) == y[part], before
                if self.may_leave_range(step):
                    right[part], shown[part] = self.judged_as_saved(
                        model, before, x[part], y[part], torch.ones_like(right[part]), x[part]
                    )
        for part in right.nonzero(as_tuple=True)[0].split(size):
            shown[part] = self.finish(x_adv[part])
            with torch.no_grad():
                right[part] = model(shown[part]).argmax(1) == y[part]

    def finish(self, x_adv: Tensor) -> Tensor:
        """What becomes of the last iterate; here nothing."""
        return x_adv


def _where(chosen: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Of the chosen samples, bool, (B,), the first images, of the rest the others; both (B, C, H, W)."""
    return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), images, others)
