"""Checkpoints from elsewhere: a teacher a user names, a model a user wants attacked."""

from __future__ import annotations

from torch import nn

from bench.compute.ranks import ranks
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.jobs.session import Session
from bench.models.checkpoints import load_and_normalise
from bench.models.references import Found, locate


def find(session: Session, text: str, dataset: Dataset) -> Found:
    """The checkpoint a user names (`bench.models.references`); of several processes the first one fetches it."""
    found: Found | BenchError | None = None
    if ranks().first:
        try:
            found = locate(text, session.home.models, dataset.name)
        except BenchError as error:
            found = error
    found = ranks().from_first(found)
    if isinstance(found, BenchError):
        raise found
    assert found is not None
    return found


def load_foreign(session: Session, found: Found, dataset: Dataset) -> tuple[nn.Module, str]:
    """A network with a checkpoint's weights, and its spec; a message says what was chosen for the user.

    Where the architecture is not said, it is read from the file, or inferred from its keys and shapes. Without `@NORM`
    the normalisation that fits the training images best is taken.
    """
    path, model = found.path, found.model
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
