"""Checkpoints from elsewhere: a teacher a user names, a model a user wants attacked."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.jobs.session import Session
from bench.models.checkpoints import load_and_normalise


def split_model_file(text: str) -> tuple[str | None, Path]:
    """`FILE` or `MODEL:FILE` as (model or None, path); a file whose own name has a colon is found first."""
    whole = os.path.expanduser(text)
    model, colon, file = text.rpartition(":")
    if not colon or os.path.exists(whole):
        return None, Path(whole)
    if not model or not file:
        raise BenchError(f"{text!r} is no checkpoint.\nWrite FILE, or MODEL:FILE to say the architecture.")
    return model, Path(os.path.expanduser(file))


def load_foreign(session: Session, path: Path, model: str | None, dataset: Dataset) -> tuple[nn.Module, str]:
    """A network with the file's weights, and its spec; a message says what was chosen for the user.

    Args:
        model: architecture, with or without `@NORM`; None: read from the file, or inferred from its keys and shapes.
            Without `@NORM` the normalisation that fits the training images best is taken.
    """
    loaded = load_and_normalise(path, model, dataset.num_classes, dataset.in_channels, dataset.train, session.device)
    if loaded.layout:
        session.reporter.say(f"{path.name} names its layers otherwise ({loaded.layout}); read as {loaded.spec}.")
    if loaded.accuracies:
        tried = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in loaded.accuracies.items())
        session.reporter.say(
            f"{path.name} does not say how it wants its images normalised; clean accuracy on training images: "
            f"{tried}.\nTaken: {loaded.spec} (name it so to fix another)."
        )
    return loaded.model, loaded.spec
