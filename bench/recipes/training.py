"""What a recipe's `training` holds: the fields, their checks, and how `--set training.FIELD=VALUE` changes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import BenchError, unknown_name
from bench.recipes.frozen import Frozen
from bench.recipes.schedule import Schedule
from bench.system.text import first_mistake

PREFIX = "training."
"""With what the name of such a field begins in `--set`."""

Argument = bool | int | float | str | list[float | None] | None
"""Of an optimizer of PyTorch's."""


class Optimizer(Frozen):
    """What steps the student: one of torch.optim, by its class's name in lower case.

    Besides the fields here it takes every argument of that class (`betas`, `eps`, ...), and what is not given is as the
    class has it; stochastic gradient descent alone has momentum 0.9 and weight decay 2e-4 by default.

    Attributes:
        kind: `sgd`, `adamw`, ...
        lr: the highest learning rate, which the schedule moves.
        decay_norms: whether weights without a second dimension, those of normalisation layers and all biases, have
            weight decay too.
        clip: largest norm of the gradient, all of the student's weights together; a longer one is scaled down to it.

    It steps the networks that a defense has learn beside the student likewise, each as if by an optimizer of its own.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    if not TYPE_CHECKING:  # a type checker would ask for it as an argument
        __pydantic_extra__: dict[str, Argument]
    later: ClassVar[frozenset[str]] = frozenset(
        {"kind", "decay_norms", "clip", *("momentum", "weight_decay", "nesterov")}
    )

    kind: str = "sgd"
    lr: float = Field(gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    nesterov: bool | None = None
    decay_norms: bool = True
    clip: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        kind = content.get("kind", "sgd")
        kind = kind.lower() if isinstance(kind, str) else kind
        usual = {"momentum": 0.9, "weight_decay": 2e-4, "nesterov": False} if kind == "sgd" else {}
        return {**usual, **content, "kind": kind}

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class of torch.optim is called with, as far as it is known."""
        own = self.model_dump(exclude={"kind", "decay_norms", "clip"})
        return {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}


SQUARED = "robust_squared_error"
"""A look's robust accuracy under the second attack, see `Selection.also`."""
WORST_CLASS = "robust_worst_class"
"""A look's robust accuracy of the class where it is lowest."""


class Selection(Frozen):
    """Which epoch's weights are kept: the best under PGD on a split, or the last.

    Selecting on the test set leaks it; that is what the papers did, and it is named in every record and table. The more
    looks, the more the best of them flatters: records count them.
    """

    later: ClassVar[frozenset[str]] = frozenset({"by", "first", "also"})

    split: Literal["heldout", "test"]
    keep: Literal["best", "last"] = "best"
    by: Literal["weighted", "robust", "robust-and-worst-class"] = Field(
        default="weighted",
        description="what is best: the mean of clean and robust accuracy, the robust one alone, or the sum of that and "
        "of the robust accuracy of the class with the lowest",
    )
    hold_out: int = Field(default=0, ge=0, description="training images set aside; at most a fifth of them")
    first: bool = Field(default=False, description="whether the first epoch is looked at too")
    every: int = Field(default=1, ge=1, description="epochs between two looks; the last epoch is always looked at")
    dense_from: int | None = Field(
        default=None, description="epoch (of the horizon) from which every epoch is looked at"
    )
    limit: int | None = Field(default=None, ge=1, description="samples looked at, from the first of the split")
    steps: int = Field(default=20, ge=1, description="PGD steps")
    step_size: float = Field(default=0.003, gt=0, description="for eps = 8/255; scales with the dataset's eps")
    also: Literal["squared-error"] | None = Field(
        default=None,
        description="a second PGD of a look, on sum_c (p_c - [c = y])^2; the lower of both robust accuracies counts",
    )

    @property
    def name(self) -> Literal["heldout", "test", "last"]:
        """On what the kept weights were selected, as records say it."""
        return "last" if self.keep == "last" else self.split

    def looks(self, epochs: int, horizon: int = 0) -> list[int]:
        """The epochs (from 1) of a run at whose end it is looked at.

        Args:
            horizon: epochs that `dense_from` is stated for; 0: the run's own length.
        """
        dense = math.inf if self.dense_from is None else self.dense_from * epochs / (horizon or epochs)
        return [
            epoch
            for epoch in range(1, epochs + 1)
            if epoch % self.every == 0 or epoch >= dense or epoch == epochs or (self.first and epoch == 1)
        ]

    def score(self, accuracy: Mapping[str, float]) -> float:
        """How good a look is, from what `Monitor.look` says of the student, all in [0, 1]."""
        robust = min(accuracy["robust"], accuracy.get(SQUARED, 1.0))
        match self.by:
            case "weighted":
                return (accuracy["clean"] + robust) / 2
            case "robust":
                return robust
        return robust + accuracy[WORST_CLASS]


