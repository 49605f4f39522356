"""Passes of a network as CUDA graphs: a GPU is told once what to do, in place of its hundreds of kernels one by one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import BenchError

Network = Callable[[Tensor], Tensor]
_Whose = Literal["images", "weights", "nobody"]
_Key = tuple[Hashable, _Whose, int]
_WAITING = 4
"""How many passes of a step may wait for their gradients to the weights; each keeps its memory for good."""


class Graphs:
    """A network's passes, each captured at its largest batch so far and replayed for every later one of that shape.

    There is one for the gradient of the images, one for no gradient, and for gradients of the weights one for each
    pass of a step: what waits for its way back must not be overwritten by the next. A step is over when the weights
    have moved, since nothing that went forward before can go back after that.

    Attributes:
        unseen: images that went through in replays, which no hook hears of, less those that hooks heard of for a
            capture.
    """

    def __init__(self, network: nn.Module, compute: Callable[[Network, Tensor], Tensor]) -> None:
        """`compute`: logits of what it is given, at the network's precision; autocast must remember no weights."""
        self.unseen = 0
        self._network, self._compute = network, compute
        self._captured: dict[_Key, tuple[torch.Size, Any]] = {}
        self._latest: dict[_Key, object] = {}
        self._modules = list(network.modules())
        self._norms = [module for module in self._modules if isinstance(module, _BatchNorm)]
        own = [each for module in self._modules for each in (module._parameters, module._buffers)]
        self._tensors = [(each, name, value) for each in own for name, value in each.items() if value is not None]
        self._memory: list[int] = []
        self._moved, self._passes = -1, 0

    def __call__(self, x: Tensor) -> Tensor | None:
        """Logits by a replay; None where there can be none, and the network has to compute them itself."""
        whose = self._gradient_of(x) if on_gpu(x) else None
        if whose is None or not self._as_it_was():
            return None
        place = self._place() if whose == "weights" else 0
        key = self._mode(), whose, place
        known = self._captured.get(key)
        if known is None or len(x) > known[0][0]:
            if place >= _WAITING:
                return None
            self._captured.pop(key, None)
            known = self._captured[key] = x.shape, self._capture(x, whose)
        shape, replay = known
        if x.shape != shape:
            return None
        self.unseen += len(x)
        logits: Tensor = replay(x, *(self._network.parameters() if whose == "weights" else ()))
        logits = logits.clone()  # a graph writes every replay's into the same memory
        if logits.requires_grad:
            self._watch(logits, key)
        self._count_change()
        return logits

    def _watch(self, logits: Tensor, key: _Key) -> None:
        """A pass can be gone back through once, and before the next one; whoever asks for more is told so."""
        self._latest[key] = this = object()

        def on_the_way_back(_: Tensor) -> None:
            if self._latest.pop(key, None) is not this:
                raise BenchError(
                    "The gradient of a pass was asked for a second time, or after the network was called again, and a "
                    "CUDA graph keeps one pass at a time.\nDo without graphs: --off graphs."
                )

        logits.register_hook(on_the_way_back)

    def _gradient_of(self, x: Tensor) -> _Whose | None:
        """Whose gradient a pass is for; None if it is for both, which nothing here needs."""
        if not torch.is_grad_enabled():
            return "nobody"
        learning = any(parameter.requires_grad for parameter in self._network.parameters())
        if x.requires_grad:
            return None if learning else "images"
        return "weights" if learning else "nobody"

    def _as_it_was(self) -> bool:
        """Whether the network has the tensors that its graphs read and write, and computes what can be repeated.

        It may have others for a while: where weights are perturbed, passes leave no trace in the statistics. Without a
        momentum batch normalisation counts its batches on the host.
        """
        if any(norm.momentum is None and norm.training for norm in self._norms):
            return False
        if not all(own.get(name) is value for own, name, value in self._tensors):
            return False
        return not self._memory or self._memory == [value.data_ptr() for _, _, value in self._tensors]

    def _mode(self) -> Hashable:
        """What a capture fixes for good."""
        modes = tuple(module.training for module in self._modules)
        return modes, tuple(norm.momentum for norm in self._norms)

    def _count_change(self) -> None:
        """A replay moves the statistics unnoticed; views look at the versions of a network's tensors."""
        for norm in self._norms:
            if norm.training and norm.num_batches_tracked is not None:
                torch.autograd.graph.increment_version(norm.num_batches_tracked)

    def _place(self) -> int:
        """How many passes of this step went before this one."""
        version = next(parameter._version for parameter in self._network.parameters() if parameter.requires_grad)
        self._passes = self._passes + 1 if version == self._moved else 0
        self._moved = version
        return self._passes

    def _capture(self, x: Tensor, whose: _Whose) -> Any:
        # The capture runs the network a few times: in train mode those runs must leave no trace in its statistics. Of
        # that autograd must not hear (`data`): a pass whose backward is yet to come may have looked at them.
        buffers = [(buffer.data, buffer.clone()) for buffer in self._network.buffers()]
        names = [name for name, _ in self._network.named_parameters()]

        def passed(images: Tensor, *weights: Tensor) -> Tensor:
            self.unseen -= len(images)
            given = dict(zip(names, weights, strict=True)) if weights else {}
            with torch.set_grad_enabled(whose != "nobody"):
                return self._compute(lambda inputs: functional_call(self._network, given, (inputs,)), images)

        image = x.detach().clone().requires_grad_(whose == "images")
        # Weights go in as tensors of their own in the same memory: those of the network may be part of a pass whose
        # backward is yet to come, on a stream that a capture must not wait for.
        weights = [parameter.detach().requires_grad_() for parameter in self._network.parameters()]
        sample = (image, *(weights if whose == "weights" else ()))
        self._memory = [value.data_ptr() for _, _, value in self._tensors]
        with _undisturbed(x):
            replay = torch.cuda.make_graphed_callables(passed, sample, allow_unused_input=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        return replay


@contextmanager
def _undisturbed(x: Tensor) -> Iterator[None]:
    """A capture in the block meets no graph that is being thrown away, draws nothing, and says nothing of streams."""
    collecting = gc.isenabled()
    gc.collect()  # what is collected amid a capture must hold no graph
    gc.disable()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([x.device] if x.is_cuda else []):
            # It warms up and captures on streams of its own, of which newer versions of PyTorch warn.
            warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
            yield
    finally:
        if collecting:
            gc.enable()


def on_gpu(x: Tensor) -> bool:
    """Whether passes of these images can be captured."""
    return x.is_cuda
