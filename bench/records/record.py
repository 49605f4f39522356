"""Evaluation records: what was measured, by what, on what, where and when, with the outcome of every sample.

A record is one JSON file, written once and never edited; its `digest` covers all of its content, so an edit
made by hand is noticed. Tables are rendered from records alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bench.errors import BenchError
from bench.records.outcomes import as_bits, pack, unpack_radii
from bench.stats import wilson_interval
from bench.threat import NORMS, Entry, Threat
from bench.vocabulary import Checkpoint, Norm

SCHEMA_VERSION: Final = 1

_ROUNDING = 1e-9
_MOST_SAMPLES, _MOST_CLASSES = 10**9, 10**6
_MOST_SECONDS = 1e10
"""Three centuries."""
_LARGEST = 2**63 - 1
"""What a seed and a whole number of a hyper-parameter may be: tables keep them in 64 bits."""
_DEEPEST = 10
"""Lists and mappings within each other in what has no form of its own: parameters, overrides, the environment."""


def _plain(content: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Refuse whole numbers that 64 bits do not hold, what is nested too deeply and, in a file, what is not finite.

    An infinite hyper-parameter is infinite in memory alone: in a file it is text. A record that is known to be right
    (`known_record`) only shares it with others.
    """
    if info.context and "shared" in info.context:
        shared: dict[str, Any] = info.context["shared"].setdefault(str(content), content)
        return shared
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for part in level:
            for value in part.values() if isinstance(part, dict) else part:
                if isinstance(value, (dict, list, tuple)):
                    inner.append(value)
                elif isinstance(value, float):
                    if info.context and not math.isfinite(value):
                        raise ValueError("holds a number that is not finite")
                elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
                    raise ValueError("holds a whole number of more than 63 bits")
        if not inner:
            return content
        level = inner
    raise ValueError(f"is nested more than {_DEEPEST} deep")


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=_MOST_SECONDS)]
Seed = Annotated[int, Field(ge=0, le=_LARGEST)]
Samples = Annotated[int, Field(ge=0, le=_MOST_SAMPLES)]
Passes = Annotated[int, Field(ge=0, le=_LARGEST)]
Plain = Annotated[dict[str, Any], AfterValidator(_plain)]


class _Frozen(BaseModel):
    # An infinite hyper-parameter is written as text: JSON's null would lose it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="strings")


class TrainingCost(_Frozen):
    """What it took to train a model, without its teachers."""

    seconds: Seconds = Field(description="all sittings together")
    device: str = Field(description="the GPU or processor by name, of the first sitting")


class Subject(_Frozen):
    """The model that was attacked."""

    kind: Literal["student", "teacher", "checkpoint"]
    run: str | None = Field(description="id of the run that trained it; None for a file from elsewhere")
    method: str = Field(description="registered name of the defense, or the file's stem for a file from elsewhere")
    label: str = Field(description="the defense's name as papers write it")
    overrides: Plain = Field(description="hyper-parameters that differ from the recipe's (--set)")
    role: Literal["clean", "robust"] | None = Field(description="for a teacher: which one")
    model: str = Field(description="architecture, as in `bench list models`")
    seed: Seed | None
    recipe: str | None
    setting: str = Field(
        description="the schedule in words, with all that was reduced: rows compare only within one setting"
    )
    procedure: Plain | None = Field(
        default=None,
        description="how it was trained: variant, hyper-parameters, schedule, selection; None for a file from "
        "elsewhere, and in records of earlier versions",
    )
    teachers: dict[str, str] = Field(
        default_factory=dict, description="by role: SHA-256 of the weights of the teacher it learned from"
    )
    teacher_names: dict[str, str] = Field(
        default_factory=dict, description="by role: what tables call that teacher; empty in records of earlier versions"
    )
    teacher_seeds: bool = Field(
        default=False,
        description="whether its teachers were trained with its own seed, so that other seeds have others",
    )
    selection: str = Field(description="what chose the checkpoint: heldout, test, last, or unknown")
    looks: Samples | None = Field(
        default=None,
        description="how many looks at that split the checkpoint is the best of; 0 for the last epoch's; None for a "
        "file from elsewhere, and in records of earlier versions",
    )
    checkpoint: str = Field(description="SHA-256 of the weights")
    checkpoint_of: Checkpoint = Field(
        default="best",
        description="which network of its run: the selected or the last one, or the student itself beside its average",
    )
    average: str | None = Field(default=None, description="of what the weights are an average; None: of nothing")
    training: TrainingCost | None = Field(
        default=None, description="None for a file from elsewhere, and in records of earlier versions"
    )

    def stands_for(self, which: Checkpoint) -> bool:
        """Whether it is that network of its run; a file from elsewhere has one, which is its best and its last."""
        return self.checkpoint_of == which or (self.run is None and which == "last")


