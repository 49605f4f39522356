"""How records name what was evaluated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from bench.evaluation.suites import Suite
from bench.records.record import Subject, TrainingCost
from bench.runs.folder import RunFolder
from bench.vocabulary import Role, usual_eps


def run_subject(folder: RunFolder) -> Subject:
    """The subject of a finished run's record: its selected student, or the teacher it trained."""
    config, summary = folder.config(), folder.summary()
    if summary is None:
        raise BenchError(f"The run {folder.id} is not finished.\nContinue it with the `bench run` that began it.")
    return Subject(
        kind="teacher" if config.role else "student",
        run=folder.id,
        method=config.method,
        label=config.label,
        overrides=config.overrides,
        role=config.role,
        model=config.student,
        seed=config.seed,
        recipe=config.recipe,
        setting=config.setting,
        teachers={ref.role: ref.checkpoint for ref in config.teachers},
        selection=summary.selected_on,
        checkpoint=summary.checkpoint,
        training=_training_cost(folder, summary.seconds),
    )


def _training_cost(folder: RunFolder, seconds: float) -> TrainingCost | None:
    """What a run took; None where nothing tells on which device."""
    device = (folder.environment() or {}).get("hardware")
    return TrainingCost(seconds=seconds, device=device) if isinstance(device, str) else None


def foreign_subject(
    kind: Literal["teacher", "checkpoint"], source: str, model: str, checkpoint: str, role: Role | None = None
) -> Subject:
    """The subject of a file from elsewhere."""
    stem = Path(source).stem
    return Subject(
        kind=kind,
        run=None,
        method=stem,
        label=stem,
        overrides={},
        role=role,
        model=model,
        seed=None,
        recipe=None,
        setting="checkpoint from elsewhere",
        selection="unknown",
        checkpoint=checkpoint,
    )


def record_id(subject: Subject, dataset: str, suite: Suite, how: str, n: int, eps: float | None) -> str:
    """The name of a record: the same evaluation of the same weights has the same one.

    Args:
        how: its conduct, and a seed that is not 0. n: samples.
        eps: the dataset's; None leaves it out, as the usual one of a dataset's name always is.
    """
    if eps is not None and eps != usual_eps(dataset):
        levels = round(255 * eps)
        how += f"-eps{levels}of255" if eps == levels / 255 else f"-eps{eps!r}"
    what = subject.method if subject.role is None else f"{subject.method}_{subject.role}-teacher"
    name = subject.run or f"{dataset}_{subject.model}_{what}_{subject.checkpoint[:8]}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}__{suite.name}-{how.replace(', ', '-')}-n{n}")
