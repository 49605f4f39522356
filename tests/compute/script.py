"""Some training steps of every method, in one process or in several (see test_ranks.py); writes what they came to.

Usage: script.py OUT [--batch-norm]; with several processes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.ranks import joined, ranks
from bench.compute.sync_bn import synchronised
from bench.defense import Models
from bench.recipes.hyperparameters import method_class
from bench.recipes.schedule import Schedule
from bench.recipes.training import Average, Optimizer, WeightPerturbation
from bench.training.step import TrainingStep

STEPS, BATCH = 3, 13
METHODS = [
    *(("natural", "paper"), ("sat", "paper"), ("trades", "official"), ("score", "paper"), ("ard", "official")),
    *(("rslad", "official"), ("fair-ard", "official"), ("absld", "official"), ("mtard", "official")),
    *(("b-mtard", "official"), ("dard", "paper"), ("dard", "released"), ("pgdard", "paper")),
    *(("ciard", "paper"), ("ciard", "official"), ("adaad", "official"), ("adaiad", "official"), ("saad", "official")),
    *(("igdm-sat", "paper"), ("igdm-trades", "paper"), ("igdm-ard", "paper")),
    *(("igdm-rslad", "official"), ("igdm-adaad", "official")),
    *(("akd", "official"), ("dgad", "paper"), ("dgad", "official"), ("hat", "official"), ("iad", "paper")),
    *(("kd-swa", "official"), ("mart", "official"), ("sat-wa", "paper"), ("trades-awp", "official")),
]


SETTINGS = {("dgad", "official"): {"product": True}}


def network(seed: int) -> nn.Module:
    """With batch normalisation, its statistics are those of all processes' samples."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6) if "--batch-norm" in sys.argv else nn.Identity()
    built = nn.Sequential(nn.Conv2d(1, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 10)).double()
    return synchronised(built)


OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("trades", "official", {"awp": WeightPerturbation(), "average": Average(kind="ema", decay=0.9)}),
    ("ciard", "official", {"awp": WeightPerturbation(from_epoch=2), "average": Average(kind="swa", from_epoch=1)}),
]


def train(method: str, variant: str, **options: Any) -> dict[str, Any]:
    """The student's weights, the loss of each step and the method's state after some steps, half of them learning.

    With options, those of a training, also the average; the optimizer is then AdamW with clipped gradients.
    """
    teachers: dict[str, nn.Module] = {
        role: network(seed) for seed, role in enumerate(method_class(method).roles, start=1)
    }
    student = network(0)
    settings: dict[str, Any] = {} if method == "natural" else {"steps": 3, **SETTINGS.get((method, variant), {})}
    settings |= {"clean_weight": 0.5} if method == "saad" else {}  # else nothing looks at the greatest entropy
    step = TrainingStep.from_recipe(method, student, teachers, variant=variant, settings=settings)
    if options:
        adamw, schedule = Optimizer(kind="adamw", lr=0.01, clip=0.1, decay_norms=False), Schedule(kind="constant")
        step = TrainingStep(step.defense, Models(student, teachers), adamw, schedule, 100, **options)
    losses = []
    for i in range(2 * STEPS):
        source = torch.Generator().manual_seed(i)
        x, y = torch.rand(BATCH, 1, 8, 8, generator=source, dtype=torch.float64), torch.arange(BATCH) * 7 % 10
        part = ranks().part(BATCH)
        epoch = 1 if i < STEPS else 100
        loss = step(x[part], y[part], epoch=epoch, step=i, generator=source, whole=BATCH, first=part.start)
        losses.append(ranks().across(loss.total))
        if i == STEPS - 1:
            step.end_epoch(epoch)
    tensors = {f"student.{name}": value for name, value in student.state_dict().items()}
    if step.average is not None:
        step.end_epoch(2)
        images = (torch.rand(BATCH, 1, 8, 8, generator=source, dtype=torch.float64) for _ in range(2))
        step.average.estimate(x[ranks().part(BATCH)] for x in images)
        tensors |= flat(step.average.state_dict(), "average.")
    return {"loss": torch.stack(losses), **tensors, **flat(step.defense.state_dict(), "state.")}


def flat(state: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors of a nested state by their path."""
    if isinstance(state, Tensor):
        return {prefix: state}
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {path: value for key, inner in pairs for path, value in flat(inner, f"{prefix}{key}.").items()}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with joined(torch.device("cpu")) as processes:
        found = {f"{method} {variant}": train(method, variant) for method, variant in METHODS}
        for method, variant, options in OPTIONS:
            found[f"{method} {variant} with options"] = train(method, variant, **options)
        torch.save(found, Path(sys.argv[1]) / f"rank{processes.rank}.pt")
