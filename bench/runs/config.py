"""The resolved configuration of a run: everything that decides its result, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.recipes.recipe import Augmentation, Optimizer, Selection
from bench.recipes.schedule import Schedule
from bench.vocabulary import Precision, Protocol, Role

SCHEMA_VERSION: Final = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TeacherRef(_Frozen):
    """A teacher as a run used it."""

    role: Role
    model: str = Field(description="architecture, with its normalisation: resnet56-option-a@imagenet")
    source: str = Field(description="id of the run that trained it, or the path of the file it came from")
    checkpoint: str = Field(description="SHA-256 of its weights")
    given: bool = Field(description="whether the user named it (--teacher) rather than the recipe")


class ExtraRef(_Frozen):
    """Additional training images as a run used them."""

    name: str
    spec: str = Field(description="what loads them: npz:/path")
    fingerprint: str = Field(description="SHA-256 of images and labels")
    n: int = Field(ge=1)
    share: float = Field(gt=0, le=1, description="of every batch")


class DataRef(_Frozen):
    """A dataset as a run used it."""

    name: str
    spec: str = Field(description="what loads it: digits, parquet:/path")
    fingerprint: str = Field(description="SHA-256 of the training images before anything is set aside")
    n: int = Field(ge=1, description="training images, before anything is set aside")
    classes: int = Field(ge=2)
    in_channels: int = Field(ge=1)
    eps: float = Field(gt=0)
    extra: ExtraRef | None = None


class RunConfig(_Frozen):
    """One training run.

    `requested` holds what the user changed of the recipe (epochs, batch size, limit on training images); with the
    recipe's name it makes the `setting`, within which results may be compared.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    method: str
    label: str
    variant: str
    hyperparameters: dict[str, Any]
    overrides: dict[str, Any] = Field(description="hyper-parameters the user set (--set)")
    student: str
    role: Role | None = Field(default=None, description="for a teacher's own training: which one")
    data: DataRef
    recipe: str
    published: bool
    protocol: Protocol
    requested: dict[str, int] = {}
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    seed: int = Field(ge=0)
    precision: Precision = "32"
    optimizer: Optimizer
    schedule: Schedule
    selection: Selection
    augmentation: Augmentation = Augmentation()
    teachers: list[TeacherRef] = []

    @property
    def id(self) -> str:
        """Readable name of the run, ending in a hash of all that decides its result."""
        content = self.model_dump(mode="json", exclude={"data": {"spec": True, "extra": {"spec"}}})
        # What a run does without leaves no trace, so that ids from before it could be had stay as they are.
        if self.augmentation == Augmentation():
            del content["augmentation"]
        if self.data.extra is None:
            del content["data"]["extra"]
        for teacher in content["teachers"]:
            del teacher["source"], teacher["given"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        role = f"{self.role}-teacher" if self.role else self.method
        parts = [self.data.name, self.student, role, self.recipe, f"s{self.seed}", digest]
        return "_".join(re.sub(r"[^a-z0-9.-]+", "-", part.lower()) for part in parts)

    @property
    def setting(self) -> str:
        """The schedule in words, with all that was reduced."""
        words = [f"{self.recipe} recipe"]
        # The published recipes give each method its own length; ours give all of them the same one.
        if "epochs" in self.requested or not self.published:
            words.append(f"{self.epochs} epoch" + ("s" if self.epochs > 1 else ""))
        if "batch_size" in self.requested:
            words.append(f"batch {self.batch_size}")
        if "limit_train" in self.requested:
            words.append(f"first {self.data.n} training images")
        if self.augmentation.kind != "crop-flip":
            words.append(self.augmentation.kind if self.augmentation.kind != "none" else "no augmentation")
        if self.augmentation.flip is not None:
            words.append("mirrored" if self.augmentation.flip else "not mirrored")
        if self.augmentation.size is not None:
            words.append(f"squares of {self.augmentation.size}")
        if self.data.extra is not None:
            words.append(f"{100 * self.data.extra.share:g} % additional images of {self.data.extra.name}")
        if self.precision != "32":
            words.append(self.precision)
        return ", ".join(words)

    def teacher(self, role: str) -> TeacherRef | None:
        """The teacher of a role, if the run has one."""
        return next((teacher for teacher in self.teachers if teacher.role == role), None)
