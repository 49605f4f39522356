"""Whether speed costs learning: loss curves of the plain CIARD step and of the trainer's bf16 step, on CIFAR-10 images.

`python -m perf.loss_curves parquet:DIR --clean FILE --out curves.json` trains both for some steps from the same
weights on the same batches with the same attack noise, once a seed, and says where their curves lie.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch

from bench.compute.seeding import generator
from bench.compute.speedups import Fast, enabled
from bench.data import load_dataset
from bench.data.augment import Policy, batches, plan_epoch
from bench.data.dataset import Dataset, to_float
from bench.models import build_model
from bench.models.checkpoints import load_and_normalise
from bench.system import provenance
from bench.training.step import TrainingStep
from perf.plain_ciard import PlainCIARD

BATCH_SIZE = 64


@click.command()
@click.argument("dataset")
@click.option("--clean", type=click.Path(path_type=Path, exists=True), required=True, help="A resnet56's weights.")
@click.option("--robust", default="wrn-34-10", show_default=True, help="Architecture; its weights are random.")
@click.option("--student", default="resnet18", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option(
    "--window", type=click.IntRange(min=1), default=5, show_default=True, help="Steps a point is the mean of."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON; written after each seed.")
def main(dataset: str, clean: Path, robust: str, student: str, steps: int, seeds: int, window: int, out: Path) -> None:
    """Train both ways and compare the curves."""
    data = load_dataset(dataset, Path("data"))
    teacher = load_and_normalise(clean, None, data.num_classes, data.in_channels, data.train, torch.device("cpu"))
    curves: dict[str, list[list[float]]] = {"plain float32": [], "trainer bf16": []}
    for seed in range(seeds):
        torch.manual_seed(seed)
        networks = [build_model(name, data.num_classes, data.in_channels) for name in (student, robust)]
        networks.append(teacher.model)
        plain = PlainCIARD(*copy.deepcopy(networks))
        fast_student, fast_robust, fast_clean = (
            Fast(network, "bf16", enabled()) for network in copy.deepcopy(networks)
        )
        fast = TrainingStep.from_recipe("ciard", fast_student, {"robust": fast_robust, "clean": fast_clean}, fused=True)
        for curve in curves.values():
            curve.append([])
        for x, y, noise in _batches(data, seed, steps):
            curves["plain float32"][-1].append(plain(x, y, noise))
            x = x.contiguous(memory_format=torch.channels_last)
            curves["trainer bf16"][-1].append(float(fast(x, y, noise=noise).total))
        result: dict[str, Any] = {
            "student": student,
            "robust teacher": f"{robust}, random weights",
            "clean teacher": teacher.spec,
            "dataset": data.name,
            "batch size": BATCH_SIZE,
            "window": window,
            "curves": curves,
            "environment": provenance.describe(torch.device("cpu")),
        }
        if seed:
            result["verdict"] = verdict(curves, window)
            click.echo(f"after {seed + 1} seeds: {result['verdict']}")
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _batches(data: Dataset, seed: int, steps: int) -> Any:
    """(images, labels, attack noise) for each step, augmented."""
    plan = plan_epoch(len(data.train), seed, 1, Policy(data.padding, data.flip))
    for step, (images, labels, _) in enumerate(batches(data.train, plan, BATCH_SIZE)):
        if step == steps:
            return
        yield to_float(images), labels, torch.randn(images.shape, generator=generator(seed, "attack", 1, step))


def verdict(curves: dict[str, list[list[float]]], window: int) -> dict[str, float]:
    """How the two sets of curves lie, each point the mean over a window of steps.

    Returns:
        points: how many there are. overlapping: the share of points at which the ranges over seeds overlap.
        largest_gap: largest distance between the two means over seeds, in units of the plain curves' own range over
            seeds at that point.
    """
    plain, fast = ([smoothed(curve, window) for curve in side] for side in curves.values())
    overlapping, gaps = 0, []
    points = len(plain[0])
    for i in range(points):
        a, b = [curve[i] for curve in plain], [curve[i] for curve in fast]
        overlapping += max(min(a), min(b)) <= min(max(a), max(b))
        gaps.append(abs(mean(a) - mean(b)) / (max(a) - min(a)))
    return {"points": points, "overlapping": overlapping / points, "largest_gap": max(gaps)}


def smoothed(curve: list[float], window: int) -> list[float]:
    """Means over windows of steps, one after the other."""
    return [mean(curve[i : i + window]) for i in range(0, len(curve) - window + 1, window)]


if __name__ == "__main__":
    main()
