"""Batch normalisation by the statistics of the whole batch, where several processes share it.

PyTorch's own SyncBatchNorm runs on GPUs alone; this one runs wherever the processes' group does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.compute.ranks import ranks


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` that, in train mode, normalises by mean and variance over all ranks' samples.

    The gradient is that of the whole batch: it flows through the statistics into every rank's samples. All ranks have
    to call it, and to go backward through it, equally often.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise activations of shape (B, C, H, W), B a rank's own share."""
        if not self.training or ranks().size == 1:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()
        n = ranks().total(torch.tensor(float(x.numel() // x.shape[1]), device=x.device, dtype=wide.dtype))
        mean = ranks().total_with_gradient(wide.sum((0, 2, 3))) / n
        centred = wide - mean[:, None, None]
        # The sum of squares around the common mean, and not of the values themselves: no digits are lost.
        variance = ranks().total_with_gradient(centred.square().sum((0, 2, 3))) / n
        self._remember(mean.detach(), variance.detach(), n)
        y = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var.dtype), momentum)


def synchronised(network: nn.Module) -> nn.Module:
    """The network, with all its `BatchNorm2d` modules turned into synchronised ones, in place."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d  # the same parameters, buffers and hooks
    return network
