"""Seeds for every use, derived from one: no random state has to be carried through a run or restored after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place of use ("attack", epoch, step); stable over machines and versions of Python."""
    words = [seed]
    for part in place:
        words.extend(part.encode() if isinstance(part, str) else [part])
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, *place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on a device, seeded by `derive`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *place))


@contextmanager
def seeded(device: torch.device, seed: int, *place: int | str) -> Iterator[None]:
    """PyTorch's global generators seeded inside the block, for models that draw; after it they go on as they were."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *place))
        yield


def reseed(device: torch.device, seed: int) -> None:
    """PyTorch's global generators of the CPU and of a device begin anew: 3 us, where `torch.manual_seed` takes 200."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