class Data(_Frozen):
    """The samples that were attacked, and under which threat."""

    name: str
    split: Literal["train", "test"]
    n: Samples = Field(gt=0, description="samples evaluated: the first n of the split")
    total: Samples = Field(gt=0, description="samples in the split")
    classes: int = Field(gt=1, le=_MOST_CLASSES)
    eps: float = Field(gt=0, description="how far an image in [0, 1] may be moved, in the norm")
    norm: Norm = Field(default="linf", description="of the perturbations")
    fingerprint: str = Field(description="SHA-256 of the evaluated samples")
    class_counts: list[Samples] | None = Field(
        default=None, description="evaluated samples of each class; None in records of earlier versions"
    )

    @property
    def threat(self) -> Threat:
        """In which norm, and how far, the images might be moved."""
        return Threat(self.norm, self.eps)


class AttackResult(_Frozen):
    """One attack on one model.

    `final` and `worst` hold one bit per sample, packed (numpy.packbits) and base64-encoded: 1 where the model
    is right.
    """

    parameters: Plain
    surrogate: str | None = Field(description="SHA-256 of the model the images were crafted on; None: the model itself")
    final: str = Field(description="right on the attack's last iterate (the papers' number)")
    worst: str | None = Field(description="right on every iterate; None where the attack has no iterates of ours")
    correct: Samples = Field(description="samples right in `final`")
    accuracy: Share
    interval: tuple[Share, Share] = Field(description="Wilson 95 % interval of `accuracy`")
    worst_accuracy: Share | None
    class_accuracy: list[Share | None] = Field(description="by class, of `final`; None for a class with no sample")
    batch_size: Samples = Field(gt=0)
    seconds: Seconds
    components: dict[str, Share] = Field(
        default_factory=dict, description="for an ensemble: robust accuracy after each"
    )
    radii: str | None = Field(
        default=None,
        description="of an attack that looks for the nearest image that fools the model: how far that is for each "
        "sample, as base64 of little-endian float32, infinite where it found none; `final` is radii > eps",
    )


class Checks(_Frozen):
    """What it took to check that an evaluation is none that was bound to fail, and what was not looked at."""

    made: bool = Field(default=True, description="False where nobody wanted them (--no-checks, checks=False)")
    passes: Passes = Field(description="images that they passed through the network, each once for every pass")
    attack_passes: Passes | None = Field(
        description="the same of the attacks; None where a part is of a version that did not count"
    )
    seconds: Seconds
    left_out: list[str] = Field(default_factory=list, description="what was not checked, and why, in words")


class Record(_Frozen):
    """A suite of attacks on one model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str = Field(max_length=250, pattern=r"^[^/\\.][^/\\]*$", description="also the name of its file")
    subject: Subject
    suite: str
    protocol: Literal["official", "paper"]
    worst_case: bool = Field(
        default=False,
        description="whether `final` holds right on every iterate (and `worst` nothing): a sample was left alone "
        "once an iterate fooled the model",
    )
    precision: Literal["32", "tf32"] = Field(default="32", description="what float32 products were computed in")
    attack_set: Plain = Field(
        default_factory=dict,
        description="parameters of the attacks in place of the protocol's, by name (`steps`) or by that of one attack "
        "(`pgd-sat.steps`)",
    )
    data: Data
    seed: Seed = Field(description="seed of the attacks' start noise")
    results: dict[str, AttackResult] = Field(
        description="by attack; `clean` is no attack; `transfer:NAME` was crafted on the surrogate; NAME@l2:0.5 and "
        "NAME@1.5x (of the radius) were run under a threat of their own"
    )
    flags: list[str] = Field(default_factory=list, description="sanity checks that failed, or were left out, in words")
    checks: Checks | None = Field(default=None, description="None in records of earlier versions")
    environment: Plain
    created: str = Field(description="UTC, ISO 8601")
    seconds: Seconds
    digest: str = Field(default="", description="SHA-256 of all the rest")

    @property
    def conduct(self) -> str:
        """Whose parameters, and what else sets a measurement apart from others: `official`, `paper, worst case`."""
        return conduct(self.protocol, self.worst_case, self.precision, self.attack_set)

    @field_validator("created")
    @classmethod
    def _is_utc(cls, created: str) -> str:
        if datetime.fromisoformat(created.replace("Z", "+00:00")).utcoffset() != timedelta(0):
            raise ValueError("not a time in UTC")
        return created

    @model_validator(mode="after")
    def _adds_up(self, info: ValidationInfo) -> Record:
        if info.context and "shared" in info.context:
            return self
        if self.data.norm == "linf" and self.data.eps > 1:
            raise ValueError(f"data: eps = {self.data.eps:g} in L-infinity, where 1 reaches every image")
        if self.data.n > self.data.total:
            raise ValueError(f"data: {self.data.n} samples of a split of {self.data.total}")
        counts = self.data.class_counts
        if counts is not None and (len(counts) != self.data.classes or sum(counts) != self.data.n):
            raise ValueError(f"data: class_counts are not {self.data.n} samples of {self.data.classes} classes")
        for name, result in self.results.items():
            _check(name, result, self.data)
        if counts is not None and self.results:
            _check_classes(self.results, np.array(counts))
        return self


def conduct(
    protocol: str, worst_case: bool = False, precision: str = "32", attack_set: Mapping[str, Any] | None = None
) -> str:
    """How an evaluation was made, in words; results compare only where it is the same."""
    own = [f"{key} = {_written(value)}" for key, value in sorted((attack_set or {}).items())]
    return ", ".join([protocol, *["worst case"] * worst_case, *[precision] * (precision != "32"), *own])


def _written(value: Any) -> str:
    """A parameter's value in one word."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def content_digest(text: str) -> str:
    """SHA-256 of a record's JSON but for its digest; the order of keys does not matter.

    It is taken of the file and not of the parsed record, whose fields a later version may have added to.
    """
    return digest_of(json.loads(text))


