"""The tape that the references of `test_three_steps.py` stand on: its gradients, its network, and what it imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from . import tape
from .tape import Tensor, gradients
from .test_three_steps import images, network, numpy_network, to_numpy

FOLDER = Path(__file__).parent
Function = Callable[..., Tensor]
Shape = tuple[int, ...]
ARRAY = np.random.default_rng(1).uniform(0.5, 2, (3, 4))

ARITHMETIC: dict[str, Function] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
}
SHAPES: list[tuple[Shape, Shape]] = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (3, 1)),
]


def layer(kind: Callable[[Mapping[str, np.ndarray]], tape.Layer], train: bool = False) -> Function:
    """A layer as a function of its images, weight and bias."""

    def call(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found = kind(
            {
                "running_mean": np.array([0.5, 1.0]),
                "running_var": np.array([0.25, 2.0]),
                "num_batches_tracked": np.array(0),
            }
        )
        found.parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
        found.training = train
        return found(x)

    return call


OPERATIONS: dict[str, tuple[Function, list[Shape]]] = {
    **{f"{name} {shapes}": (f, list(shapes)) for name, f in ARITHMETIC.items() for shapes in SHAPES},
    "array + a": (lambda a: ARRAY + a, [(3, 4)]),
    "array - a": (lambda a: ARRAY - a, [(4,)]),
    "array * a": (lambda a: ARRAY * a, [(3, 1)]),
    "array / a": (lambda a: ARRAY / a, [(3, 4)]),
    "a / array": (lambda a: a / ARRAY, [()]),
    "numbers": (lambda a: (2 + np.float64(3) * a - 1) / (1.5 - 4 / (a + 7)), [(3, 4)]),
    "-a": (lambda a: -a, [(3, 4)]),
    "a ** 2": (lambda a: a**2, [(3, 4)]),
    "a ** 0.1": (lambda a: a**0.1, [(3, 4)]),
    "a @ b": (lambda a, b: a @ b, [(3, 4), (4, 2)]),
    "a.T": (lambda a: a.T, [(3, 4)]),
    "exp": (lambda a: a.exp(), [(3, 4)]),
    "log": (lambda a: a.log(), [(3, 4)]),
    "tanh": (lambda a: a.tanh(), [(3, 4)]),
    "clamp": (lambda a: a.clamp(0.8, 1.5), [(5, 5)]),
    "clamp below": (lambda a: a.clamp(1.1), [(5, 5)]),
    "logsumexp 0": (lambda a: a.logsumexp(0), [(3, 4)]),
    "logsumexp 1": (lambda a: (30 * a).logsumexp(1), [(3, 4)]),
    "sum": (lambda a: a.sum(), [(3, 4)]),
    "sum 1": (lambda a: a.sum(1), [(3, 4, 2)]),
    "sum 0 2": (lambda a: a.sum((0, 2)), [(3, 4, 2)]),
    "sum 0 2 kept": (lambda a: a.sum((0, 2), keepdims=True), [(3, 4, 2)]),
    "mean": (lambda a: a.mean(), [(3, 4)]),
    "mean 1": (lambda a: a.mean(1), [(3, 4, 2)]),
    "mean 0 2 kept": (lambda a: a.mean((0, 2), keepdims=True), [(3, 4, 2)]),
    "reshape": (lambda a: a.reshape(2, -1), [(3, 4)]),
    "row": (lambda a: a[1], [(3, 4)]),
    "new axis": (lambda a: a[:, None], [(3,)]),
    "pairs": (lambda a: a[np.arange(3), np.array([2, 0, 2])], [(3, 4)]),
    "rows, one twice": (lambda a: a[np.array([2, 0, 2])], [(3, 4)]),
    "mask": (lambda a: a[np.array([True, False, True])], [(3, 4)]),
    "mask of nothing": (lambda a: a[np.zeros(3, dtype=bool)].sum() + a.sum(), [(3, 4)]),
    "conv": (layer(tape.Conv2d), [(2, 3, 4, 4), (5, 3, 3, 3)]),
    "conv of stride 2": (layer(lambda state: tape.Conv2d(state, 2)), [(2, 3, 6, 4), (5, 3, 3, 3), (5,)]),
    "batch norm, train": (layer(tape.BatchNorm2d, train=True), [(3, 2, 2, 2), (2,), (2,)]),
    "batch norm, eval": (layer(tape.BatchNorm2d), [(3, 2, 2, 2), (2,), (2,)]),
    "pool": (tape.AvgPool2d(), [(2, 3, 8, 4)]),
    "flatten": (tape.Flatten(), [(2, 3, 2, 2)]),
    "linear": (layer(tape.Linear), [(4, 3), (5, 3), (5,)]),
    "bounded": (tape.Bounded(), [(3, 4)]),
    "what is used twice": (lambda a: a * a.exp() + a, [(3, 4)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_the_finite_differences(name: str) -> None:
    function, shapes = OPERATIONS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 2, shape) for shape in shapes]
    weights = rng.normal(size=function(*map(Tensor, arrays)).shape)

    def scalar() -> tuple[Tensor, list[Tensor]]:
        given = [Tensor(array.copy()) for array in arrays]
        return (weights * function(*given)).sum(), given

    for array, gradient in zip(arrays, gradients(*scalar()), strict=True):
        assert gradient.shape == array.shape
        differences = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            value, ends = array[place], []
            for moved in (value + 1e-5, value - 1e-5):
                array[place] = moved
                ends.append(scalar()[0].item())
            array[place] = value
            differences[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


def test_logsumexp_of_large_values_is_finite() -> None:
    a = Tensor([[1000.0, 999.0], [-1000.0, -1000.0]])
    value = a.logsumexp(1)
    np.testing.assert_allclose(value.data, [[1000 + np.log1p(np.exp(-1))], [np.log(2) - 1000]], rtol=1e-15)
    np.testing.assert_allclose(gradients(value.sum(), [a])[0].sum(1), 1, rtol=1e-15)


def test_nothing_passes_at_a_clamps_bounds() -> None:
    a = Tensor([-0.5, 0.0, 0.5, 1.0, 1.5])
    assert gradients(a.clamp(0, 1).sum(), [a])[0].tolist() == [0, 0, 1, 0, 0]
    assert gradients(a.clamp(0).sum(), [a])[0].tolist() == [0, 0, 1, 1, 1]


def test_nothing_passes_through_what_is_detached() -> None:
    a = Tensor([1.0, 2.0, 3.0])
    assert gradients((a.detach() * a).sum(), [a])[0].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(KeyError):
        gradients(a.detach().sum(), [a])


def test_gradients_of_a_value_and_of_what_it_was_made_from() -> None:
    a = Tensor([1.0, 2.0])
    b = a**2
    of_b, of_a = gradients((b * a).sum(), [b, a])
    assert of_b.tolist() == [1.0, 2.0]
    assert of_a.tolist() == [3.0, 12.0]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_network_is_pytorchs(classes: int, train: bool) -> None:
    """Logits, gradients, and statistics after three batches, one of them in the other mode."""
    theirs = network(classes, 3)
    ours = numpy_network(theirs)
    assert list(ours.named_parameters()) == [name for name, _ in theirs.named_parameters()]
    rng = torch.Generator().manual_seed(0)
    for mode in (train, not train, train):
        x = images(24, rng).requires_grad_()
        weights = torch.randn(24, classes, generator=rng, dtype=torch.float64)
        logits = theirs.train(mode)(x)
        expected = torch.autograd.grad((weights * logits).mean(), [x, *theirs.parameters()])
        x_ours = Tensor(to_numpy(x))
        found = ours.train(mode)(x_ours)
        same(found.data, to_numpy(logits))
        actual = gradients((to_numpy(weights) * found).mean(), [x_ours, *ours.parameters()])
        for gradient, other in zip(actual, expected, strict=True):
            same(gradient, to_numpy(other))
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        for name, value in ours.state_dict().items():
            same(value, to_numpy(state[name]))


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def imported(module: str) -> set[str]:
    """What a module of this folder imports from elsewhere, also by way of others of this folder."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1
            for name in [node.module] if node.module else [name.name for name in node.names]:
                found |= imported(name)
    return found


@pytest.mark.parametrize("module", ["tape", *(path.stem for path in sorted(FOLDER.glob("reference*.py")))])
def test_the_references_import_numpy_and_the_standard_library_alone(module: str) -> None:
    assert imported(module) - sys.stdlib_module_names == {"numpy"}
