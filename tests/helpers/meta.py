"""PyTorch's `meta` device: shapes and dtypes without values, so that nothing can be looked at and nothing waits.

What runs there in a test runs on a GPU without the host waiting for it, as far as one device is concerned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LOOKS = {"_local_scalar_dense", "is_nonzero", "equal"}
"""Operations that give the host a value: `.item()`, `bool(tensor)`, `torch.equal`. What `.tolist()`, `.numpy()` and
`.cpu()` do has a result on the CPU."""
COUNTS = {"nonzero", "masked_select", "bincount", "unique_dim", "_unique", "_unique2", "unique_consecutive"}
"""Those whose result has a shape that follows from values."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Those that do so where the index is a mask."""
MADE = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor}


class Answering(TorchDispatchMode):
    """For what happens once a run: each value that is asked for is 1.

    Attributes:
        asked: how many were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ != "_local_scalar_dense":
            return func(*args, **(kwargs or {}))
        self.asked += 1
        return 1


@contextmanager
def on_meta() -> Iterator[None]:
    """Fails at the first operation with a tensor that is not on `meta`, or that would have to know a value."""
    with _Making(), _OnMeta():
        yield


class _Making(TorchFunctionMode):
    """Fails where a tensor is made of Python's numbers, which copies from the host; in arithmetic they come without."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in MADE, "a tensor is made of Python's numbers"
        return func(*args, **(kwargs or {}))


class _OnMeta(TorchDispatchMode):
    """All else."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        assert name not in LOOKS, f"{func} looks at a value"
        counts = name in COUNTS or (name in INDEXED and any(map(_is_mask, args[1])))
        assert not counts, f"{func} counts values"
        for value in tree_leaves((args, kwargs)):
            assert_on_meta(value, f"an argument of {func}")
        result = func(*args, **kwargs)
        for value in tree_leaves(result):
            assert_on_meta(value, f"a result of {func}")
        return result


def assert_on_meta(value: Any, what: str) -> None:
    """That a value, if it is a tensor, is on `meta`."""
    assert not isinstance(value, Tensor) or value.is_meta, f"{what} is on {value.device}, of shape {tuple(value.shape)}"


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class _Casting(TorchFunctionMode):
    """Convolutions and linear layers in bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.conv2d, F.linear):
            args = [each.bfloat16() if isinstance(each, Tensor) else each for each in args]
        return func(*args, **(kwargs or {}))


@contextmanager
def autocasting() -> Iterator[None]:
    """Within the block `torch.autocast` knows `meta`, and casts there what it casts on a GPU of a plain network."""
    real = torch.autocast
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            torch, "autocast", lambda kind, *args, **more: _Casting() if kind == "meta" else real(kind, *args, **more)
        )
        yield
