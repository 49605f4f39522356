"""The distances between predictions that the defenses are written in.

In this field "KL(student, teacher)" means KL(teacher || student): the teacher is the target distribution. Everywhere
`target` is probabilities and `logits` the student's, both (B, classes), and `temperature` the student's.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.defense import Batch

RELEASED_LOG_OFFSET = 1e-5
"""Of the code of RSLAD and of all that descends from it, for `mean_kl`."""

Reduction = Literal["batch", "mean"]
"""Over what a divergence is averaged: the batch, or the classes too."""


def softened(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """p(z; T) = softmax(z / T); shape (B, classes)."""
    return F.softmax(logits / temperature, dim=1)


def batch_kl(target: Tensor, logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(target || p(logits; T)), summed over classes, averaged over the batch."""
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="batchmean")


def batch_kl_between(first: Tensor, second: Tensor) -> Tensor:
    """KL(p(first) || p(second)) of two networks' logits (B, classes), averaged over the batch; gradient to both."""
    return sample_kl_between(first, second).sum() / len(first)


def sample_kl_between(first: Tensor, second: Tensor) -> Tensor:
    """KL(p(first) || p(second)) of each sample, of two networks' logits (B, classes); gradient to both; shape (B,)."""
    # In log space: the gradient to `target` of `sample_kl` is not a number once a probability underflows to 0.
    log_p, log_q = F.log_softmax(first, dim=1), F.log_softmax(second, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def mean_kl(target: Tensor, logits: Tensor, temperature: float | Tensor = 1.0, log_offset: float = 0.0) -> Tensor:
    """`batch_kl` averaged over classes too (divided by their number), as most released code computes it.

    Args:
        log_offset: added to the target inside its logarithm. The gradient stays the same; the value moves, and with it
            whatever follows the value.
    """
    if not log_offset:
        return batch_kl(target, logits, temperature) / logits.shape[1]
    return (target * ((target + log_offset).log() - F.log_softmax(logits / temperature, dim=1))).mean()


def mean_kl_between(first: Tensor, second: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p(first; T) || p(second; T)) of two networks' logits (B, classes), averaged over both; gradient to both."""
    return batch_kl_between(first / temperature, second / temperature) / first.shape[1]


def reduced_kl(reduction: Reduction, target: Tensor, logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """`batch_kl` or `mean_kl`, as the reduction says."""
    return (batch_kl if reduction == "batch" else mean_kl)(target, logits, temperature)


def sample_kl(target: Tensor, logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(target || p(logits; T)) of each sample, summed over classes; shape (B,)."""
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), target, reduction="none").sum(1)


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """sum_c (first_c - second_c)^2 of each sample; both shape (B, classes), the result (B,)."""
    return (first - second).square().sum(1)


def class_scale(logits: Tensor) -> float:
    """classes / 10: keeps a loss that is averaged over classes at the scale it has on CIFAR-10.

    RSLAD's and MTARD's code multiplies by 10 for 100 classes; classes / 10 is that rule for any number, and for what
    descends from them and was released for 10 classes alone (both inferred).
    """
    return logits.shape[1] / 10


def sample_entropy(probabilities: Tensor, log_offset: float = 0.0) -> Tensor:
    """Entropy of each row in nats, shape (B,). `log_offset` as in `mean_kl`."""
    return -(probabilities * (probabilities + log_offset).clamp_min(1e-30).log()).sum(1)


def mean_entropy(probabilities: Tensor, log_offset: float = 0.0) -> Tensor:
    """Entropy of each row in nats, averaged over the batch; a float64 scalar. `log_offset` as in `mean_kl`."""
    return sample_entropy(probabilities, log_offset).mean().double()


def mean_of_rows(values: Tensor, rows: Tensor, batch: Batch) -> Tensor:
    """The mean of all elements of some samples' rows, over the whole batch; 0 where there is no such sample.

    Args:
        values: shape (B, n).
        rows: which samples count, shape (B,), bool.
    """
    # A mask and not an index: selecting rows would make the host wait for the device to learn how many there are. A
    # ratio of means, the lower one over the whole batch, whichever part of it is here.
    members = rows.to(values.dtype)
    share = batch.mean(members)
    share = torch.where(share == 0, torch.ones_like(share), share)
    return (values.sum(1) * members).mean() / (share * values.shape[1])
