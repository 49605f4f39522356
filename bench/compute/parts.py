"""Parts of a training step, told by name to whoever measures where its time goes: by default to nobody, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Listener = Callable[[str], AbstractContextManager[None]]
"""Makes of a part's name a block that lasts as long as the part."""

_NOBODY = nullcontext()
_listener: Listener | None = None


def part(name: str) -> AbstractContextManager[None]:
    """The block is this part of a step: `attack`, `teachers`, `update`."""
    return _NOBODY if _listener is None else _listener(name)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block a listener hears of every part."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
