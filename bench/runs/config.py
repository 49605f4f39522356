"""The resolved configuration of a run: everything that decides its result, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from bench.recipes.frozen import Frozen
from bench.recipes.schedule import Schedule
from bench.recipes.training import Augmentation, Average, Optimizer, Selection, WeightPerturbation
from bench.threat import Threat
from bench.vocabulary import Norm, Precision, Protocol, Role

SCHEMA_VERSION: Final = 1
_PROCEDURE: Final = (
    *("variant", "hyperparameters", "epochs", "batch_size", "optimizer", "schedule", "selection"),
    *("augmentation", "average", "awp"),
)


class TeacherRef(Frozen):
    """A teacher as a run used it."""

    later: ClassVar[frozenset[str]] = frozenset({"own_seed"})

    role: Role
    model: str = Field(description="architecture, with its normalisation: resnet56-option-a@imagenet")
    source: str = Field(
        description="id of the run that trained it, or the file it came from: a path, or hf:...@COMMIT/..."
    )
    checkpoint: str = Field(description="SHA-256 of its weights")
    given: bool = Field(description="whether the user named it (--teacher) rather than the recipe")
    name: str | None = Field(default=None, description="what tables call it; None in runs of earlier versions")
    own_seed: bool = Field(
        default=False, description="whether it was trained with the run's seed, as one for each seed"
    )

    @property
    def known_as(self) -> str:
        """What records and tables call it."""
        return self.name or (Path(self.source).stem if self.given else self.source)


class ExtraRef(Frozen):
    """Additional training images as a run used them."""

    name: str
    spec: str = Field(description="what loads them: npz:/path")
    fingerprint: str = Field(description="SHA-256 of images and labels")
    n: int = Field(ge=1)
    share: float = Field(gt=0, le=1, description="of every batch")


class DataRef(Frozen):
    """A dataset as a run used it."""

    later: ClassVar[frozenset[str]] = frozenset({"extra", "norm", "asked"})

    name: str
    spec: str = Field(description="what loads it: digits, parquet:/path; or that it was given from Python")
    fingerprint: str = Field(description="SHA-256 of the training images before anything is set aside")
    n: int = Field(ge=1, description="training images, before anything is set aside")
    classes: int = Field(ge=2)
    in_channels: int = Field(ge=1)
    eps: float = Field(gt=0)
    norm: Norm = Field(default="linf")
    asked: bool = Field(default=False, description="whether norm and eps were asked for and are not the usual ones")
    extra: ExtraRef | None = Field(default=None)

    @property
    def threat(self) -> Threat:
        """What the networks are trained against."""
        return Threat(self.norm, self.eps)


class RunConfig(Frozen):
    """One training run.

    `requested` holds what the user changed of the recipe (epochs, batch size, limit on training images); with the
    recipe's name it makes the `setting`, within which results may be compared.
    """

    later: ClassVar[frozenset[str]] = frozenset({"recipe_digest", "augmentation", "average", "awp"})

    schema_version: Literal[1] = SCHEMA_VERSION
    method: str
    label: str
    variant: str
    hyperparameters: dict[str, Any]
    overrides: dict[str, Any] = Field(
        description="what the user set (--set): hyper-parameters, and fields of the recipe's training by dotted name"
    )
    student: str
    role: Role | None = Field(default=None, description="for a teacher's own training: which one")
    data: DataRef
    recipe: str
    recipe_digest: str | None = Field(
        default=None, description="SHA-256 of a recipe of the user's own, whose text lies in the run's folder"
    )
    published: bool
    protocol: Protocol
    requested: dict[str, int] = Field(default={})
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    seed: int = Field(ge=0)
    precision: Precision = "32"
    optimizer: Optimizer
    schedule: Schedule
    selection: Selection
    augmentation: Augmentation = Field(default=Augmentation())
    average: Average | None = None
    awp: WeightPerturbation | None = None
    teachers: list[TeacherRef] = Field(default=[])
    own: dict[str, str] = Field(
        default_factory=dict, description="what was given from Python, by part: SHA-256 of what decides the result"
    )

    @property
    def id(self) -> str:
        """Readable name of the run, ending in a hash of all that decides its result."""
        content = self.model_dump(mode="json", exclude={"data": {"spec": True, "asked": True, "extra": {"spec"}}})
        for teacher in content["teachers"]:
            del teacher["source"], teacher["given"], teacher["name"]
        if not self.own:  # as in versions that knew names alone
            del content["own"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        role = f"{self.role}-teacher" if self.role else self.method
        parts = [self.data.name, self.student, role, self.recipe, f"s{self.seed}", digest]
        return "_".join(re.sub(r"[^a-z0-9.-]+", "-", part.lower()) for part in parts)

    @property
    def setting(self) -> str:
        """The schedule in words, with all that was reduced."""
        own = f" ({self.recipe_digest[:8]})" if self.recipe_digest is not None else ""
        words = [f"{self.recipe} recipe{own}"]
        # The published recipes give each method its own length; ours give all of them the same one.
        if "epochs" in self.requested or not self.published:
            words.append(f"{self.epochs} epoch" + ("s" if self.epochs > 1 else ""))
        if "batch_size" in self.requested:
            words.append(f"batch {self.batch_size}")
        if "limit_train" in self.requested:
            words.append(f"first {self.data.n} training images")
        if self.data.extra is not None:
            words.append(f"{100 * self.data.extra.share:g} % additional images of {self.data.extra.name}")
        if self.data.asked or self.data.norm != "linf":
            words.append(f"trained under {self.data.threat}")
        if self.precision != "32":
            words.append(self.precision)
        return ", ".join(words)

    @property
    def procedure(self) -> dict[str, Any]:
        """All that seeds of one defense share, in plain values, whatever its variant and recipe come to mean later."""
        content = self.model_dump(mode="json", include=set(_PROCEDURE))
        return {name: content[name] for name in _PROCEDURE if name in content}

    @property
    def looks(self) -> int:
        """How many looks the selected weights are the best of; 0 where the last ones are kept."""
        if self.selection.keep == "last":
            return 0
        first = 1
        if self.average is not None and self.average.from_epoch is not None:
            first = self.schedule.first_averaged(self.average.from_epoch, self.epochs)
        return sum(epoch >= first for epoch in self.selection.looks(self.epochs, self.schedule.horizon))

    def teacher(self, role: str) -> TeacherRef | None:
        """The teacher of a role, if the run has one."""
        return next((teacher for teacher in self.teachers if teacher.role == role), None)
