"""The contract of a defense: what the trainer relies on, and all that a defense may rely on.

A defense is a dataclass whose fields are its hyper-parameters. Its `loss` reads like the paper's equations: it makes
the adversarial batch (`inner`), runs the models in the order the definition asks for, and returns the scalar to
minimise (`outer`). It knows nothing of files, devices, loops or logging.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, get_args

import torch
from torch import Tensor, nn

from bench.compute.ranks import ranks
from bench.vocabulary import Norm, Role

ROLES: tuple[Role, ...] = get_args(Role)
"""The teachers there are: one trained naturally, one trained adversarially."""


STUDENT = "student"
"""As a companion's architecture: the student's own."""

Variants = Mapping[str, Mapping[str, Any]]
"""Hyper-parameters that differ from the defaults, by variant (`paper`, `official`, ...)."""


@dataclass(frozen=True)
class Batch:
    """One training batch and where in the schedule it stands.

    Attributes:
        x: clean images in [0, 1], shape (B, C, H, W), augmented.
        y: labels, shape (B,), int64.
        epoch: from 1.
        step: from 0, within the epoch.
        generator: source of the attack's start noise, on x's device.
        noise: the attack's start noise before scaling, shaped as x, if the caller wants to set it.
        whole: samples of the whole batch where this is one process's part of it; None: this is all of it.
        first: position of the part's first sample in the whole.
        steps: in an epoch.
    """

    x: Tensor
    y: Tensor
    epoch: int = 1
    step: int = 0
    generator: torch.Generator | None = None
    noise: Tensor | None = None
    whole: int | None = None
    first: int = 0
    steps: int = 1

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the whole batch, a scalar without gradient, of what the samples here have, or of their mean."""
        return ranks().across(values.mean())

    def total(self, own: Tensor) -> Tensor:
        """The sum over the whole batch from that of the samples here, whose gradient alone it has; any shape."""
        return ranks().with_others(own) if own.requires_grad else ranks().total(own)

    def extremes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest of all samples' values in the whole batch, scalars without gradient."""
        return ranks().extremes(values)

    def minimise(self, loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """A step of a network's optimizer on the whole batch's loss; loss: the mean over the samples here."""
        optimizer.zero_grad()
        ranks().backward(loss, network.parameters())
        optimizer.step()
        # A fused step does not count as a change of the weights, by which graphs tell that a step is over.
        for parameter in network.parameters():
            torch.autograd.graph.increment_version(parameter)

    def gradients(self, loss: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the whole batch's loss to some weights, 0 where it does not depend on them; `grad` stays as is.

        Args:
            loss: the mean over the samples here.
        """
        return ranks().gradients(loss, weights)

    def agree_on_statistics(self, network: nn.Module) -> None:
        """After passes in train mode: make batch-norm's running statistics those of the whole batch."""
        ranks().agree_on_statistics(network)


@dataclass(frozen=True)
class Models:
    """The networks of a run; each maps images in [0, 1], (B, C, H, W), to logits, (B, classes).

    Attributes:
        student: the network that is trained; in train mode when `loss` is called.
        teachers: by role; frozen and in eval mode unless the defense changes that itself.
        companions: the defense's own, by name (`Defense.companions`); those that learn in train mode as the student is.
    """

    student: nn.Module
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)
    companions: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the student is, and with it all else."""
        return next(self.student.parameters()).device

    @property
    def clean(self) -> nn.Module:
        """The clean teacher, t."""
        return self.teachers["clean"]

    @property
    def robust(self) -> nn.Module:
        """The robust teacher, r."""
        return self.teachers["robust"]


class Companion(NamedTuple):
    """A network that a defense has beside the student; the harness builds, steps, saves and keeps it.

    Attributes:
        model: its architecture by name, or `STUDENT`.
        learns: whether it begins with random weights and the run's optimizer steps it with the student, on the one loss
            of both; else it begins as a copy of the student, frozen and in eval mode, and the defense moves it.
    """

    model: str = STUDENT
    learns: bool = True

    def spec(self, student: str) -> str:
        """Its architecture beside a student of this one."""
        return student if self.model == STUDENT else self.model


class Loss(NamedTuple):
    """What a training step minimises, and its parts for the log (scalars, detached by the trainer)."""

    total: Tensor
    terms: dict[str, Tensor]


class Carried:
    """Something with state that has to survive a resume: the attributes that `carried` names.

    A tensor, a plain value or None is kept as it is, anything else by its own `state_dict`.
    """

    carried: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume: tensors and plain values, nested."""
        values = {name: getattr(self, name) for name in self.carried}
        return {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in values.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in self.carried:
            own = getattr(self, name)
            if hasattr(own, "load_state_dict"):
                own.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])


