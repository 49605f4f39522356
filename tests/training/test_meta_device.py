"""Every defense's step on a device without values: nothing is looked at, and no tensor lies anywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from bench import registry
from bench.compute.ranks import ranks
from bench.compute.speedups import SPEEDUPS, Fast
from bench.recipes.hyperparameters import method_class
from bench.training.loss_means import LossMeans
from bench.training.monitor import CollapseWatch
from bench.training.run_state import RunState
from bench.training.step import TrainingStep

from ..compute.script import COMPANIONS
from ..helpers.meta import Answering, assert_on_meta, autocasting, on_meta

EVERY = [(method, variant) for method in registry.names("methods") for variant in method_class(method).variants]

# PyTorch has no fused optimizer on `meta`, and graphs are CUDA's.
SPEED: dict[str, tuple[Any, Any]] = {"off": ("32", ()), "on": ("bf16", frozenset(SPEEDUPS) - {"fused", "graphs"})}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    # What a recipe's training may add to a step.
    "all": {"awp.gamma": 0.01, "optimizer.clip": 1.0, "average.kind": "ema", "average.decay": 0.9},
}
ON_CPU = torch.ones(2)


class Loop:
    """A run on `meta` from its first step on, as the trainer makes it.

    Attributes:
        step: as the trainer has it.
        epochs: the first of each part of the run in which a step does something else.
    """

    def __init__(self, method: str, variant: str, speed: str, options: str) -> None:
        """speed: of `SPEED`. options: of `OPTIONS`."""
        self.precision, self.speedups = SPEED[speed]
        settings = {f"training.{name}": value for name, value in OPTIONS[options].items()}
        settings |= {} if method == "natural" else {"steps": 1}
        with Answering():
            self.step = TrainingStep.from_recipe(
                method,
                self._network(),
                {role: self._network() for role in method_class(method).roles},
                companions={name: self._network() for name in COMPANIONS.get(method, ())},
                variant=variant,
                settings=settings,
            )
        self.epochs = sorted(first for first, _ in self.step.phase_shares().values())
        self.means = LossMeans(ranks())

    def _network(self) -> Fast:
        with torch.device("meta"):
            conv, linear = nn.Conv2d(1, 2, 3, bias=False), nn.Linear(8, 3)
            network = nn.Sequential(conv, nn.BatchNorm2d(2), nn.Flatten(), linear)
        return Fast(network, self.precision, self.speedups)

    def make_step(self, epoch: int) -> None:
        x, y = torch.rand(4, 1, 4, 4, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
        if "channels-last" in self.speedups:
            x = x.contiguous(memory_format=torch.channels_last)
        loss = self.step(x, y, epoch=epoch)
        self.means.add({"loss": loss.total, **loss.terms})

    def state(self) -> RunState:
        """As the trainer saves it."""
        step, watch = self.step, CollapseWatch(0.1, 100)
        models, average = step.models, step.average
        return RunState(models.student, step.optimizer, step.defense, watch, self.means, average, models.companions)

    def resume(self) -> None:
        """Go on from what a file holds, which is read on the CPU."""
        saved = tree_map(_on_cpu, self.state().to_dict())
        self.state().load(saved, torch.device("meta"))


def _on_cpu(value: Any) -> Any:
    return torch.zeros_like(value, device="cpu") if isinstance(value, Tensor) else value


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(("method", "variant"), EVERY)
def test_no_value_leaves_the_device_and_no_tensor_is_on_another(method: str, variant: str) -> None:
    for speed, options in (("off", "plain"), ("on", "all")):
        with autocasting():
            run = Loop(method, variant, speed, options)
            with Answering() as first:
                run.make_step(1)
            assert first.asked == 2  # the images' range, once a run
            with on_meta():
                run.step.end_epoch(1)
                for epoch in run.epochs[1:]:
                    run.make_step(epoch)
            run.resume()
            with on_meta():
                run.make_step(run.epochs[-1])
                run.step.end_epoch(run.step.epochs)
        for value in tree_leaves(run.state().to_dict()):
            assert_on_meta(value, "a part of the run's state")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense.default looks at a value"),
        (lambda x: bool((x > 0).all()), "_local_scalar_dense.default looks at a value"),
        (lambda x: torch.equal(x, x), "equal.default looks at a value"),
        (lambda x: (x > 0).nonzero(), "nonzero.default counts values"),
        (lambda x: x[x > 0], "index.Tensor counts values"),
        (lambda x: x.index_put_((x > 0,), x[0, 0]), "index_put_.default counts values"),
        (lambda x: x * ON_CPU, "an argument of aten.mul.Tensor is on cpu"),
        (lambda x: torch.arange(2), "a result of aten.arange.default is on cpu"),
        (lambda x: x * x.new_tensor([0.5, 2]), "made of Python's numbers"),
    ],
)
def test_the_guard_notices(does: Any, said: str) -> None:
    x = torch.rand(2, 2, device="meta")
    with on_meta():
        (0.5 * x + 1).clamp(0, 1).sum()
        with pytest.raises(AssertionError, match=said):
            does(x)
