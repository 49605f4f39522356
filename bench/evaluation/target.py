"""One model under attack: its samples, its state while it is attacked, and a cheaper way to compute what it does."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from bench.attack import Attack, Model
from bench.compute.folding import foldable
from bench.compute.speedups import View
from bench.data.dataset import Split, to_float
from bench.defense import mode
from bench.errors import BenchError
from bench.evaluation.passes import Passes
from bench.evaluation.transfers import Surrogate
from bench.records.record import Data, Subject


@dataclass(frozen=True)
class Job:
    """One model and the samples it is attacked on.

    Attributes:
        view: a cheaper way to compute what `network` does, for the attacks; accuracy is always measured on `network`.
        passes: counts what goes through either.
    """

    network: nn.Module
    split: Split
    data: Data
    subject: Subject
    surrogate: Surrogate | None
    view: View | None = None
    passes: Passes = field(default_factory=Passes)

    @property
    def passed(self) -> int:
        """Images that have gone forwards through the network so far, each once for every pass."""
        return self.passes.images + (0 if self.view is None else self.view.unseen)

    @property
    def module(self) -> nn.Module:
        """What attacks look into that need a module."""
        return self.network if self.view is None else self.view.module

    @property
    def speedups(self) -> list[str]:
        """What is on and has an effect here."""
        return [] if self.view is None else self.view.speedups

    def model_for(self, attack: Attack) -> Model:
        """What an attack looks into."""
        if attack.at_the_boundary:
            return self.network
        return self.module if attack.needs_module or self.view is None else self.view

    def batch(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], of the network's precision, and labels of samples first to end - 1."""
        end = min(end, self.data.n)
        part = self.split.take(torch.arange(first, end, device=self.split.labels.device))
        parameter = next((p for p in self.network.parameters() if p.is_floating_point()), None)
        dtype = torch.float32 if parameter is None else torch.promote_types(parameter.dtype, torch.float32)
        return to_float(part.images, dtype), part.labels

    def on(self, surrogate: nn.Module, speedups: Collection[str]) -> Job:
        """The same samples, another network."""
        with ready(surrogate):
            return replace(self, network=surrogate, view=view_of(surrogate, speedups))


def view_of(network: nn.Module, speedups: Collection[str]) -> View | None:
    """A view of a network in eval mode for passes of an attack; None where there is nothing to make cheaper.

    A stranger's network may be of a kind that cannot be copied; it is then attacked as it is.
    """
    if "folding" not in speedups or not foldable(network):
        return None
    try:
        copied = copy.deepcopy(network)
    except Exception:  # whatever its own copying raises
        return None
    view = View(network, "32", speedups, training=False, copied=copied)
    view.refresh()
    if "channels-last" in speedups and all(parameter.device.type == "cpu" for parameter in network.parameters()):
        view.turn_channels_last()
    return view


def check_device(network: nn.Module, device: torch.device, what: str = "model") -> None:
    """A BenchError where the network cannot be attacked as it is.

    Weights that are elsewhere would run on the wrong device, or crash. Images of 8 bits, and steps of 2/255, are not to
    be told in half precision.
    """
    for parameter in network.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise BenchError(
                f"The {what}'s weights are {str(parameter.dtype).removeprefix('torch.')}; attacks need float32 or "
                f"float64.\nConvert the {what} with .float() first."
            )
    for value in (*network.parameters(), *network.buffers()):
        if value.device.type != device.type:
            raise BenchError(
                f"The {what}'s weights are on {value.device}, the evaluation on {device}.\n"
                f"Move the {what} with .to({device.type!r}), or choose the other device."
            )


@contextmanager
def ready(network: nn.Module) -> Iterator[None]:
    """The network in eval mode and without weight gradients inside the block, and as it was after it."""
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.requires_grad_(False)
    try:
        with mode(network, training=False):
            yield
    finally:
        for parameter, required in flags:
            parameter.requires_grad_(required)
