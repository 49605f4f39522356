"""What a run folder says of a run in few words: where it stands, and what it selected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Progress(BaseModel):
    """Where a run stands.

    Attributes:
        epoch: the epoch being trained, from 1. step: steps done in it. steps: steps in an epoch.
        seconds_left: expected, by the speed so far; None before there is one.
    """

    model_config = ConfigDict(extra="forbid")

    epoch: int = Field(ge=0)
    epochs: int = Field(ge=0)
    step: int = Field(ge=0)
    steps: int = Field(ge=0)
    seconds_left: float | None = Field(ge=0, allow_inf_nan=False)


class Summary(BaseModel):
    """What a finished run selected.

    Attributes:
        checkpoint: SHA-256 of the selected weights (best.safetensors).
        selected_epoch: whose weights they are.
        selected_on: "heldout", "test", or "last" for no selection.
        accuracy: of the student, as `Monitor.look` has it, on the selection split; None where nothing was looked at.
        looks: how many the selected weights are the best of; 0 for the last ones, None in runs of earlier versions.
        seconds: training time, all sittings together.
    """

    model_config = ConfigDict(extra="forbid")

    checkpoint: str
    selected_epoch: int = Field(ge=0)
    selected_on: Literal["heldout", "test", "last"]
    accuracy: dict[str, Annotated[float, Field(ge=0, le=1)]] | None
    looks: int | None = Field(default=None, ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    finished: str