@dataclass(kw_only=True)
class Defense(Carried):
    """Base of all defenses; a subclass adds its hyper-parameters as fields and defines `inner` and `outer`, or `loss`.

    Class attributes:
        label: the defense's name as papers write it.
        source: the paper that defines it.
        roles: the teachers it needs, of `ROLES`.
        carried: attributes that must survive a resume besides the student and its optimizer; see `Carried`.
        variants: hyper-parameters that differ from the defaults, by variant (`paper`, `official`, ...).
        later: fields that earlier versions did not have. While they have their default they are in no file, so that
            what was trained before keeps its id.
        lengths: fields that are lengths in pixel space, stated for eps = 8/255; they scale with a dataset's own eps.
        norms: those it can be trained in. One that knows more than L-infinity has a field `norm`, unless it attacks
            nothing.
        under: its lengths in a norm, stated for the `eps` there; they scale as `lengths` do.
        horizon: length, in epochs, of the schedule that epoch-valued hyper-parameters are stated for; in a shorter
            run they shrink in proportion (`epoch_of`).
        training: options of a recipe's training that belong to it (`awp`, `average`), their epochs stated for
            `horizon`; a recipe's rules may change them.
    """

    label: ClassVar[str]
    source: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]] = ()
    variants: ClassVar[Variants] = {"paper": {}, "official": {}}
    later: ClassVar[frozenset[str]] = frozenset()
    lengths: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    under: ClassVar[Mapping[Norm, Mapping[str, float]]] = {}
    horizon: ClassVar[int] = 300
    training: ClassVar[Mapping[str, Any]] = {}

    _epochs = 0  # the run's length; no hyper-parameter, hence no annotation

    def companions(self) -> dict[str, Companion]:
        """Networks of its own, by the name that their files get; none unless a defense says so."""
        return {}

    def begin(self, models: Models, epochs: int) -> None:
        """Called once before the first step (and before `load_state_dict` on a resume); epochs: the run's length."""
        self._epochs = epochs

    def epoch_of(self, epoch: float) -> int:
        """An epoch of the definition's schedule (`horizon` epochs long) in this run's schedule."""
        return round(epoch * self._epochs / self.horizon) if self._epochs else round(epoch)

    def passed(self, batch: Batch) -> float:
        """The share of the run's steps that are done before a batch's, 0 to 1."""
        return (batch.epoch - 1 + batch.step / batch.steps) / max(self._epochs, 1)

    def phases(self) -> dict[str, int]:
        """Parts of the run in which a step costs differently, by name: the epoch (from 1) that each begins with."""
        return {"": 1}

    def phase_shares(self, epochs: int) -> dict[str, tuple[int, float]]:
        """Of each phase its first epoch and its share of a run of `epochs`; one that is not reached is left out."""
        self._epochs = epochs
        begins = {name: first for name, first in self.phases().items() if first <= epochs}
        ends = [*list(begins.values())[1:], epochs + 1]
        return {name: (first, (end - first) / epochs) for (name, first), end in zip(begins.items(), ends, strict=True)}

    def loss(self, batch: Batch, models: Models) -> Loss:
        """Make the adversarial batch, run the models, and return the scalar to minimise with its terms."""
        return self.outer(batch, models, self.inner(batch, models))

    def inner(self, batch: Batch, models: Models) -> Any:
        """The inner maximisation: the adversarial images, with what teachers say of them; no graph of the student."""
        return batch.x

    def outer(self, batch: Batch, models: Models, inner: Any) -> Loss:
        """The outer minimisation: the loss of the student as it is now on what `inner` made.

        It may be asked for twice in a step; what it moves besides the student's statistics is named by `carried`.
        """
        raise NotImplementedError

    @classmethod
    def is_split(cls) -> bool:
        """Whether `loss` is `outer` of `inner`, so that the student's weights can be moved between the two."""
        owner = next(each.__dict__ for each in cls.__mro__ if {"loss", "outer"} & each.__dict__.keys())
        return "outer" in owner and cls.outer is not Defense.outer

    def after_step(self, batch: Batch, models: Models) -> None:
        """Called after the student's optimizer has stepped: a teacher that learns, a temperature that moves."""

    def after_epoch(self, epoch: int) -> None:
        """Called at the end of each epoch (from 1)."""


def named(
    method: type[Defense],
    label: str,
    *,
    source: str,
    differs: str,
    training: Mapping[str, Any],
    horizon: int,
    variants: Variants | None = None,
) -> type[Defense]:
    """A defense under a name of its own: it differs from another in values alone, and computes nothing itself.

    Args:
        method: the other one.
        differs: in what it differs, to be read after the other one's label: `with ...`.
        training: as `Defense.training`. horizon: as `Defense.horizon`.
        variants: as `Defense.variants`; None: the other one's.
    """
    own = {
        "label": label,
        "source": source,
        "training": training,
        "horizon": horizon,
        "variants": method.variants if variants is None else variants,
        "__doc__": f"{method.label} {differs}.\n\n{inspect.cleandoc(method.__doc__ or '')}",
        "__module__": method.__module__,
    }
    return type(method.__name__, (method,), own)


@torch.no_grad()
def move_towards(network: nn.Module, goal: nn.Module, share: float, buffers: bool = True) -> None:
    """The network's weights move by a share of the way to another one's.

    Args:
        buffers: whether its statistics do too; else, and where they are counts, they become the other's.
    """
    for weight, other in zip(network.parameters(), goal.parameters(), strict=True):
        weight.lerp_(other, share)
    for mine, theirs in zip(network.buffers(), goal.buffers(), strict=True):
        if buffers and mine.is_floating_point():
            mine.lerp_(theirs, share)
        else:
            mine.copy_(theirs)


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """The model in train or eval mode inside the block; after it every module is back in its own."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, own in before:
            module.training = own


def attacked(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model for passes that need gradients of the images alone, in the mode it is in; valid until its weights move.

    The trainer's networks offer a cheaper way to compute the same (`bench.compute.speedups`); any other is itself.
    """
    view: Callable[[], Callable[[Tensor], Tensor]] | None = getattr(model, "for_attack", None)
    return model if view is None else view()
