"""Which weights of a run are kept as files: the selected and last ones, companions, teachers that went on learning."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from bench.errors import BenchError
from bench.models.checkpoints import SPEC_KEY, read_state_dict, weights_hash
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder
from bench.training.run_state import RunState
from bench.vocabulary import PLAIN


@dataclass(frozen=True)
class KeptWeights:
    """Writes the weights of a run, each with what it is of.

    With an average of the student `best` and `last` are the average's, and the student's own lie beside them.
    """

    folder: RunFolder
    config: RunConfig
    state: RunState

    def save_selected(self) -> None:
        """Write the selected weights, and with an average the student's own at that time."""
        state = self.state
        for name, weights in (("best", state.best_weights), (PLAIN["best"], state.plain_weights)):
            if weights is not None:
                network = copy.deepcopy(state.student)
                network.load_state_dict(weights)
                self._save(name, network, self.config.student)

    def restore_selected(self) -> None:
        """Put the selected weights back where a file is damaged, or of an epoch that this run has yet to repeat."""
        best, plain, state = self.folder.best, self.folder.path / f"{PLAIN['best']}.safetensors", self.state
        kept = [(best, state.best_weights), (plain, state.plain_weights)]
        try:
            whole = all(
                weights_hash(read_state_dict(path)[0]) == weights_hash(weights) for path, weights in kept if weights
            )
        except BenchError:
            whole = False
        if not whole:
            self.save_selected()

    def save_last(self, teachers: Mapping[str, nn.Module]) -> None:
        """Write the final weights, those of companions too; of the teachers, by role, those that went on learning."""
        self._save("last", self.state.selectable, self.config.student)
        if self.state.average is not None:
            self._save(PLAIN["last"], self.state.student, self.config.student)
        for ref in self.config.teachers:
            network = teachers[ref.role]
            if weights_hash(network) != ref.checkpoint:
                self._save(f"{ref.role}-teacher", network, ref.model)
        for name, each in self.state.defense.companions().items():
            self._save(name, self.state.companions[name], each.spec(self.config.student))

    def _save(self, name: str, network: nn.Module, spec: str) -> None:
        data = self.config.data
        metadata = {
            SPEC_KEY: spec,
            "num_classes": str(data.classes),
            "in_channels": str(data.in_channels),
            "run": self.folder.id,
        }
        if name.startswith("best"):
            metadata["epoch"] = str(self.state.best["epoch"])
        if self.config.average is not None and name in PLAIN:
            metadata["average"] = str(self.config.average)
        self.folder.save_weights(name, network, metadata)
