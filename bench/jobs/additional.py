"""Additional training images: what is asked for, checked against the dataset, as a run names it."""

from __future__ import annotations

from numbers import Real
from pathlib import Path

from bench.data.dataset import Dataset, Split
from bench.data.npz import additional_file
from bench.errors import BenchError
from bench.jobs.session import Session, absolute_spec
from bench.recipes.training import Extra
from bench.runs.config import ExtraRef


def check(source: str | None, share: float | None) -> None:
    """Find mistakes in what the user asks for, as far as the file need not be read."""
    if source is not None:
        additional_file(source)
    if share is not None and not (isinstance(share, Real) and 0 < share <= 1):  # NaN is neither
        raise BenchError(f"--extra-share {share}: give a share above 0 and at most 1, such as 0.7.")


def asked_for(source: str | None, share: float | None, of_recipe: Extra | None) -> Extra | None:
    """The additional images of a run: the user's source and share, or else the recipe's.

    Raises:
        BenchError: a share without images or images without a share; a share that is none.
    """
    if source is None and share is None:
        return of_recipe and of_recipe.model_copy(update={"source": absolute_spec(of_recipe.source)})
    if of_recipe is not None:
        source, share = source or of_recipe.source, of_recipe.share if share is None else share
    if source is None or share is None:
        raise BenchError(
            "--extra and --extra-share go together.\nWrite --extra npz:FILE --extra-share 0.7, say: FILE's images are "
            "then 70 % of every batch."
        )
    check(None, share)
    return Extra(source=absolute_spec(source), share=share)


def loaded(session: Session, asked: Extra, dataset: Dataset) -> Split:
    """The images.

    Raises:
        BenchError: they do not go with the dataset: images of another shape, or labels that it does not have.
    """
    split = session.additional(asked.source)
    given, wanted = (tuple(images.shape[1:]) for images in (split.images, dataset.train.images))
    if given != wanted:
        raise BenchError(
            f"The images of {asked.source} are {given}, those of {dataset.name} {wanted} (channels, height, width).\n"
            "Give additional images of the dataset's own shape."
        )
    for mistake in split.mistakes(dataset.num_classes):
        raise BenchError(f"The additional images {asked.source}: {mistake}")
    return split


def ref(asked: Extra, split: Split) -> ExtraRef:
    """The images as a run names them."""
    name = f"npz:{Path(asked.source).stem}"
    return ExtraRef(name=name, spec=asked.source, fingerprint=split.fingerprint, n=len(split), share=asked.share)
