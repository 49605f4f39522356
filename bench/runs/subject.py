"""The subject of a finished run's record."""

from __future__ import annotations

from bench.records.record import Subject, TrainingCost
from bench.runs.folder import RunFolder
from bench.runs.networks import summary_of
from bench.vocabulary import PLAIN, Checkpoint


def run_subject(folder: RunFolder, which: Checkpoint = "best") -> Subject:
    """The subject of a finished run's record: a network that it keeps, by default its selected student or teacher."""
    config, summary = folder.config(), summary_of(folder, which)
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
        procedure=config.procedure,
        teachers={ref.role: ref.checkpoint for ref in config.teachers},
        teacher_names={ref.role: ref.known_as for ref in config.teachers},
        teacher_seeds=any(ref.own_seed for ref in config.teachers),
        selection=summary.selected_on,
        looks=config.looks if summary.looks is None else summary.looks,
        checkpoint=summary.checkpoint,
        checkpoint_of=which,
        average=None if config.average is None or which in PLAIN.values() else str(config.average),
        training=None if device is None else TrainingCost(seconds=summary.seconds, device=device),
    )
