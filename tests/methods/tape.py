"""A small reverse-mode tape over float64 arrays, and the layers of the references' network, in NumPy alone.

Every operation makes a `Tensor` that knows what it was made from, and how a gradient goes back there; `gradients` walks
back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Axes: TypeAlias = "int | tuple[int, ...] | None"
Back: TypeAlias = "tuple[Tensor, Callable[[np.ndarray], np.ndarray]]"
"""What a value was made from, and its gradient from the value's; one of a broadcast shape is summed by `gradients`."""


class Tensor:
    """An array, and what it was made from; arrays and numbers beside it in an expression are constants."""

    __array_ufunc__ = None  # so that `array * tensor` is the tensor's own product
    made = itertools.count()

    def __init__(self, data: Any, *backs: Back) -> None:
        self.data = np.asarray(data, dtype=np.float64)
        self.backs = backs
        self.number = next(self.made)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __len__(self) -> int:
        return len(self.data)

    def item(self) -> float:
        return self.data.item()

    def detach(self) -> Tensor:
        return Tensor(self.data)

    def argmax(self, axis: int) -> np.ndarray:
        return self.data.argmax(axis)

    def __add__(self, other: Any) -> Tensor:
        other = tensor(other)
        return Tensor(self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other: Any) -> Tensor:
        a, b = self.data, tensor(other).data
        return Tensor(a * b, (self, lambda g: g * b), (tensor(other), lambda g: g * a))

    def __truediv__(self, other: Any) -> Tensor:
        a, b = self.data, tensor(other).data
        return Tensor(a / b, (self, lambda g: g / b), (tensor(other), lambda g: -g * a / b**2))

    def __pow__(self, n: float) -> Tensor:
        a = self.data
        return Tensor(a**n, (self, lambda g: g * n * a ** (n - 1)))

    def __matmul__(self, other: Tensor) -> Tensor:
        """Of two matrices."""
        a, b = self.data, other.data
        return Tensor(a @ b, (self, lambda g: g @ b.T), (other, lambda g: a.T @ g))

    def __neg__(self) -> Tensor:
        return Tensor(-self.data, (self, lambda g: -g))

    def __sub__(self, other: Any) -> Tensor:
        other = tensor(other)
        return Tensor(self.data - other.data, (self, lambda g: g), (other, lambda g: -g))

    def __rsub__(self, other: Any) -> Tensor:
        return tensor(other) - self

    def __rtruediv__(self, other: Any) -> Tensor:
        return tensor(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def exp(self) -> Tensor:
        e = np.exp(self.data)
        return Tensor(e, (self, lambda g: g * e))

    def log(self) -> Tensor:
        a = self.data
        return Tensor(np.log(a), (self, lambda g: g / a))

    def tanh(self) -> Tensor:
        t = np.tanh(self.data)
        return Tensor(t, (self, lambda g: g * (1 - t**2)))

    def clamp(self, low: float, high: float = np.inf) -> Tensor:
        """Nothing passes back at a bound itself, as with a ReLU."""
        within = (self.data > low) & (self.data < high)
        return Tensor(self.data.clip(low, high), (self, lambda g: g * within))

    def logsumexp(self, axis: int) -> Tensor:
        """Of length 1 along `axis`."""
        top = self.data.max(axis, keepdims=True)
        e = np.exp(self.data - top)
        total = e.sum(axis, keepdims=True)
        return Tensor(top + np.log(total), (self, lambda g: g * e / total))

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        axes = tuple(range(self.data.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
        kept = added(self.data, axes)
        back = (self, lambda g: np.broadcast_to(g.reshape(kept.shape), self.shape))
        return Tensor(kept if keepdims else kept.squeeze(axes), back)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        total = self.sum(axis, keepdims)
        return total / (self.data.size / total.data.size)

    def reshape(self, *shape: int) -> Tensor:
        return Tensor(self.data.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    @property
    def T(self) -> Tensor:
        return Tensor(self.data.T, (self, lambda g: g.T))

    def __getitem__(self, index: Any) -> Tensor:
        """By numbers, slices, masks or arrays; what is taken twice has the sum of both gradients."""

        def back(g: np.ndarray) -> np.ndarray:
            found = np.zeros(self.shape)
            np.add.at(found, index, g)
            return found

        return Tensor(self.data[index], (self, back))


def tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else Tensor(value)


def gradients(scalar: Tensor, wanted: Sequence[Tensor]) -> list[np.ndarray]:
    """d scalar / d each of `wanted`, all of which it must be made from."""
    assert scalar.shape == ()
    behind, ahead = {id(scalar): scalar}, [scalar]
    while ahead:
        for source, _ in ahead.pop().backs:
            if id(source) not in behind:
                behind[id(source)] = source
                ahead.append(source)
    order = sorted(behind.values(), key=lambda t: t.number)  # what a value was made from was made before it
    on_the_way = {id(t) for t in wanted}
    for t in order:
        if any(id(source) in on_the_way for source, _ in t.backs):
            on_the_way.add(id(t))
    found = {id(scalar): np.ones(())}
    for t in reversed(order):
        for source, back in t.backs:
            if id(source) in on_the_way:
                g = unbroadcast(back(found[id(t)]), source.shape)
                found[id(source)] = found[id(source)] + g if id(source) in found else g
    return [found[id(t)] for t in wanted]


def unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Summed over the axes along which a value of this shape was repeated."""
    if g.shape == shape:
        return g
    longer = (1,) * (g.ndim - len(shape)) + shape
    return added(g, tuple(axis for axis, n in enumerate(longer) if n != g.shape[axis])).reshape(shape)


def added(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over these axes, which keep length 1; they are laid side by side, as NumPy adds pairwise there alone."""
    others = tuple(axis for axis in range(array.ndim) if axis not in axes)
    rows = array.transpose(others + axes).reshape(*(math.prod(array.shape[i] for i in part) for part in (others, axes)))
    return np.ascontiguousarray(rows).sum(1).reshape([1 if i in axes else n for i, n in enumerate(array.shape)])


class Layer:
    """One layer, from a state of arrays under PyTorch's names."""

    training = False

    def __init__(self, state: Mapping[str, np.ndarray] | None = None) -> None:
        state = state or {}
        self.parameters = {name: Tensor(state[name]) for name in ("weight", "bias") if name in state}
        self.buffers = {name: value for name, value in state.items() if name not in self.parameters}

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Conv2d(Layer):
    """A kernel of 3x3, one row and column of zeros around the images."""

    def __init__(self, state: Mapping[str, np.ndarray], stride: int = 1) -> None:
        super().__init__(state)
        self.stride = stride

    def __call__(self, x: Tensor) -> Tensor:
        weight, s = self.parameters["weight"], self.stride
        w, (number, channels, height, width) = weight.data, x.shape
        around = np.pad(x.data, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3))[:, :, ::s, ::s]

        def to_images(g: np.ndarray) -> np.ndarray:
            each = np.tensordot(g, w, (1, 0))  # number, rows, columns, channels, 3, 3
            found = np.zeros((number, channels, height + 2, width + 2))
            for i, j in itertools.product(range(3), range(3)):
                rows, columns = (slice(at, at + s * (n - 1) + 1, s) for at, n in zip((i, j), g.shape[2:], strict=True))
                found[:, :, rows, columns] += each[..., i, j].transpose(0, 3, 1, 2)
            return found[:, :, 1:-1, 1:-1]

        def to_weight(g: np.ndarray) -> np.ndarray:
            return np.tensordot(g, patches, ((0, 2, 3), (0, 2, 3)))

        value = np.tensordot(patches, w, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        found = Tensor(value, (x, to_images), (weight, to_weight))
        return found + self.parameters["bias"].reshape(-1, 1, 1) if "bias" in self.parameters else found


class BatchNorm2d(Layer):
    """Momentum 0.1; the variance is biased in the batch, unbiased in the running statistics."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.training:
            mean = x.mean((0, 2, 3), keepdims=True)
            var = ((x - mean) ** 2).mean((0, 2, 3), keepdims=True)
            n = x.data.size / mean.data.size
            for name, now in (("running_mean", mean.data), ("running_var", var.data * n / (n - 1))):
                self.buffers[name] = 0.9 * self.buffers[name] + 0.1 * now.ravel()
            self.buffers["num_batches_tracked"] += 1
        else:
            mean, var = (tensor(self.buffers[name].reshape(-1, 1, 1)) for name in ("running_mean", "running_var"))
        weight, bias = (self.parameters[name].reshape(-1, 1, 1) for name in ("weight", "bias"))
        return (x - mean) / (var + 1e-5) ** 0.5 * weight + bias


class Tanh(Layer):
    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh()


class AvgPool2d(Layer):
    """Over squares of 4x4."""

    def __call__(self, x: Tensor) -> Tensor:
        number, channels, height, width = x.shape
        return x.reshape(number, channels, height // 4, 4, width // 4, 4).mean((3, 5))


class Flatten(Layer):
    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1)


class Linear(Layer):
    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.parameters["weight"].T + self.parameters["bias"]


class Bounded(Layer):
    def __call__(self, logits: Tensor) -> Tensor:
        return 5 * (logits / 5).tanh()


class Network:
    """conv-BN-conv-BN-pool-linear, the one of `test_three_steps.py`, in eval mode; it keeps the arrays it is given."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        def own(number: int) -> dict[str, np.ndarray]:
            prefix = f"{number}."
            return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

        self.layers = [Conv2d(own(0)), BatchNorm2d(own(1)), Tanh(), Conv2d(own(3), stride=2), BatchNorm2d(own(4))]
        self.layers += [Tanh(), AvgPool2d(), Flatten(), Linear(own(8)), Bounded()]

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def train(self, mode: bool = True) -> Network:
        for layer in self.layers:
            layer.training = mode
        return self

    def eval(self) -> Network:
        return self.train(False)

    def named_parameters(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.parameters.items()}

    def parameters(self) -> list[Tensor]:
        return list(self.named_parameters().values())

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays of now, by name: what is written into one is written into the network."""
        buffers = {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in layer.buffers.items()}
        return {name: weight.data for name, weight in self.named_parameters().items()} | buffers
