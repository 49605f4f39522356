"""A CIARD training step (resnet18; teachers resnet56 and wrn-34-10) beside the plain script's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from bench.compute.speedups import Fast, enabled
from bench.models import build_model
from bench.training.step import TrainingStep
from perf.plain_ciard import PlainCIARD
from perf.timing import Row, by_turns

if TYPE_CHECKING:
    from perf.__main__ import Options

BATCH_SIZE = 64
EPOCHS = {"frozen": 1, "learning": 100}


def rows(options: Options) -> Iterator[Row]:
    """One row while the robust teacher is frozen, one once it learns."""
    torch.manual_seed(0)
    networks = [build_model(name, 10, 3) for name in ("resnet18", "wrn-34-10", "resnet56")]
    student, robust, clean = (Fast(copy.deepcopy(network), "bf16", enabled()) for network in networks)
    plain = PlainCIARD(*networks)
    fast = TrainingStep.from_recipe("ciard", student, {"robust": robust, "clean": clean}, fused=True)
    n = options.batch_size or BATCH_SIZE
    x, y, noise = torch.rand(n, 3, 32, 32), torch.arange(n) % 10, torch.randn(n, 3, 32, 32)
    x_fast = x.contiguous(memory_format=torch.channels_last)
    for (phase, epoch), target in zip(EPOCHS.items(), (2.8, 2.5), strict=True):
        times = by_turns(
            lambda learns=phase == "learning": plain(x, y, noise, learns),  # type: ignore[misc]
            lambda epoch=epoch: fast(x_fast, y, epoch=epoch, noise=noise),  # type: ignore[misc]
            options.repeats,
        )
        what = f"CIARD official step, batch {n}, teacher {phase}"
        yield Row(what, "plain float32, order of the released script", "trainer, bf16", *times, target=target)
