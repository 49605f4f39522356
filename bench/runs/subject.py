"""The subject of a finished run's record."""

from __future__ import annotations

from bench.errors import BenchError
from bench.records.record import Subject, TrainingCost
from bench.runs.folder import RunFolder


def run_subject(folder: RunFolder) -> Subject:
    """The subject of a finished run's record: its selected student, or the teacher it trained."""
    config, summary = folder.config(), folder.summary()
    if summary is None:
        raise BenchError(f"The run {folder.id} is not finished.\nContinue it with the `bench run` that began it.")
    device = folder.device()
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
        teacher_names={ref.role: ref.known_as for ref in config.teachers},
        selection=summary.selected_on,
        checkpoint=summary.checkpoint,
        training=None if device is None else TrainingCost(seconds=summary.seconds, device=device),
    )
