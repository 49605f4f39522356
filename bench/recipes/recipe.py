"""Recipes: everything about training that is not the defense itself, as YAML files in `bench/recipes/`.

A recipe has a base and a list of rules. A rule names a method, dataset, student or role (a pattern; absent: any) and
what is different there; later rules win. A recipe that `extends` another has its rules and teachers after that one's.
`--set` and the other flags of `bench run` come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import BenchError, unknown_name
from bench.recipes.schedule import Schedule
from bench.system.text import first_mistake, one_line, parse_yaml
from bench.vocabulary import Protocol

_HERE = Path(__file__).parent


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimizer(_Frozen):
    """Stochastic gradient descent on the student."""

    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-4, ge=0)
    nesterov: bool = False


class Selection(_Frozen):
    """Which epoch's weights are kept: the best weighted robustness under PGD on a split, or the last.

    Selecting on the test set leaks it; that is what the papers did, and it is named in every record and table.
    """

    split: Literal["heldout", "test"]
    keep: Literal["best", "last"] = "best"
    hold_out: int = Field(default=0, ge=0, description="training images set aside; at most a fifth of them")
    every: int = Field(default=1, ge=1, description="epochs between two looks; the last epoch is always looked at")
    dense_from: int | None = Field(
        default=None, description="epoch (of the horizon) from which every epoch is looked at"
    )
    limit: int | None = Field(default=None, ge=1, description="samples looked at, from the first of the split")
    steps: int = Field(default=20, ge=1, description="PGD steps")
    step_size: float = Field(default=0.003, gt=0, description="for eps = 8/255; scales with the dataset's eps")

    @property
    def name(self) -> Literal["heldout", "test", "last"]:
        """On what the kept weights were selected, as records say it."""
        return "last" if self.keep == "last" else self.split


class Augmentation(_Frozen):
    """What is done to training images; a kind alone may stand for it.

    `crop-flip`: the dataset's random crop, and half of the images mirrored; `cutout`: then a black square in each;
    `trivial-augment`: then one operation of TrivialAugmentWide on each; `none`.
    """

    kind: Literal["crop-flip", "none", "cutout", "trivial-augment"] = "crop-flip"
    flip: bool | None = Field(default=None, description="whether half are mirrored; None: as the dataset says")
    size: int | None = Field(default=None, ge=1, description="side of cutout's square; None: half the image's")

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _has_what_belongs_to_it(self) -> Augmentation:
        if self.size is not None and self.kind != "cutout":
            raise ValueError("size belongs to the augmentation cutout")
        if self.flip is not None and self.kind == "none":
            raise ValueError("flip does not go with the augmentation none")
        return self


class Extra(_Frozen):
    """Additional training images, of which every batch has a share; an epoch has as many steps as without."""

    source: str = Field(description="npz:FILE")
    share: float = Field(gt=0, le=1, description="of every batch")


class Training(_Frozen):
    """How long, how fast, on what batches."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Optimizer
    schedule: Schedule
    selection: Selection
    augmentation: Augmentation = Augmentation()
    extra: Extra | None = None

    @property
    def scaling_schedule(self) -> Schedule:
        """The schedule with the length that it is stated for: where it names none, these epochs."""
        return self.schedule.model_copy(update={"horizon": self.schedule.horizon or self.epochs})


class Resolved(NamedTuple):
    """What a recipe comes to for one run, before the user's flags."""

    variant: str
    training: Training
    hyperparameters: dict[str, Any]


class Rule(_Frozen):
    """What differs for some runs."""

    method: str = "*"
    dataset: str = "*"
    student: str = "*"
    role: str = Field(default="*", description='"student", "clean" or "robust": what the run trains')
    variant: str | None = None
    training: dict[str, Any] = {}
    hyperparameters: dict[str, Any] = {}

    def matches(self, method: str, dataset: str, student: str, role: str) -> bool:
        """Whether the rule speaks of such a run."""
        pairs = ((method, self.method), (dataset, self.dataset), (student, self.student), (role, self.role))
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)


class TeacherRule(_Frozen):
    """Which network is the teacher of a role, and how it is trained."""

    role: Literal["clean", "robust"]
    method: str = Field(default="*", description="the student's method")
    dataset: str = "*"
    model: str
    trained_by: str = Field(description="method that trains the teacher")


class Recipe(_Frozen):
    """A named way of training all methods."""

    name: str
    description: str
    published: bool = Field(description="a paper's or released code's schedule, rather than a reduced one of ours")
    variant: str = Field(description="variant of the methods: paper, official")
    protocol: Protocol = Field(description="default evaluation protocol")
    training: dict[str, Any]
    rules: list[Rule] = []
    teachers: list[TeacherRule]
    teacher_limit: int | None = Field(default=None, description="test images a teacher is evaluated on; None: all")

    def resolve(self, method: str, dataset: str, student: str, role: str = "student") -> Resolved:
        """What the recipe comes to for a run.

        Raises:
            BenchError: the recipe's file leaves something out, or has a value that cannot be.
        """
        variant, training, hyperparameters = self.variant, self.training, dict[str, Any]()
        for rule in self.rules:
            if rule.matches(method, dataset, student, role):
                variant = rule.variant or variant
                training = merged(training, rule.training)
                hyperparameters |= rule.hyperparameters
        try:
            return Resolved(variant, Training.model_validate(training), hyperparameters)
        except ValidationError as error:
            raise _not_valid(self.name, first_mistake(error)) from error

    def teacher(self, role: str, method: str, dataset: str) -> TeacherRule:
        """The last rule that names a teacher of this role for a method and dataset."""
        fitting = [
            rule
            for rule in self.teachers
            if rule.role == role and fnmatchcase(method, rule.method) and fnmatchcase(dataset, rule.dataset)
        ]
        if not fitting:
            raise BenchError(
                f"The recipe {self.name!r} names no {role} teacher for the dataset {dataset!r}.\n"
                f"Give one with --teacher {role}=FILE, or use another recipe."
            )
        return fitting[-1]


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


def names() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


@cache
def load(name: str) -> Recipe:
    """Read a recipe by its name."""
    return parse(name, _text(name))


def _text(name: str) -> str:
    if name not in names():
        raise unknown_name("recipe", name, names())
    return (_HERE / f"{name}.yaml").read_text(encoding="utf-8")


def parse(name: str, text: str) -> Recipe:
    """A recipe from its YAML.

    Raises:
        BenchError: the text is no recipe (says what is wrong and where).
    """
    try:
        content = parse_yaml(text)
        if isinstance(content, dict) and "extends" in content:
            content = _extended(content)
        return Recipe.model_validate({"name": name, **content} if isinstance(content, dict) else content)
    except ValidationError as error:
        reason = first_mistake(error)
    except (ValueError, TypeError) as error:  # no YAML, or keys that are no text
        reason = one_line(str(error))
    raise _not_valid(name, reason)


def _not_valid(name: str, reason: str) -> BenchError:
    return BenchError(f"The recipe {name!r} is not valid: {reason}.\nRepair its YAML file.")


def _extended(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe's content on top of that of the one it extends: mappings merged, lists one after the other."""
    own = dict(content)
    base = parse_yaml(_text(str(own.pop("extends"))))
    if "extends" in base:
        base = _extended(base)
    joined = {key: [*base[key], *own[key]] for key in ("rules", "teachers") if isinstance(own.get(key), list)}
    return {**merged(base, own), **joined}
