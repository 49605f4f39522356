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
from bench.recipes.hyperparameters import method_class
from bench.training.step import TrainingStep

STEPS, BATCH = 3, 13
METHODS = [
    *(("natural", "paper"), ("sat", "paper"), ("trades", "official"), ("score", "paper"), ("ard", "official")),
    *(("rslad", "official"), ("fair-ard", "official"), ("absld", "official"), ("mtard", "official")),
    *(("b-mtard", "official"), ("dard", "paper"), ("dard", "released"), ("pgdard", "paper")),
    *(("ciard", "paper"), ("ciard", "official")),
]


def network(seed: int) -> nn.Module:
    """With batch normalisation, its statistics are those of all processes' samples."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6) if "--batch-norm" in sys.argv else nn.Identity()
    built = nn.Sequential(nn.Conv2d(1, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 10)).double()
    return synchronised(built)


def train(method: str, variant: str) -> dict[str, Any]:
    """The student's weights, the loss of each step and the method's state after some steps, half of them learning."""
    teachers = {role: network(seed) for seed, role in enumerate(method_class(method).roles, start=1)}
    student = network(0)
    settings = {} if method == "natural" else {"steps": 3}
    step = TrainingStep.from_recipe(method, student, teachers, variant=variant, settings=settings)
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
        torch.save(found, Path(sys.argv[1]) / f"rank{processes.rank}.pt")
