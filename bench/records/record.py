"""Evaluation records: what was measured, by what, on what, where and when, with the outcome of every sample.

A record is one JSON file, written once and never edited; its `digest` covers all of its content, so an edit
made by hand is noticed. Tables are rendered from records alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from bench.errors import BenchError
from bench.stats import wilson_interval
from bench.system.files import write_text_atomically
from bench.system.text import first_mistake, newer_schema, one_line
from bench.threat import NORMS, Entry, Threat
from bench.vocabulary import Checkpoint, Norm

SCHEMA_VERSION: Final = 1

_ROUNDING = 1e-9
_MOST_BYTES = 100_000_000
"""A record of a million samples under ten attacks has a few megabytes."""
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
    return _digest(json.loads(text))


def _digest(content: dict[str, Any]) -> str:
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


def pack(right: np.ndarray) -> str:
    """Per-sample outcomes, shape (n,), bool, as base64 text."""
    return base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode()


def unpack(text: str, n: int) -> np.ndarray:
    """Outcomes packed by `pack`: shape (n,), bool. ValueError where the text does not hold n outcomes."""
    return np.unpackbits(np.frombuffer(_packed(text, n), dtype=np.uint8), count=n).astype(bool)


def _packed(text: str, n: int) -> bytes:
    packed = base64.b64decode(text, validate=True)
    if len(packed) != (n + 7) // 8:
        raise ValueError(f"{len(packed)} bytes of outcomes cannot hold {n} samples")
    return packed


def pack_radii(radii: np.ndarray) -> str:
    """Distances, shape (n,), as base64 text of float32."""
    return base64.b64encode(radii.astype("<f4").tobytes()).decode()


def unpack_radii(text: str, n: int) -> np.ndarray:
    """Distances packed by `pack_radii`: shape (n,), float64. ValueError where the text does not hold n of them."""
    packed = base64.b64decode(text, validate=True)
    if len(packed) != 4 * n:
        raise ValueError(f"{len(packed)} bytes of radii cannot hold {n} samples")
    return np.frombuffer(packed, dtype="<f4").astype(np.float64)


def as_bits(text: str, n: int) -> int:
    """Outcomes packed by `pack` as one whole number of n bits: to count and compare them takes no array."""
    return int.from_bytes(_packed(text, n), "big") >> -n % 8


def of_bits(right: int, n: int) -> str:
    """The text of outcomes that are one whole number of n bits, as `as_bits` makes it."""
    return base64.b64encode((right << -n % 8).to_bytes((n + 7) // 8, "big")).decode()


def write_record(record: Record, folder: Path) -> Path:
    """Write a record, with its digest, to `folder/ID.json`; refuse to change one that is there."""
    path = folder / f"{record.id}.json"
    if path.exists():
        raise BenchError(
            f"The record {path} exists already and records are never changed.\nDelete it to measure again."
        )
    sealed = record.model_copy(update={"digest": content_digest(record.model_dump_json())})
    write_text_atomically(path, sealed.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read and check one record.

    Raises:
        BenchError: the file is unreadable, or does not add up (the message names the first thing wrong).
    """
    return checked_record(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The content of a record's file; nothing but a regular file of some megabytes is opened.

    Raises:
        BenchError: it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            reason = "is no regular file"
        elif status.st_size > _MOST_BYTES:
            reason = f"is larger than {_MOST_BYTES // 10**6} MB, which no record is"
        else:
            return path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    raise BenchError(f"The record {path} {reason}.\nRestore it, or delete it and evaluate again.")


def checked_record(path: Path, content: bytes) -> Record:
    """The record that a file's content holds; parsed once.

    Raises:
        BenchError: as `read_record`.
    """
    try:
        values = _parsed(content)
        newer = newer_schema(values, SCHEMA_VERSION)
        if newer is not None:
            raise BenchError(f"The record {path} was {newer}.\nWithout that, move it to another folder.")
        record = Record.model_validate(values, context={"file": path})
    except (ValueError, ArithmeticError, RecursionError) as error:
        reason = first_mistake(error) if isinstance(error, ValidationError) else one_line(str(error))
        raise BenchError(
            f"The record {path} is not valid: {reason}.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        ) from error
    if record.digest != _digest(values):
        raise BenchError(
            f"The record {path} was changed after it was written: its digest does not match its content.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        )
    return record


def known_record(content: bytes, shared: dict[str, Any] | None = None) -> Record:
    """The record in a file's content that was found right before: its parts are not held against each other again.

    Args:
        shared: environments and parameters, of which records that hold the same then have one copy together.
    """
    return Record.model_validate_json(content, context={"shared": {} if shared is None else shared})


def _parsed(content: bytes) -> Any:
    """A record's JSON, with tuples where records have them; a ValueError says what is wrong with it."""
    try:
        values = from_json(content)
    except ValueError as error:
        raise ValueError(f"Invalid JSON: {error}") from error
    results = values.get("results") if isinstance(values, dict) else None
    for result in results.values() if isinstance(results, dict) else ():
        if isinstance(result, dict) and isinstance(result.get("interval"), list):
            result["interval"] = tuple(result["interval"])
    return values


def read_records(folder: Path) -> Iterator[Record]:
    """All records of a folder, in the order of their names."""
    for path in sorted(folder.glob("*.json")):
        yield read_record(path)
