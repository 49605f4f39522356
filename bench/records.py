"""Evaluation records: what was measured, by what, on what, where and when, with the outcome of every sample.

A record is one JSON file, written once and never edited; its `digest` covers all of its content, so an edit
made by hand is noticed. Tables are rendered from records alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import BenchError
from bench.files import write_text_atomically
from bench.statistics import wilson_interval
from bench.texts import first_mistake, newer_version, one_line

SCHEMA_VERSION: Final = 1

_ROUNDING = 1e-9


class _Frozen(BaseModel):
    # An infinite hyper-parameter is written as text: JSON's null would lose it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="strings")


class TrainingCost(_Frozen):
    """What it took to train a model, without its teachers."""

    seconds: float = Field(ge=0, description="all sittings together")
    device: str = Field(description="the GPU or processor by name, of the first sitting")


class Subject(_Frozen):
    """The model that was attacked."""

    kind: Literal["student", "teacher", "checkpoint"]
    run: str | None = Field(description="id of the run that trained it; None for a file from elsewhere")
    method: str = Field(description="registered name of the defense, or the file's stem for a file from elsewhere")
    label: str = Field(description="the defense's name as papers write it")
    overrides: dict[str, Any] = Field(description="hyper-parameters that differ from the recipe's (--set)")
    role: Literal["clean", "robust"] | None = Field(description="for a teacher: which one")
    model: str = Field(description="architecture, as in `bench list models`")
    seed: int | None
    recipe: str | None
    setting: str = Field(
        description="the schedule in words, with all that was reduced: rows compare only within one setting"
    )
    teachers: dict[str, str] = Field(
        default_factory=dict, description="by role: SHA-256 of the weights of the teacher it learned from"
    )
    selection: str = Field(description="what chose the checkpoint: heldout, test, last, or unknown")
    checkpoint: str = Field(description="SHA-256 of the weights")
    training: TrainingCost | None = Field(
        default=None, description="None for a file from elsewhere, and in records of earlier versions"
    )


class Data(_Frozen):
    """The samples that were attacked."""

    name: str
    split: Literal["train", "test"]
    n: int = Field(gt=0, description="samples evaluated: the first n of the split")
    total: int = Field(gt=0, description="samples in the split")
    classes: int = Field(gt=1)
    eps: float = Field(gt=0, description="L-infinity bound for images in [0, 1]")
    fingerprint: str = Field(description="SHA-256 of the evaluated samples")
    class_counts: list[int] | None = Field(
        default=None, description="evaluated samples of each class; None in records of earlier versions"
    )


class AttackResult(_Frozen):
    """One attack on one model.

    `final` and `worst` hold one bit per sample, packed (numpy.packbits) and base64-encoded: 1 where the model
    is right.
    """

    parameters: dict[str, Any]
    surrogate: str | None = Field(description="SHA-256 of the model the images were crafted on; None: the model itself")
    final: str = Field(description="right on the attack's last iterate (the papers' number)")
    worst: str | None = Field(description="right on every iterate; None where the attack has no iterates of ours")
    correct: int = Field(ge=0, description="samples right in `final`")
    accuracy: float = Field(ge=0, le=1)
    interval: tuple[float, float] = Field(description="Wilson 95 % interval of `accuracy`")
    worst_accuracy: float | None
    class_accuracy: list[float | None] = Field(description="by class, of `final`; None for a class with no sample")
    batch_size: int
    seconds: float = Field(ge=0)
    components: dict[str, float] = Field(
        default_factory=dict, description="for an ensemble: robust accuracy after each"
    )


class Record(_Frozen):
    """A suite of attacks on one model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str = Field(pattern=r"^[^/\\.][^/\\]*$", description="also the name of its file")
    subject: Subject
    suite: str
    protocol: Literal["official", "paper"]
    worst_case: bool = Field(
        default=False,
        description="whether `final` holds right on every iterate (and `worst` nothing): a sample was left alone "
        "once an iterate fooled the model",
    )
    precision: Literal["32", "tf32"] = Field(default="32", description="what float32 products were computed in")
    data: Data
    seed: int = Field(description="seed of the attacks' start noise")
    results: dict[str, AttackResult] = Field(
        description="by attack; `clean` is no attack; `transfer:NAME` was crafted on the surrogate"
    )
    flags: list[str] = Field(default_factory=list, description="failed sanity checks, in words")
    environment: dict[str, Any]
    created: str = Field(description="UTC, ISO 8601")
    seconds: float = Field(ge=0)
    digest: str = Field(default="", description="SHA-256 of all the rest")

    @property
    def conduct(self) -> str:
        """Whose parameters, and what else sets a measurement apart from others: `official`, `paper, worst case`."""
        return conduct(self.protocol, self.worst_case, self.precision)

    @field_validator("created")
    @classmethod
    def _is_utc(cls, created: str) -> str:
        if datetime.fromisoformat(created.replace("Z", "+00:00")).utcoffset() != timedelta(0):
            raise ValueError("not a time in UTC")
        return created

    @model_validator(mode="after")
    def _adds_up(self) -> Record:
        if self.data.n > self.data.total:
            raise ValueError(f"data: {self.data.n} samples of a split of {self.data.total}")
        counts = self.data.class_counts
        if counts is not None and (len(counts) != self.data.classes or min(counts) < 0 or sum(counts) != self.data.n):
            raise ValueError(f"data: class_counts are not {self.data.n} samples of {self.data.classes} classes")
        for name, result in self.results.items():
            _check(name, result, self.data)
        return self


