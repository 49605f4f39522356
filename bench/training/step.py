"""One training step of a defense: what the trainer repeats, and what anyone can drive with models of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.parts import part
from bench.defense import Batch, Defense, Loss, Models
from bench.errors import BenchError
from bench.models import check_finite
from bench.recipes import hyperparameters, recipe
from bench.recipes.schedule import Schedule
from bench.recipes.training import Average, Optimizer, WeightPerturbation
from bench.threat import Threat
from bench.training import optimizer as optimizers
from bench.training.averaging import Averaged
from bench.training.awp import Perturbation
from bench.vocabulary import LINF_EPS

_ROUNDING = 1e-6
"""By how much an augmentation's arithmetic may leave [0, 1]."""


class TrainingStep:
    """A defense, its models and the student's optimizer; each call is one step of training.

    The student may have any dtype, float64 included; images, start noise and teachers have to have the same. Nothing
    here knows of files, devices or data sets.

    Attributes:
        defense: with its state (`state_dict`).
        models: the student; the teachers, which are put into eval mode and frozen first; the defense's companions.
        optimizer: of torch.optim, on the student and the companions that learn.
        average: of the student so far; None where there is to be none.
        learning: the networks that the optimizer steps, the student first.
    """

    def __init__(
        self,
        defense: Defense,
        models: Models,
        optimizer: Optimizer,
        schedule: Schedule,
        epochs: int,
        fused: bool = False,
        awp: WeightPerturbation | None = None,
        average: Average | None = None,
    ) -> None:
        """Begin a run of `epochs` epochs; its learning rate follows the schedule.

        Args:
            fused: whether the optimizer's step is one kernel; the same up to rounding.
            awp: how weights are perturbed in each step; None: not at all.
            average: of the student, to be kept; None: of nothing.
        """
        models = _with_companions(defense, models)
        self.defense, self.models, self.schedule, self.epochs = defense, models, schedule, epochs
        self.base_lr = optimizer.lr
        self._seen_range = False
        for role, teacher in models.teachers.items():
            check_finite(teacher, f"the {role} teacher")
            teacher.eval().requires_grad_(False)
        learning = [models.companions[name] for name, each in defense.companions().items() if each.learns]
        self.optimizer = optimizers.made(models.student, optimizer, fused, learning)
        self.learning = nn.ModuleList([models.student, *learning])
        defense.begin(models, epochs)
        self.average: Averaged | None = None
        if average is not None:
            first = schedule.first_averaged(average.from_epoch or 1, epochs)
            self.average = Averaged(models.student, average, first)
        self.perturbation = None if awp is None else Perturbation(awp, defense, models, epochs, schedule.horizon)

    @classmethod
    def from_recipe(
        cls,
        method: str,
        student: nn.Module,
        teachers: Mapping[str, nn.Module] | None = None,
        *,
        companions: Mapping[str, nn.Module] | None = None,
        recipe_name: str = "official",
        variant: str | None = None,
        dataset: str = "cifar10",
        model: str = "resnet18",
        eps: Threat | float = LINF_EPS,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        fused: bool = False,
    ) -> TrainingStep:
        """A step exactly as `bench run` would take it with this recipe.

        Args:
            method: registered name of the defense.
            student: maps images in [0, 1], (B, C, H, W), to logits (B, classes); trained in place.
            teachers: by role, as `bench list methods` names them; `robust` and `clean` for CIARD.
            companions: by name, with first weights of your own, those of the method that learn beside the student
                (`peer` for PeerAiD); trained in place.
            recipe_name: `official`, `paper`, ...: the optimizer, the schedule, the variant.
            variant: of the method, instead of the recipe's.
            dataset: name by which the recipe's rules choose. model: likewise, the student's architecture.
            eps: what is trained against, a number being a bound in L-infinity; the method's lengths scale with it.
            epochs: length of the run, instead of the recipe's.
            settings: hyper-parameters that come last, as `--set` does; fields of the recipe's training by dotted names.
            fused: as for `TrainingStep`.

        Raises:
            BenchError: an unknown name, a hyper-parameter of the wrong type, a teacher or a companion that is missing.
        """
        given = dict(teachers or {})
        needed = hyperparameters.method_class(method).roles
        if set(given) != set(needed):
            raise BenchError(
                f"{method} needs the teachers {', '.join(needed) or 'none'}, not {', '.join(given) or 'none'}.\n"
                "Give each by its role: teachers={'robust': network}."
            )
        fields = {name: value for name, value in (settings or {}).items() if "." in name}
        others = {name: value for name, value in (settings or {}).items() if name not in fields}
        chosen, training, own = recipe.load(recipe_name).resolve(method, dataset, model, settings=fields)
        resolved = hyperparameters.resolve(method, variant or chosen, own, others, eps)
        defense = hyperparameters.make(method, resolved)
        return cls(
            defense,
            Models(student, given, dict(companions or {})),
            optimizers.completed(training.optimizer),
            training.scaling_schedule,
            epochs or training.epochs,
            fused,
            training.awp,
            training.average,
        )

    def __call__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        epoch: int = 1,
        step: int = 0,
        steps: int = 1,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        whole: int | None = None,
        first: int = 0,
    ) -> Loss:
        """Make one step: attack, loss, gradient, optimizer, and whatever the defense does after it.

        Args:
            x: images in [0, 1], shape (B, C, H, W), augmented by the caller.
            y: labels, shape (B,), int64.
            epoch: from 1. step: from 0, within the epoch. steps: in an epoch (one-cycle schedules and ADR look at it).
            noise: the attack's start noise before scaling, shaped as x: U(-1, 1) for a uniform start, N(0, 1) for a
                gaussian one; drawn from `generator` (torch's global one where absent) if not given.
            whole, first: where these are one process's part of a batch: see `Batch`.

        Returns:
            The loss that was minimised, with its terms, before the step.

        Raises:
            BenchError: images or labels of the wrong kind; in the first step also images that are not in [0, 1].
        """
        self._check(x, y)
        batch = Batch(x, y, epoch, step, generator, noise, whole, first, steps)
        place = (epoch, self.epochs, step / steps)
        optimizers.set_pace(
            self.optimizer,
            self.schedule.lr(self.base_lr, *place, last=step == steps - 1, steps=steps),
            self.schedule.momentum(*place, steps),
        )
        self.learning.train()
        loss = self._minimised(batch)
        batch.agree_on_statistics(self.learning)
        with part("teachers" if self.models.teachers else "update"):
            self.defense.after_step(batch, self.models)
        if self.average is not None:
            self.average.after_step()
        return Loss(loss.total.detach(), {name: value.detach() for name, value in loss.terms.items()})

    def _minimised(self, batch: Batch) -> Loss:
        """The loss on a batch, after the optimizer's step on it."""
        if self.perturbation is None or batch.epoch < self.perturbation.begins:
            loss = _checked(self.defense, self.defense.loss(batch, self.models))
            batch.minimise(loss.total, self.learning, self.optimizer)
            return loss
        inner = self.defense.inner(batch, self.models)
        with self.perturbation.applied(self.defense, batch, self.models, inner):
            loss = _checked(self.defense, self.defense.outer(batch, self.models, inner))
            batch.minimise(loss.total, self.learning, self.optimizer)
        return loss

    def _check(self, x: Tensor, y: Tensor) -> None:
        """Notice what are no floating-point images in [0, 1]; their range once, as a GPU has to be waited for."""
        if not x.is_floating_point() or y.dtype != torch.int64 or y.shape != x.shape[:1]:
            kinds = " and ".join(f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" for value in (x, y))
            raise BenchError(
                f"A training step was given images and labels of {kinds}.\nIt takes floating-point images in [0, 1], "
                "(B, C, H, W), and int64 labels, (B,); of uint8 images they are bench.data.to_float(images)."
            )
        if self._seen_range:
            return
        low, high = (value.item() for value in x.detach().aminmax())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
            raise BenchError(
                f"A training step was given images from {low:.4g} to {high:.4g}, not in [0, 1].\nDivide those of 0 to "
                "255 by 255, and leave any normalisation to the model: attacks move within [0, 1]."
            )
        self._seen_range = True

    def end_epoch(self, epoch: int) -> None:
        """Say that an epoch (from 1) is over: class weights and temperatures move, and an average by epochs."""
        self.defense.after_epoch(epoch)
        if self.average is not None:
            self.average.after_epoch(epoch)

    def phase_shares(self) -> dict[str, tuple[int, float]]:
        """The parts of the run in which a step costs differently: of each its first epoch and its share of the run.

        They are the defense's own, and from the first step on perturbed weights on the same with `awp` in their names.
        """
        return phase_shares(self.defense, self.epochs, None if self.perturbation is None else self.perturbation.begins)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate


def phase_shares(defense: Defense, epochs: int, awp_begins: int | None) -> dict[str, tuple[int, float]]:
    """As `TrainingStep.phase_shares`, of a run that need not exist."""
    shares = defense.phase_shares(epochs)
    if awp_begins is None:
        return shares
    begins = {first: name for name, (first, _) in shares.items()}
    firsts = sorted({*begins, awp_begins})
    found = {}
    for first, end in zip(firsts, [*firsts[1:], epochs + 1], strict=True):
        name = begins[max(each for each in begins if each <= first)]
        found[f"{name} awp".strip() if first >= awp_begins else name] = (first, (end - first) / epochs)
    return found


def _with_companions(defense: Defense, models: Models) -> Models:
    """The models with the companions that begin as the student; a `BenchError` where those that learn are not there."""
    wanted = defense.companions()
    learning = {name for name, each in wanted.items() if each.learns}
    if set(models.companions) != learning:
        raise BenchError(
            f"{defense.label} has the networks of its own {', '.join(learning) or 'none'}, not "
            f"{', '.join(models.companions) or 'none'}.\nGive each by its name: companions={{'peer': network}}."
        )
    copies = {
        name: copy.deepcopy(models.student).eval().requires_grad_(False) for name in wanted if name not in learning
    }
    for name in learning:
        check_finite(models.companions[name], f"the {name}")
    return replace(models, companions={**models.companions, **copies})


def _checked(defense: Defense, loss: Any) -> Loss:
    """What a defense returned, if it is a loss that can be minimised and logged."""
    problem = _problem(loss)
    if problem is not None:
        kind = type(defense)
        raise BenchError(
            f"The loss of the defense {kind.__name__} ({kind.__module__}) {problem}.\n"
            "Its author has to return bench.defense.Loss(total, {name: term}), all of them scalar tensors."
        )
    checked: Loss = loss
    return checked


def _problem(loss: Any) -> str | None:
    """What keeps a defense's return value from being trained on, as the end of a sentence; None where nothing does."""
    if not isinstance(loss, Loss):
        return f"is a {type(loss).__name__}, not a bench.defense.Loss"
    if not isinstance(loss.terms, Mapping):
        return f"has terms that are a {type(loss.terms).__name__}, not a dict of scalar tensors"
    for name, value in {"total": loss.total, **loss.terms}.items():
        if not isinstance(value, Tensor):
            return f"has a {name} that is a {type(value).__name__}, not a tensor"
        if value.ndim:
            return f"has a {name} of shape {list(value.shape)}, not a scalar"
    if not loss.total.requires_grad:
        return "has a total without a gradient: it does not depend on the student"
    return None
