"""Some training steps of every method, in one process or in several (see test_ranks.py); writes what they came to.

Usage: script.py OUT [--batch-norm]; with several processes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.ranks import joined, ranks
from bench.compute.sync_bn import synchronised
from bench.defense import Models
from bench.models import build_model
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
    *(("peeraid", "official"), ("lbgat", "official"), ("adr", "official")),
    *(("akd", "official"), ("dgad", "paper"), ("dgad", "official"), ("hat", "official"), ("iad", "paper")),
    *(("kd-swa", "official"), ("mart", "official"), ("sat-wa", "paper")),
    *(("sat-awp", "official"), ("trades-awp", "official")),
]
COMPANIONS = {"peeraid": ["peer"], "lbgat": ["guide"]}
"""Networks of a method's own that learn."""


SETTINGS = {("dgad", "official"): {"product": True}}


def network(seed: int) -> nn.Module:
    """With batch normalisation, its statistics are those of all processes' samples."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6) if "--batch-norm" in sys.argv else nn.Identity()
    built = nn.Sequential(nn.Conv2d(1, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 10)).double()
    return synchronised(built)


def transformer(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("digits-vit", 10, 1).double()


AWP, EMA, SWA = WeightPerturbation, Average(kind="ema", decay=0.9), Average(kind="swa", from_epoch=1)
OPTIONS: list[tuple[str, str, Callable[[int], nn.Module], Schedule, dict[str, Any]]] = [
    ("trades", "official", network, Schedule(kind="one-cycle", warmup=2), {"awp": AWP(), "average": EMA}),
    (
        "ciard",
        "official",
        network,
        Schedule(kind="multistep", milestones=(50,)),
        {"awp": AWP(from_epoch=2), "average": SWA},
    ),
    ("sat", "paper", transformer, Schedule(kind="constant"), {"awp": AWP(), "average": SWA}),
    ("peeraid", "official", network, Schedule(kind="constant"), {"awp": AWP(), "average": SWA}),
]


def train(
    method: str,
    variant: str,
    build: Callable[[int], nn.Module] = network,
    schedule: Schedule | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The student's weights, the loss of each step and the method's state after some steps, half of them learning.

    With options, those of a training, also the average; the optimizer is then AdamW with clipped gradients.
    """
    teachers: dict[str, nn.Module] = {
        role: network(seed) for seed, role in enumerate(method_class(method).roles, start=1)
    }
    student = build(0)
    settings: dict[str, Any] = {} if method == "natural" else {"steps": 3, **SETTINGS.get((method, variant), {})}
    settings |= {"clean_weight": 0.5} if method == "saad" else {}  # else nothing looks at the greatest entropy
    own = {name: network(3) for name in COMPANIONS.get(method, ())}
    step = TrainingStep.from_recipe(method, student, teachers, companions=own, variant=variant, settings=settings)
    if options and schedule:
        adamw = Optimizer(kind="adamw", lr=0.01, clip=0.1, decay_norms=False)
        step = TrainingStep(step.defense, Models(student, teachers, own), adamw, schedule, 100, **options)
    losses = []
    for i in range(2 * STEPS):
        source = torch.Generator().manual_seed(i)
        x, y = torch.rand(BATCH, 1, 8, 8, generator=source, dtype=torch.float64), torch.arange(BATCH) * 7 % 10
        part = ranks().part(BATCH)
        epoch = 1 if i < STEPS else 100
        whole: dict[str, Any] = {"whole": BATCH, "first": part.start, "generator": source}
        loss = step(x[part], y[part], epoch=epoch, step=i, steps=2 * STEPS, **whole)
        losses.append(ranks().across(loss.total))
        if i == STEPS - 1:
            step.end_epoch(epoch)
    tensors = {f"student.{name}": value for name, value in student.state_dict().items()}
    for name, companion in step.models.companions.items():
        tensors |= {f"{name}.{key}": value for key, value in companion.state_dict().items()}
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
        for method, variant, build, schedule, options in OPTIONS:
            found[f"{method} {variant} with options"] = train(method, variant, build, schedule, options)
        torch.save(found, Path(sys.argv[1]) / f"rank{processes.rank}.pt")
