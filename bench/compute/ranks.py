"""One run on several processes: each trains on its share of every batch, and all hold the same weights.

Started by `torchrun`, each process (rank) works on a part of the batch. Whatever the definition decides from a whole
batch goes through here: gradients are summed with each rank's share of the batch as weight, and so are the values that
a defense looks at (`across`). Attacks exchange no gradient: a sample's adversarial image is its own; only DPGD, whose
definition couples the batch, exchanges two sums. In a single process all of this is the identity and costs nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from bench.compute.peers import GO_ON, STEP_TIMEOUT, Peers
from bench.errors import BenchError
from bench.system.signals import StopRequest

_PATIENCE = timedelta(days=2)
"""How long a rank waits for the others outside training: the first one may train and attack a teacher meanwhile."""
_BROKEN = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe|Socket|[Tt]imed out")
"""What PyTorch's errors say when a process at the other end is gone."""


@dataclass
class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: this one's number, from 0. size: how many there are.
        share: this rank's part of the batch in hand, 0 to 1; the shares of all ranks add up to 1.
        control: group for messages between hosts, which never waits for a GPU.
        peers: watches the others; None in a single process.
        sync_bn: whether batch normalisation in train mode is by the whole batch rather than each rank's part.
    """

    rank: int = 0
    size: int = 1
    share: float = 1.0
    control: Any = None
    peers: Any = None
    sync_bn: bool = False

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Which of n samples are this rank's; sets `share`."""
        begin, end = (n * self.rank) // self.size, (n * (self.rank + 1)) // self.size
        self.share = (end - begin) / n
        return slice(begin, end)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks; no gradient."""
        return value.detach() if self.size == 1 else _summed(value)

    def total_with_gradient(self, value: Tensor) -> Tensor:
        """The sum over all ranks, with the gradient of a loss that is itself the sum of all ranks' own."""
        if self.size == 1:
            return value
        total: Tensor = _Total.apply(value)
        return total

    def across(self, mean: Tensor) -> Tensor:
        """The mean over the whole batch from each rank's own mean; no gradient."""
        return mean.detach() if self.size == 1 else self.total(mean.detach() * self.share)

    def with_others(self, own: Tensor) -> Tensor:
        """The sum over the whole batch from each rank's own sum; the gradient is that of the rank's own samples."""
        return own if self.size == 1 else own + (self.total(own) - own.detach())

    def extremes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest of all ranks' values, of any shape; scalars without gradient."""
        least, greatest = values.detach().aminmax()
        if self.size == 1:
            return least, greatest
        ends = torch.stack([-least, greatest])  # one message: the least is the greatest of the negatives
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        return -ends[0], ends[1]

    def backward(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients of the whole batch's loss from each rank's own loss, a mean over its samples."""
        if self.size == 1:
            loss.backward()
            return
        (loss * self.share).backward()
        self._sum_in_place([parameter.grad for parameter in parameters if parameter.grad is not None])

    def gradients(self, loss: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """As `backward`, but the gradients to some weights are returned, not added to `grad`; 0 for an unused one."""
        found = torch.autograd.grad(loss if self.size == 1 else loss * self.share, weights, allow_unused=True)
        whole = [torch.zeros_like(w) if each is None else each for each, w in zip(found, weights, strict=True)]
        if self.size > 1:
            self._sum_in_place(whole)
        return whole

    @torch.no_grad()
    def agree_on_statistics(self, network: nn.Module) -> None:
        """Make batch-norm's running statistics the mean of all ranks' own.

        Without synchronised batch normalisation each rank normalises by its own part of the batch.
        """
        if self.size == 1:
            return
        statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        for buffer in statistics:
            buffer.mul_(self.share)
        self._sum_in_place(statistics)

    def agree(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.control)
        if self.peers is not None:
            self.peers.stepped()
        return bool(votes)

    def from_first(self, value: Any) -> Any:
        """What the first rank has; the others' own is ignored. Plain values and tensors on the CPU."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Within the block every rank makes its steps; one that makes none for long ends the run."""
        with self.peers.in_step() if self.peers is not None else nullcontext():
            yield

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    @staticmethod
    def _sum_in_place(tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all ranks, all of one dtype as one message."""
        for dtype in {tensor.dtype for tensor in tensors}:
            some = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            dist.all_reduce(flat)
            for tensor, summed in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(summed.view_as(tensor))


class _Total(torch.autograd.Function):
    """What every rank adds reaches every rank, so each one's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


_current = Ranks()


def ranks() -> Ranks:
    """The processes of this run."""
    return _current


@contextmanager
def _named_errors(peers: Peers) -> Iterator[None]:
    """Within the block an error of PyTorch's says which process has ended."""
    try:
        yield
    except RuntimeError as error:
        if _BROKEN.search(str(error)) is None:
            raise
        raise BenchError(f"{peers.gone()} ended, so this one does too.\n{GO_ON}") from error


@contextmanager
def joined(
    device: torch.device, sync_bn: bool = False, step_timeout: float = STEP_TIMEOUT, stop: StopRequest | None = None
) -> Any:
    """Join the other processes that `torchrun` started, if it did; leaves them when the block ends.

    Args:
        step_timeout: seconds without a step of training after which the run ends.
        stop: a process that is asked to stop does not wait for the others without end.

    Raises:
        BenchError: torchrun's variables are there, but the others are not; or one of them has ended.
    """
    global _current
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield _current
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(minutes=5)))
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise BenchError(
            f"The {size} processes of this run do not find each other ({str(error).splitlines()[0]}).\n"
            "Start all of them by torchrun, or unset WORLD_SIZE to train in one process."
        ) from error
    peers = Peers(store, rank, size, step_timeout, stop or StopRequest())
    _current = joint = Ranks(rank, size, 1 / size, control, peers, sync_bn)
    del control
    try:
        with peers.watched(), _named_errors(peers):
            joint.wait()
            yield joint
    finally:
        _current = Ranks()
        # A group that is still referred to outlives its destruction; its threads then meet a Python that is shutting
        # down, and the process aborts after all its work is done.
        joint.control = None
        with suppress(RuntimeError):
            dist.destroy_process_group()