class Augmentation(Frozen):
    """What is done to training images.

    `crop-flip`: the dataset's random crop, and half of the images mirrored; `cutout`: then a black square in each;
    `trivial-augment`: then one operation of TrivialAugmentWide on each; `none`.
    """

    kind: Literal["crop-flip", "none", "cutout", "trivial-augment"] = "crop-flip"
    flip: bool | None = Field(default=None, description="whether half are mirrored; None: as the dataset says")
    size: int | None = Field(default=None, ge=1, description="side of cutout's square; None: half the image's")

    @model_validator(mode="after")
    def _has_what_belongs_to_it(self) -> Augmentation:
        if self.size is not None and self.kind != "cutout":
            raise ValueError(f"training.augmentation.size: {self.kind} has none, only cutout")
        if self.flip is not None and self.kind == "none":
            raise ValueError("training.augmentation.flip: none does not mirror")
        return self


class Extra(Frozen):
    """Additional training images, of which every batch has a share; an epoch has as many steps as without."""

    source: str = Field(description="npz:FILE")
    share: float = Field(gt=0, le=1, description="of every batch")


class Average(Frozen):
    """An average of the student's weights over its training, which is selected, kept and evaluated in its place.

    Attributes:
        kind: `ema`: after every step w_avg <- decay * w_avg + (1 - decay) * w, statistics of normalisation too; `swa`:
            the mean of the weights at the ends of the epochs from `from_epoch` on, with statistics estimated anew.
        decay: of `ema`; 0.995 by default.
        from_epoch: of `swa`, stated for the schedule's horizon.
    """

    kind: Literal["ema", "swa"]
    decay: float | None = Field(default=None, gt=0, lt=1)
    from_epoch: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _with_default(cls, content: Any) -> Any:
        is_ema = isinstance(content, Mapping) and content.get("kind") == "ema"
        return {"decay": 0.995, **content} if is_ema else content

    @model_validator(mode="after")
    def _fits(self) -> Average:
        if self.kind == "ema" and (self.decay is None or self.from_epoch is not None):
            raise ValueError("an average of kind ema has a decay, and no from_epoch")
        if self.kind == "swa" and (self.from_epoch is None or self.decay is not None):
            raise ValueError("an average of kind swa has a from_epoch, and no decay")
        return self

    def __str__(self) -> str:
        return f"ema, decay {self.decay:g}" if self.kind == "ema" else f"swa, from epoch {self.from_epoch}"


class WeightPerturbation(Frozen):
    """Adversarial weight perturbation (Wu et al. 2020): each step is taken where the loss is worst near the weights.

    Attributes:
        gamma: how far, of each tensor's norm.
        from_epoch: before it steps are as without, stated for the schedule's horizon.
    """

    gamma: float = Field(default=0.01, gt=0)
    from_epoch: int = Field(default=1, ge=1)


