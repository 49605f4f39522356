"""What a training run is between two steps: all that decides how it goes on, as one thing that is saved and loaded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.defense import Defense
from bench.models.checkpoints import weights_hash
from bench.recipes.training import Selection
from bench.training.averaging import Averaged
from bench.training.loss_means import LossMeans
from bench.training.monitor import CollapseWatch

_VALUES = ("epoch", "step", "ended", "best", "best_weights", "seconds")
_PARTS = ("student", "optimizer", "defense", "watch")
"""Saved by the `state_dict` of each; the loss means lie among the values."""


@dataclass
class RunState:
    """Where a run stands, with all that its next step depends on.

    Attributes:
        epoch, step: how many steps of this epoch (from 1) are done.
        ended: whether the defense was told that this epoch is over.
        average: of the student, which is selected in its place; None where there is none.
        companions: networks of the defense's own, by name.
        best: of the selected weights: "score", by `Selection.score`, "epoch", "accuracy" (of the student),
            "checkpoint", their SHA-256. best_weights: themselves, on the CPU; None before any is selected.
        plain_weights: with an average, the student's own when it was selected.
    """

    student: nn.Module
    optimizer: torch.optim.Optimizer
    defense: Defense
    watch: CollapseWatch
    means: LossMeans
    average: Averaged | None = None
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    epoch: int = 1
    step: int = 0
    ended: bool = False
    best: dict[str, Any] = field(default_factory=lambda: {"score": -1.0, "epoch": 0, "accuracy": None})
    best_weights: dict[str, Tensor] | None = None
    plain_weights: dict[str, Tensor] | None = None
    _seconds_before: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and step."""
        return self.epoch, self.step

    @property
    def seconds(self) -> float:
        """Training time, all sittings together."""
        return self._seconds_before + time.monotonic() - self._since

    @seconds.setter
    def seconds(self, before: float) -> None:
        self._seconds_before, self._since = before, time.monotonic()

    def to_dict(self) -> dict[str, Any]:
        """What a continued run needs: tensors and plain values, nested. Every process has to ask, for all sum up."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        of_average: dict[str, Any] = {}
        if self.average is not None:
            of_average = {"average": self.average.state_dict(), "plain_weights": self.plain_weights}
        if self.companions:
            parts["companions"] = {name: each.state_dict() for name, each in self.companions.items()}
        return {name: getattr(self, name) for name in _VALUES} | parts | of_average | self.means.state_dict()

    def load(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Be what was saved; raises whatever the parts do about a state that is not of this version.

        Args:
            device: where the networks are; a defense's state is there too, as if it had been computed there.
        """
        parts = {name: saved[name] for name in _PARTS} | {"defense": _moved(saved["defense"], device)}
        for name, state in parts.items():
            getattr(self, name).load_state_dict(state)
        for name in _VALUES:
            setattr(self, name, saved[name])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
            self.plain_weights = saved["plain_weights"]
        for name, network in self.companions.items():
            network.load_state_dict(saved["companions"][name])
        self.means.load_state_dict(saved, device)

    def select(self, accuracy: Mapping[str, float], selection: Selection) -> bool:
        """Select the student as it is now where it is better than what was, or the last; whether it is selected.

        Where an average is to be selected, nothing is before it has begun.

        Args:
            accuracy: clean and robust, 0 to 1.
        """
        if self.average is not None and not self.average.begun:
            return False
        score = selection.score(accuracy)
        if selection.keep == "best" and score <= self.best["score"]:
            return False
        chosen = self.selectable
        checkpoint = weights_hash(chosen)
        self.best = {"score": score, "epoch": self.epoch, "accuracy": accuracy, "checkpoint": checkpoint}
        self.best_weights = _kept(chosen)
        self.plain_weights = None if self.average is None else _kept(self.student)
        return True

    @property
    def selectable(self) -> nn.Module:
        """The network that is selected and kept: the average, where there is to be one."""
        return self.student if self.average is None else self.average.bare

    def next_epoch(self) -> None:
        """All of this epoch is done."""
        self.epoch, self.step, self.ended = self.epoch + 1, 0, False
        self.means.forget()


def _moved(state: Any, device: torch.device) -> Any:
    """A nested state with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: _moved(value, device) for name, value in state.items()}
    return type(state)(_moved(value, device) for value in state) if isinstance(state, (list, tuple)) else state


def _kept(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights on the CPU, as they are now."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
