"""Networks as training uses them: precision, memory format, and cheap views for passes that train nothing.

An attack asks a network ten times for the gradient of its input while the weights stand still, and a teacher's weights
never move. Such passes run on a `View`: a copy whose weights are cast to bfloat16 once instead of at every pass, whose
batch normalisation is folded into its convolutions, and which a GPU replays as one graph. Each of these can be switched
off by its name; none changes what is computed beyond rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.compute.folding import foldable, folded_parameters, submodule
from bench.compute.graphs import Graphs
from bench.errors import unknown_name
from bench.vocabulary import Precision

SPEEDUPS = {
    "channels-last": "activations and weights in channels-last memory format",
    "cast-once": "bf16 only: weights cast once a step for the attack, once for all for a frozen teacher",
    "folding": "batch normalisation in eval mode folded into convolutions, for the attack and for frozen teachers",
    "graphs": "GPU only: passes of the attack, the teachers and the student replayed as CUDA graphs",
    "autotune": "GPU only: cuDNN tries its algorithms and keeps the fastest",
    "fused": "the optimizer's step in one kernel",
}
"""All there are, by name: what each does."""


def enabled(off: Collection[str] = ()) -> frozenset[str]:
    """All speed-ups but those named.

    Raises:
        BenchError: a name that does not exist.
    """
    for name in off:
        if name not in SPEEDUPS:
            raise unknown_name("speed-up", name, SPEEDUPS)
    return frozenset(SPEEDUPS) - frozenset(off)


def has_effect(name: str, device: torch.device, precision: Precision) -> bool:
    """Whether a speed-up does anything on such a device at such a precision."""
    if name in ("graphs", "autotune"):
        return device.type == "cuda"
    return name != "cast-once" or precision == "bf16"


class Fast(nn.Module):
    """A network at a precision, float32 logits whatever it is; the weights themselves stay as they are.

    In bf16 the network computes in bfloat16 where PyTorch's autocast thinks that safe. The network itself is wrapped,
    not the training step: losses and attack steps are always computed in float32.
    """

    def __init__(self, network: nn.Module, precision: Precision = "32", speedups: Collection[str] = ()) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if "channels-last" in speedups else network
        self.precision = precision
        self.speedups = frozenset(speedups)
        self._views: dict[bool, View] = {}
        self._graphs = _graphs(self.network, self.precision, self.speedups)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and not any(parameter.requires_grad for parameter in self.network.parameters()):
            return self.for_attack()(x)
        replayed = None if self._graphs is None else self._graphs(x)
        return compute(self.network, x, self.precision) if replayed is None else replayed

    def __deepcopy__(self, memo: dict[int, Any]) -> Fast:
        """A copy of the network; views and graphs are of the network that they were made for."""
        copied = Fast(copy.deepcopy(self.network, memo), self.precision, self.speedups)
        copied.training = self.training
        return copied

    def for_attack(self) -> View:
        """What the network computes in the mode it is in, without gradients to its weights; valid until they move.

        Batch statistics in train mode go into the network's own running averages, as if it had been called itself.
        """
        if self.training not in self._views:
            self._views[self.training] = View(self.network, self.precision, self.speedups, self.training)
        view = self._views[self.training]
        view.refresh()
        return view


def bare(network: nn.Module) -> nn.Module:
    """The network itself, out of its wrapper if it has one."""
    return network.network if isinstance(network, Fast) else network


def compute(network: Callable[[Tensor], Tensor], x: Tensor, precision: Precision, cached: bool = True) -> Tensor:
    """Logits of a network at a precision; `cached`: whether autocast may remember the weights it has cast."""
    if precision == "32":
        return network(x)
    with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=cached):
        logits = network(x)
    return logits.float()


class View:
    """A copy of a network, in the mode it is in, that shares its tensors; what is cast or folded is its own."""

    def __init__(
        self,
        network: nn.Module,
        precision: Precision,
        speedups: Collection[str],
        training: bool,
        copied: nn.Module | None = None,
    ) -> None:
        """`training`: the mode the network is in; `copied`: a copy of it that is at hand."""
        self.precision = precision
        self.source = network
        self.module = (copied or copy.deepcopy(network)).requires_grad_(False)
        for mine, theirs in _pairs(self.module, network):
            mine._buffers.update(theirs._buffers)
            for name, parameter in theirs._parameters.items():
                if parameter is not None:
                    mine._parameters[name] = nn.Parameter(parameter.detach(), requires_grad=False)
        self.norms = dict(foldable(network)) if "folding" in speedups and not training else {}
        cast = precision == "bf16" and "cast-once" in speedups
        plain = [name for name, module in network.named_modules() if type(module) in (nn.Conv2d, nn.Linear)]
        self.cast = [name for name in plain if cast and name not in self.norms]
        self._own(torch.bfloat16 if cast else None)
        self._stamp: tuple[int, ...] = ()
        self._turned = False
        self._graphs = _graphs(self.module, precision, speedups)

    def __call__(self, x: Tensor) -> Tensor:
        replayed = None if self._graphs is None else self._graphs(x)
        return compute(self.module, x, self.precision, cached=False) if replayed is None else replayed

    @property
    def unseen(self) -> int:
        """Images that went through in replays, which no hook hears of, less those that hooks heard of for a capture."""
        return 0 if self._graphs is None else self._graphs.unseen

    @property
    def speedups(self) -> list[str]:
        """Those that have an effect here."""
        on_gpu = any(parameter.is_cuda for parameter in self.module.parameters())
        has = {"channels-last": self._turned, "folding": bool(self.norms), "cast-once": bool(self.cast)}
        has["graphs"] = self._graphs is not None and on_gpu
        return [name for name, effect in has.items() if effect]

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the network's weights as they are now."""
        stamp = tuple(_versions(self.source))
        frozen = not any(parameter.requires_grad for parameter in self.source.parameters())
        if frozen and stamp == self._stamp:
            return
        self._stamp = stamp
        for name in self.cast:
            for mine, theirs in zip(
                self.module.get_submodule(name).parameters(), self.source.get_submodule(name).parameters(), strict=True
            ):
                mine.copy_(theirs)
        for name, norm in self.norms.items():
            weight, bias = folded_parameters(
                submodule(self.source, name, nn.Conv2d), submodule(self.source, norm, nn.BatchNorm2d)
            )
            conv = submodule(self.module, name, nn.Conv2d)
            assert conv.bias is not None
            conv.weight.copy_(weight)
            conv.bias.copy_(bias)

    def turn_channels_last(self) -> None:
        """Weights of its own in channels-last format, as they are now: for a network that will not move any more.

        In float32 that pays on a CPU, most with MobileNet-V2; on a GPU it was not measured.
        """
        self.module.to(memory_format=torch.channels_last)
        self._turned = True

    @torch.no_grad()
    def _own(self, dtype: torch.dtype | None) -> None:
        """Give the modules that are cast or folded weights of their own, for `refresh` to fill."""
        for name in self.cast:
            module = self.module.get_submodule(name)
            for key, parameter in list(module._parameters.items()):
                if parameter is not None:
                    module._parameters[key] = _blank(parameter, dtype)
        for name, norm in self.norms.items():
            conv = submodule(self.module, name, nn.Conv2d)
            conv.weight = _blank(conv.weight, dtype)
            conv.bias = _blank(conv.weight[:, 0, 0, 0], dtype)
            self.module.set_submodule(norm, nn.Identity().train(self.module.training))


def _graphs(network: nn.Module, precision: Precision, speedups: Collection[str]) -> Graphs | None:
    """Of a network at a precision, if wanted."""
    if "graphs" not in speedups:
        return None
    return Graphs(network, lambda called, x: compute(called, x, precision, cached=False))


def _pairs(first: nn.Module, second: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    return zip(first.modules(), second.modules(), strict=True)


def _blank(like: Tensor, dtype: torch.dtype | None) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(like, dtype=dtype or like.dtype), requires_grad=False)


def _versions(network: nn.Module) -> Iterator[int]:
    """A number for each tensor of the network that changes whenever it is written to."""
    for tensor in (*network.parameters(), *network.buffers()):
        yield id(tensor)
        yield tensor._version