class Training(Frozen):
    """How long, how fast, on what batches, and what is combined with the defense."""

    later: ClassVar[frozenset[str]] = frozenset({"average", "awp"})

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Optimizer
    schedule: Schedule
    selection: Selection
    augmentation: Augmentation = Field(default=Augmentation())
    extra: Extra | None = None
    average: Average | None = None
    awp: WeightPerturbation | None = None

    @model_validator(mode="after")
    def _fits(self) -> Training:
        length = self.schedule.horizon or self.epochs
        if self.average is not None and (self.average.from_epoch or 1) >= length:
            when = f" from epoch {self.average.from_epoch} on" if self.average.from_epoch else ""
            raise ValueError(f"training.average: of a schedule of {length} epochs{when} there is nothing to average")
        if self.awp is not None and self.awp.from_epoch > length:
            raise ValueError(f"training.awp.from_epoch: {self.awp.from_epoch}, and the schedule has {length} epochs")
        if self.schedule.warmup > length:
            raise ValueError(
                f"training.schedule.warmup: {self.schedule.warmup:g} epochs, and the schedule has {length}"
            )
        return self

    @property
    def scaling_schedule(self) -> Schedule:
        """The schedule with the length that it is stated for: where it names none, these epochs."""
        return self.schedule.model_copy(update={"horizon": self.schedule.horizon or self.epochs})


def training_fields() -> dict[str, str]:
    """All fields that `--set` takes, by name (`training.optimizer.lr`), with their type as a user would write it."""
    return dict(_fields(Training, PREFIX))


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, hint in get_type_hints(model).items():
        if name not in model.model_fields:
            continue
        inner = [each for each in (hint, *get_args(hint)) if isinstance(each, type) and issubclass(each, BaseModel)]
        if inner:
            yield from _fields(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name, _type_text(hint)


def _type_text(hint: Any) -> str:
    """A type as a user would write it."""
    choices = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in choices)
    if get_origin(hint) is tuple:
        return f"list of {_type_text(choices[0])}, such as [1, 2]"
    return " or ".join(map(_type_text, choices)) if choices else getattr(hint, "__name__", str(hint))


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged, the second winning; a schedule or other mapping with a new `kind` replaces the old."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and "kind" not in value:
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def changed(training: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's training with the fields that `--set` names, by their dotted names."""
    change: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, last = name.removeprefix(PREFIX).split(".")
        inner = change
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return merged(training, change)


def value_at(training: Training, name: str) -> Any:
    """What a training has under a dotted name."""
    found: Any = training
    for part in name.removeprefix(PREFIX).split("."):
        found = getattr(found, part, None)
    return list(found) if isinstance(found, tuple) else found


def mistake(error: ValidationError, place: str = PREFIX) -> str:
    """The first thing that is wrong with a training; of a field that there is not, the closest one and all there are.

    Args:
        place: what the names in the message begin with.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    *parents, name = (str(part) for part in first["loc"] or ("",))
    if first["type"] != "extra_forbidden":
        return first_mistake(error).replace("Value error, ", "") if not name else f"{place}{first_mistake(error)}"
    parent = "".join(f"{each}." for each in parents)
    starts = PREFIX + parent
    known = {field[len(starts) :].partition(".")[0] for field in training_fields() if field.startswith(starts)}
    message = str(unknown_name(f"field of {(place + parent).rstrip('.')}", name, known))
    return message.replace("\n", " ").rstrip(".")


def unknown_field(name: str) -> BenchError | None:
    """The error for a name that `--set` cannot take; None where it may.

    What an optimizer has besides the fields here only its class tells.
    """
    fields = training_fields()
    if name in fields or (name.startswith(f"{PREFIX}optimizer.") and name.count(".") == 2):
        return None
    inner = sorted(field for field in fields if field.startswith(f"{name}."))
    if inner:
        return BenchError(f"--set {name}=...: {name} is made of fields.\nSet one of them: {', '.join(inner)}.")
    return unknown_name("field of a recipe's training", name, fields)
