"""The device of a command, and how it computes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.errors import BenchError
from bench.system.text import one_line


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; `auto` takes a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchError(
            "--device cuda: PyTorch sees no GPU here.\nUse --device cpu, or install a CUDA build and driver."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def prepare(device: torch.device, autotune: bool = True, deterministic: bool = False, tf32: bool = False) -> None:
    """Set how this process computes, before it does.

    float32 means float32: PyTorch would otherwise let a GPU's convolutions round their inputs to TF32.

    Args:
        autotune: whether cuDNN may try its algorithms on each shape and keep the fastest.
        deterministic: whether to use only algorithms that give the same result twice; PyTorch then refuses an
            operation that has none.
        tf32: whether a GPU may do so all the same.

    Raises:
        BenchError: TF32 on a device that has none.
    """
    if tf32 and device.type != "cuda":
        raise BenchError("--precision tf32 is a GPU's.\nLeave it away on a CPU, which computes in float32.")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = autotune and not deterministic and device.type == "cuda"
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports PyTorch's compiler: a second
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def as_before() -> Iterator[None]:
    """After the block this process computes as it did before, whatever `prepare` has set meanwhile."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
        if deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(deterministic)


@contextmanager
def name_memory_errors() -> Iterator[None]:
    """Within the block memory that is used up, a GPU's or the machine's, is a mistake that the user can correct."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BenchError(
            f"The GPU's memory is used up: {str(error).split('. ')[0]}.\n"
            "Choose a smaller --batch-size or --precision bf16, or --device cpu."
        ) from error
    except (MemoryError, RuntimeError) as error:
        asked = re.search(r"tried to allocate (\d+) bytes", str(error))  # PyTorch's, on a CPU
        if not isinstance(error, MemoryError) and asked is None:
            raise
        what = f"{int(asked[1]) / 2**30:.3g} GiB were asked for at once" if asked else one_line(str(error)).rstrip(".")
        raise BenchError(
            f"The memory is used up: {what or 'nothing more could be had'}.\n"
            "Choose a smaller --batch-size, fewer images (--limit-train, --limit), or a machine with more memory."
        ) from error
