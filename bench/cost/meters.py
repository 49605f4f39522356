"""What measures: a clock that tells parts apart, counts of operations, the peaks of memory and of a matrix product."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.vocabulary import Precision


@dataclass
class Clock:
    """Time by part: what a part within another one takes is not counted in the outer one, but for the attack.

    A teacher that takes part in the attack is part of the attack.
    """

    wait: Callable[[], None]
    seconds: dict[str, float] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    since: float = 0.0

    def enter(self, name: str) -> None:
        """Begin a part."""
        self._book()
        self.stack.append("attack" if "attack" in self.stack else name)

    def leave(self) -> None:
        """End the innermost part."""
        self._book()
        self.stack.pop()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that lasts as long as the block."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def _book(self) -> None:
        self.wait()
        now_, before = time.perf_counter(), self.since
        if self.stack:
            self.seconds[self.stack[-1]] = self.seconds.get(self.stack[-1], 0.0) + now_ - before
        self.since = now_


class Operations(TorchDispatchMode):
    """Floating-point operations within the block, a multiply-add counted as two: PyTorch's own formulas, summed.

    Its `FlopCounterMode` also tells modules apart, by hooks that a gradient of the images alone cannot pass.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def matmul_peak(device: torch.device, precision: Precision, seconds: float = 0.5) -> float:
    """Operations a second of the best square matrix product on this device in this precision, here and now.

    The matrices grow as long as a product takes a small part of the time: a CPU that has no bf16 takes a minute for one
    that another does in milliseconds.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    largest = 8192 if device.type == "cuda" else 2048
    size, took, best, until = 0, 0.0, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        if size < largest and took < seconds / 20:
            size = 2 * size or 256
            first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        began = time.perf_counter()
        first @ second
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
        best = max(best, 2 * size**3 / took)
    return best


class PeakMemory:
    """The most memory used since it was made, bytes.

    On a GPU what PyTorch allocated; on a CPU what the process held in RAM, PyTorch's own libraries included. Where the
    system cannot forget an earlier peak (all but Linux), the peak is that of the process's whole life.
    """

    _STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif self._FORGET.exists():
            gc.collect()
            _give_back()
            self._FORGET.write_text("5", encoding="ascii")

    def read(self) -> int:
        """The peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self._STATUS.exists():
            lines = self._STATUS.read_text(encoding="ascii").splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _give_back() -> None:
    """Have the C library return freed memory to the system; else the next measurement begins with the last one's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
