"""How many images go through a network: what an attack costs on any machine, and by what checks are held to a share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.attack import Keep


@dataclass
class Passes:
    """Counts images that go forwards through networks; one that goes through five times is five."""

    images: int = 0

    @contextmanager
    def through(self, network: nn.Module) -> Iterator[None]:
        """Within the block what goes through this network counts."""
        handle = network.register_forward_pre_hook(self._count)
        try:
            yield
        finally:
            handle.remove()

    def _count(self, network: nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], Tensor) and arguments[0].ndim:
            self.images += len(arguments[0])


@dataclass(frozen=True)
class KeepFrom:
    """A keep that holds a state already, while nothing was saved in it; loaded as `Kept`."""

    keep: Keep
    state: Any

    def load(self) -> Any:
        kept = self.keep.load()
        return self.state if kept is None else kept

    def save(self, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        self.keep.save(tensors, **facts)


class CountingKeep:
    """What a resumable attack keeps, and beside it how many images had gone through the network by then.

    It is at rest where it asks whether to stop: what it begins after that is begun again by whoever goes on.
    """

    def __init__(self, keep: Keep, passed: Callable[[], int], check_stop: Callable[[], None]) -> None:
        """`passed`: images so far, of this sitting; `check_stop`: as the attack would be given it."""
        self._keep, self._passed, self._check_stop = keep, passed, check_stop
        self.before = 0
        self._at_rest: int | None = None

    def load(self) -> Any:
        kept = self._keep.load()
        if kept is not None:
            self.before = kept.facts.pop("passed", 0) - self._passed()  # what went through up to here was kept, too
        return kept

    def save(self, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        self._keep.save(tensors, passed=self._so_far if self._at_rest is None else self._at_rest, **facts)

    def check_stop(self) -> None:
        self._at_rest = self._so_far
        self._check_stop()

    @property
    def _so_far(self) -> int:
        return self.before + self._passed()
