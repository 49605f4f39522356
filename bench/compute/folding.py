"""Batch normalisation in eval mode, folded into the convolution before it.

In eval mode batch normalisation is y = (x - mean) / sqrt(var + eps) * gamma + beta with constants only. A convolution
whose output nothing else reads can multiply its weights by gamma / sqrt(var + eps) and take the rest into its bias: the
same function, up to rounding, with a pass over every activation less, forward and backward.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from bench.compute.sync_bn import SyncedBatchNorm2d

Kind = TypeVar("Kind", bound=nn.Module)

_NORMS = (nn.BatchNorm2d, SyncedBatchNorm2d)


def foldable(network: nn.Module) -> tuple[tuple[str, str], ...]:
    """Names of a network's (Conv2d, BatchNorm2d) pairs in which the second alone reads the first's output.

    Found by tracing the network in the mode it is in; one that cannot be traced (its path depends on values) has none.
    """
    if not any(type(module) in _NORMS for module in network.modules()):
        return ()
    try:
        graph = _Tracer().trace(_Whole(network))
    except Exception:  # whatever a stranger's forward raises on a proxy: there is nothing to fold then
        return ()
    modules = dict(network.named_modules(prefix="network"))
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if _fit(conv, norm) and calls[before.target] == calls[node.target] == 1:
            pairs.append((_inner(before), _inner(node)))
    return tuple(pairs)


def folded_parameters(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what both modules do in eval mode, in the modules' dtype."""
    assert norm.running_mean is not None, "foldable() gives no others"
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    if norm.affine:
        scale = scale * norm.weight
    bias = shift * scale + (norm.bias if norm.affine else 0)
    return conv.weight * scale[:, None, None, None], bias


class _Tracer(fx.Tracer):
    """Takes synchronised batch normalisation for one operation too, as it does PyTorch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in _NORMS or super().is_leaf_module(m, module_qualified_name)


class _Whole(nn.Module):
    """Calls the network as a caller does: a tracer's root is entered past its hooks, the normalisation among them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def _inner(node: fx.Node) -> str:
    return str(node.target).removeprefix("network.")


def _fit(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the two are what they look like: the very classes, without hooks, and with running statistics."""
    if type(conv) is not nn.Conv2d or type(norm) not in _NORMS or norm.running_mean is None:
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in (conv, norm))


def submodule(network: nn.Module, name: str, kind: type[Kind]) -> Kind:
    """A module of a network that is known to be of this class."""
    module = network.get_submodule(name)
    assert isinstance(module, kind)
    return module


def fold(network: nn.Module) -> nn.Module:
    """Fold all foldable pairs of a network in eval mode, in place; returns the same network."""
    for conv_name, norm_name in foldable(network):
        conv, norm = submodule(network, conv_name, nn.Conv2d), submodule(network, norm_name, nn.BatchNorm2d)
        with torch.no_grad():
            weight, bias = folded_parameters(conv, norm)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        network.set_submodule(norm_name, nn.Identity().eval())
    return network