def conduct(protocol: str, worst_case: bool = False, precision: str = "32") -> str:
    """How an evaluation was made, in words; results compare only where it is the same."""
    return ", ".join([protocol, *["worst case"] * worst_case, *[precision] * (precision != "32")])


def protocol_text(how: str) -> str:
    """A conduct for readers: `official protocol, worst case`."""
    protocol, *rest = how.split(", ")
    return ", ".join([f"{protocol} protocol", *rest])


def content_digest(text: str) -> str:
    """SHA-256 of a record's JSON but for its digest; the order of keys does not matter.

    It is taken of the file and not of the parsed record, whose fields a later version may have added to.
    """
    content = json.loads(text)
    content.pop("digest", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(name: str, result: AttackResult, data: Data) -> None:
    """ValueError where a result's numbers are not those of its per-sample outcomes."""
    right = unpack(result.final, data.n)
    if int(right.sum()) != result.correct or abs(result.accuracy - result.correct / data.n) > _ROUNDING:
        raise ValueError(f"results.{name}: accuracy, correct and the per-sample outcomes do not add up")
    if not np.allclose(result.interval, wilson_interval(result.correct, data.n), rtol=0, atol=_ROUNDING):
        raise ValueError(f"results.{name}: interval is not Wilson's of {result.correct} in {data.n}")
    if len(result.class_accuracy) != data.classes:
        raise ValueError(f"results.{name}: class_accuracy has {len(result.class_accuracy)} of {data.classes} classes")
    if data.class_counts is not None and not _is_sum_of_classes(result, data.class_counts):
        raise ValueError(f"results.{name}: class_accuracy, class_counts and correct do not add up")
    if name.startswith("transfer:") and result.surrogate is None:
        raise ValueError(f"results.{name}: a transferred attack needs its surrogate")
    worst = None if result.worst is None else unpack(result.worst, data.n)
    if (worst is None) != (result.worst_accuracy is None):
        raise ValueError(f"results.{name}: worst and worst_accuracy need each other")
    if worst is None or result.worst_accuracy is None:
        return
    if (worst & ~right).any() or abs(result.worst_accuracy - worst.mean()) > _ROUNDING:
        raise ValueError(f"results.{name}: worst, worst_accuracy and final do not add up")


def _is_sum_of_classes(result: AttackResult, counts: list[int]) -> bool:
    """Whether the classes' accuracies are shares of their samples that add up to all that are right."""
    right = 0
    for accuracy, count in zip(result.class_accuracy, counts, strict=True):
        if (accuracy is None) != (count == 0):
            return False
        correct = round((accuracy or 0.0) * count)
        if not 0 <= correct <= count or abs((accuracy or 0.0) * count - correct) > count * _ROUNDING:
            return False
        right += correct
    return right == result.correct


def pack(right: np.ndarray) -> str:
    """Per-sample outcomes, shape (n,), bool, as base64 text."""
    return base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode()


def unpack(text: str, n: int) -> np.ndarray:
    """Outcomes packed by `pack`: shape (n,), bool. ValueError where the text does not hold n outcomes."""
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != (n + 7) // 8:
        raise ValueError(f"{len(packed)} bytes of outcomes cannot hold {n} samples")
    return np.unpackbits(packed, count=n).astype(bool)


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
    try:
        if path.is_fifo():
            raise OSError("it is a pipe, which may never end")
        text = path.read_text(encoding="utf-8")
        newer = newer_version(text, SCHEMA_VERSION)
        if newer is not None:
            raise BenchError(f"The record {path} was {newer}.\nWithout that, move it to another folder.")
        record = Record.model_validate_json(text)
        intact = record.digest == content_digest(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(
            f"The record {path} cannot be read: {error}.\nRestore it, or delete it and evaluate again."
        ) from error
    except (ValidationError, ValueError, ArithmeticError, RecursionError) as error:
        reason = first_mistake(error) if isinstance(error, ValidationError) else one_line(str(error))
        raise BenchError(
            f"The record {path} is not valid: {reason}.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        ) from error
    if not intact:
        raise BenchError(
            f"The record {path} was changed after it was written: its digest does not match its content.\n"
            "Records are never edited: restore it, or delete it and run `bench eval` again."
        )
    return record


def differing(record: Record, other: Record) -> dict[str, int]:
    """On how many samples two records of the same samples disagree, for each attack that both have."""
    n = record.data.n
    return {
        name: int((unpack(result.final, n) ^ unpack(other.results[name].final, n)).sum())
        for name, result in record.results.items()
        if name in other.results
    }


def read_records(folder: Path) -> Iterator[Record]:
    """All records of a folder, in the order of their names."""
    for path in sorted(folder.glob("*.json")):
        yield read_record(path)
