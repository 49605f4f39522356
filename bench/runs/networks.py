"""The networks that a finished run keeps: which there are, what was selected of each, and the networks themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bench.errors import BenchError
from bench.models.checkpoints import load_model, read_metadata, read_state_dict, weights_hash
from bench.runs.folder import RunFolder
from bench.runs.summary import Summary
from bench.system.text import one_line
from bench.vocabulary import PLAIN, Checkpoint, Evaluated


def kept(folder: RunFolder) -> list[Checkpoint]:
    """The networks that a finished run keeps."""
    return ["best", "last", *(PLAIN.values() if folder.config().average is not None else ())]


def evaluated(folder: RunFolder, which: Evaluated) -> list[Checkpoint]:
    """The networks of a run that an evaluation attacks, an average before the student itself."""
    wanted: list[Checkpoint] = ["best", "last"] if which == "both" else [which]
    return wanted + [PLAIN[each] for each in wanted if PLAIN[each] in kept(folder)]


def summary_of(folder: RunFolder, which: Checkpoint) -> Summary:
    """The summary of a finished run as if one of its networks were what it had selected.

    Raises:
        BenchError: the run is not finished, or keeps no such network.
    """
    summary = folder.summary()
    if summary is None:
        raise BenchError(f"The run {folder.id} is not finished.\nContinue it with the `bench run` that began it.")
    if which == "best":
        return summary
    if which not in kept(folder):
        raise BenchError(f"The run {folder.id} has no {which} network: it averages none.\nName best or last.")
    state, metadata = read_state_dict(_path(folder, which))
    _check_owner(folder, which, metadata)
    changed: dict[str, Any] = {"checkpoint": weights_hash(state), "accuracy": None}
    if which in ("last", PLAIN["last"]):
        changed |= {"selected_on": "last", "selected_epoch": folder.config().epochs, "looks": 0}
    return summary.model_copy(update=changed)


def network_of(folder: RunFolder, which: Checkpoint = "best", network: nn.Module | None = None) -> nn.Module:
    """A network that a finished run keeps, on the CPU in eval mode; by default what it selected.

    Args:
        network: takes the weights; needed where no name builds it.

    Raises:
        BenchError: the run is not finished, or the weights are not those that it selected.
    """
    config, summary, path = folder.config(), summary_of(folder, which), _path(folder, which)
    if network is not None:
        network.cpu().load_state_dict(read_state_dict(path)[0])
        network.eval()
    elif "student" in config.own:
        raise BenchError(
            f"The run {folder.id} trained a network that was given from Python ({config.student}), and no name "
            "builds it.\nCall the bench.train() that made it: its result is that network."
        )
    else:
        network, _ = load_model(path, config.student, config.data.classes, config.data.in_channels)
    _check_owner(folder, which, read_metadata(path))
    if weights_hash(network) != summary.checkpoint:
        raise BenchError(
            f"{path} is not what the run {folder.id} selected (its weights were changed).\n"
            "Train it again with --restart."
        )
    return network


def _path(folder: RunFolder, which: Checkpoint) -> Path:
    return folder.path / f"{which}.safetensors"


def _check_owner(folder: RunFolder, which: Checkpoint, metadata: Mapping[str, str]) -> None:
    owner = metadata.get("run", folder.id)
    if owner != folder.id:
        raise BenchError(
            f"{_path(folder, which)} holds the weights of the run {one_line(owner)}, not of {folder.id}.\n"
            "Restore it, or train the run again with --restart."
        )
