"""The summary of a trained run that is missing, made anew from what else is in the run's folder."""

from __future__ import annotations

from bench.compute.ranks import ranks
from bench.errors import BenchError
from bench.jobs.session import Session
from bench.models.checkpoints import read_state_dict, weights_hash
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, Summary
from bench.system.files import DIGEST
from bench.system.text import now, one_line


def restore(session: Session, folder: RunFolder, config: RunConfig) -> None:
    """Rebuild the lost summary of a run from its selected weights and the lines of its epochs.

    Raises:
        BenchError: they do not determine it; nothing is changed.
    """
    found = ranks().from_first(_summary_of(folder, config) if ranks().first else None)
    if isinstance(found, str):
        raise BenchError(
            f"{folder.path / 'summary.json'} is missing, though the run has been trained, and {found}.\n"
            "Restore the file, or train the run again with --restart."
        )
    folder.finish(found)
    session.reporter.say(
        f"{folder.path / 'summary.json'} was missing; it was rebuilt from the run's weights and metrics."
    )


def _summary_of(folder: RunFolder, config: RunConfig) -> Summary | str:
    """The summary of a finished run by what else is in its folder, or why that does not tell."""
    try:
        folder.config()
        state, metadata = read_state_dict(folder.best)
    except BenchError as error:
        return one_line(str(error).split("\n")[0]).rstrip(".")
    if metadata.get("run") != folder.id or not {DIGEST, "epoch"} <= metadata.keys():
        return f"{folder.best} does not tell whether it is whole and of this run"
    lines = {line["epoch"]: line for line in folder.metrics() if line["kind"] == "epoch"}
    try:
        selected = int(metadata["epoch"])
        return Summary(
            checkpoint=weights_hash(state),
            selected_epoch=selected,
            selected_on=config.selection.name,
            accuracy=lines[selected]["accuracy"]["student"],
            looks=config.looks,
            seconds=lines[config.epochs]["seconds"],
            finished=now(),
        )
    except (LookupError, TypeError, ValueError) as error:
        return f"metrics.jsonl does not tell what was selected ({type(error).__name__})"
