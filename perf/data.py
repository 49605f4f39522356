"""What an epoch's batches cost beside the steps they are for, and how soon the command line answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from bench.compute.speedups import Fast, enabled
from bench.data.augment import Policy, batches, plan_epoch
from bench.data.dataset import Split, to_float
from bench.models import build_model
from bench.training.step import TrainingStep
from perf.timing import Row, by_turns

if TYPE_CHECKING:
    from perf.__main__ import Options

IMAGES, BATCH_SIZE = 6400, 128


def rows(options: Options) -> Iterator[Row]:
    """Augmented batches against SAT's steps on them (a ratio of 50 is 2 %); `bench --help` against `import torch`."""
    torch.manual_seed(0)
    split = Split(torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8), torch.randint(10, (IMAGES,)))
    student = Fast(build_model("resnet18", 10, 3), "bf16", enabled())
    step = TrainingStep.from_recipe("sat", student, fused=True)
    x, y = to_float(split.images[:BATCH_SIZE]).contiguous(memory_format=torch.channels_last), split.labels[:BATCH_SIZE]

    def load() -> None:
        """A batch's share of an epoch, the epoch's plan included."""
        for images, _, _ in batches(split, plan_epoch(IMAGES, 0, 1, Policy(4, True)), BATCH_SIZE):
            to_float(images)

    steps, loads = by_turns(lambda: step(x, y), load, options.repeats)
    each = tuple(seconds * BATCH_SIZE / IMAGES for seconds in loads)
    what = f"data of a step: a batch of {BATCH_SIZE} of {IMAGES} images of 32x32, shuffled, cropped, mirrored"
    yield Row(what, "SAT's step on it, resnet18, bf16", "the batch", steps, each, target=50)
    for command in (["-m", "bench", "--help"], ["-c", "import bench"]):
        times = by_turns(lambda: start("-c", "import torch"), lambda command=command: start(*command), options.repeats)  # type: ignore[misc]
        yield Row(f"a process with {' '.join(command)}", "import torch", " ".join(command), *times)


def start(*arguments: str) -> None:
    """A Python process from its start to its end."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