def digest_of(content: Mapping[str, Any]) -> str:
    """As `content_digest`, of what was parsed."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check(name: str, result: AttackResult, data: Data) -> None:
    """ValueError where a result's numbers are not those of its per-sample outcomes."""
    right = as_bits(result.final, data.n)
    if right.bit_count() != result.correct or abs(result.accuracy - result.correct / data.n) > _ROUNDING:
        raise ValueError(f"results.{name}: accuracy, correct and the per-sample outcomes do not add up")
    low, high = wilson_interval(result.correct, data.n)
    if abs(result.interval[0] - low) > _ROUNDING or abs(result.interval[1] - high) > _ROUNDING:
        raise ValueError(f"results.{name}: interval is not Wilson's of {result.correct} in {data.n}")
    if len(result.class_accuracy) != data.classes:
        raise ValueError(f"results.{name}: class_accuracy has {len(result.class_accuracy)} of {data.classes} classes")
    _check_name(name, result, data)
    if result.radii is not None:
        radii, eps = unpack_radii(result.radii, data.n), result.parameters.get("eps")
        if not isinstance(eps, float) or np.isnan(radii).any() or (radii < 0).any():
            raise ValueError(f"results.{name}: radii are no distances, or the attack has no eps to hold them against")
        if pack(radii > eps) != result.final:
            raise ValueError(f"results.{name}: radii, eps and the per-sample outcomes do not add up")
    worst = None if result.worst is None else as_bits(result.worst, data.n)
    if (worst is None) != (result.worst_accuracy is None):
        raise ValueError(f"results.{name}: worst and worst_accuracy need each other")
    if worst is None or result.worst_accuracy is None:
        return
    if worst & ~right or abs(result.worst_accuracy - worst.bit_count() / data.n) > _ROUNDING:
        raise ValueError(f"results.{name}: worst, worst_accuracy and final do not add up")


def _check_name(name: str, result: AttackResult, data: Data) -> None:
    """ValueError where a result is not what its name says."""
    try:
        entry = Entry.of(name)
        threat = entry.under(data.threat)
    except BenchError as error:
        raise ValueError(f"results.{name}: {str(error).splitlines()[0]}") from error
    if entry.result != name or entry.threat in NORMS:
        raise ValueError(f"results.{name}: no name of a result; {entry.on(data.threat).result} would be one")
    if entry.transfer and result.surrogate is None:
        raise ValueError(f"results.{name}: a transferred attack needs its surrogate")
    norm, eps = result.parameters.get("norm", "linf"), result.parameters.get("eps")
    if entry.threat and eps is not None and (norm != threat.norm or abs(eps - threat.eps) > _ROUNDING):
        raise ValueError(f"results.{name}: it was run within {norm}:{eps}")


def _check_classes(results: dict[str, AttackResult], counts: np.ndarray) -> None:
    """ValueError where the classes' accuracies are no shares of their samples that add up to all that are right."""
    # Of shape (results, classes); None becomes NaN.
    accuracies = np.array([result.class_accuracy for result in results.values()], dtype=np.float64)
    empty = np.isnan(accuracies)
    correct = np.where(empty, 0.0, accuracies) * counts
    whole = np.rint(correct)
    fits = (empty == (counts == 0)) & (np.abs(correct - whole) <= counts * _ROUNDING)
    adds_up = fits.all(axis=1) & (whole.sum(axis=1) == [result.correct for result in results.values()])
    if not adds_up.all():
        name = list(results)[int(np.argmin(adds_up))]
        raise ValueError(f"results.{name}: class_accuracy, class_counts and correct do not add up")
