"""What is exported: a finished run's selected network, and all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.data.dataset import Dataset, to_float
from bench.errors import BenchError
from bench.jobs.session import Session
from bench.models import split_spec
from bench.models.normalise import statistics
from bench.records.index import home_records
from bench.records.networks import measured_under
from bench.records.record import Record
from bench.runs.config import RunConfig
from bench.runs.folder import RunFolder, Summary, find_run
from bench.runs.networks import network_of, summary_of
from bench.threat import Threat
from bench.vocabulary import PLAIN, Checkpoint

CHECKED_IMAGES = 256
"""Test images on which an exported file is compared with the original; fewer where there are not so many."""


@dataclass(frozen=True)
class Source:
    """A network to export.

    Attributes:
        network: on the CPU in eval mode, images in [0, 1] to logits.
        records: of every evaluation of these very weights.
        which: of the networks that the run keeps; `summary` is as if it had selected this one.
    """

    folder: RunFolder
    config: RunConfig
    summary: Summary
    network: nn.Module
    dataset: Dataset
    records: tuple[Record, ...]
    which: Checkpoint = "best"

    @property
    def average(self) -> str:
        """Of what its weights are an average, in words; empty where they are none."""
        average = self.config.average
        return "" if average is None or self.which in PLAIN.values() else str(average)

    @property
    def images(self) -> Tensor:
        """The first test images, float32 in [0, 1], shape (n, C, H, W)."""
        return to_float(self.dataset.test.first(CHECKED_IMAGES).images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.dataset.test.images.shape[1:]
        return channels, height, width

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """(mean, standard deviation) by channel of what the network does to its images first."""
        mean, std = statistics(split_spec(self.config.student)[1], self.config.data.in_channels)
        return mean.flatten().tolist(), std.flatten().tolist()

    @property
    def metadata(self) -> dict[str, str]:
        """What every exported file says of itself."""
        return {"run": self.folder.id, "checkpoint": self.summary.checkpoint, "input": "images in [0, 1], NCHW"}

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """The original's, shape (n, classes)."""
        return torch.cat([self.network(batch) for batch in images.split(64)])


def load_source(session: Session, run: str, which: Checkpoint = "best", threat: Threat | float | None = None) -> Source:
    """Load a network of a finished run for export; `run` as for `find_run`.

    Args:
        threat: the records of this alone; a number: of this radius in the norm that it was trained in.

    Raises:
        BenchError: there is no such network, or it was not evaluated under the threat.
    """
    folder = find_run(session.home, run)
    network, config, summary = network_of(folder, which), folder.config(), summary_of(folder, which)
    known = home_records(session.home, which)
    records = [record for record in known if record.subject.checkpoint == summary.checkpoint]
    if threat is not None:
        wanted = threat if isinstance(threat, Threat) else config.data.threat.at(threat)
        if not records:
            raise BenchError(
                f"{folder.id} was not evaluated under {wanted}.\nDo that first: bench eval --threat {wanted}."
            )
        records = measured_under(records, wanted)
    return Source(folder, config, summary, network, session.dataset(config.data.spec), tuple(records), which)
