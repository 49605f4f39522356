"""Models from a notebook: whatever returns logits is attacked, and what cannot be is refused with its cure."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bench
from bench.api.networks import fingerprint, name_of, networks_in
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.evaluation import attack_run
from bench.records.record import Record

CLASSES = 3


def small(seed: int = 0) -> nn.Sequential:
    """With batch normalisation and dropout, so that its mode matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
        )
    return model


MODEL = small().eval()
"""What functions of this file name."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    images = torch.randint(256, (20, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        split = Split(images, MODEL(to_float(images)).argmax(1))
    return Dataset("small", split, split, ("a", "b", "c"), padding=0)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def outcomes(record: Record) -> dict[str, str]:
    return {name: result.final for name, result in record.results.items()}


class Returning(nn.Module):
    """A network with something made of its logits."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.make = small(), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.network(x))

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)


class Scorer:
    """No network, but it has one."""

    def __init__(self) -> None:
        self.net = small()

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)


def scaled(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def of_a_global(x: Tensor) -> Tensor:
    return MODEL(x)


@pytest.mark.parametrize(
    "model",
    [
        Returning(lambda logits: SimpleNamespace(logits=logits, hidden=None)),  # as Hugging Face's
        Returning(lambda logits: {"loss": None, "logits": logits}),
        Returning(lambda logits: (logits, logits.new_zeros(len(logits), 7))),
        Returning(lambda logits: [logits.sum(), logits]),
        Returning(lambda logits: logits).scores,
        Scorer(),
        functools.partial(scaled, small()),
        of_a_global,
        (lambda network: lambda x: network(x))(small()),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("training", [True, False])
def test_whatever_returns_logits_is_attacked_in_eval_mode(data: Dataset, model: Any, training: bool) -> None:
    networks = [model] if isinstance(model, nn.Module) else list(networks_in(model))
    for network in networks:
        network.train(training)
    record = bench.evaluate(model, data, ["fgsm", "pgd-sat"], limit=6)
    assert outcomes(record) == outcomes(bench.evaluate(MODEL, data, ["fgsm", "pgd-sat"], limit=6))
    assert networks
    assert all(each.training == training for network in networks for each in network.modules())
    assert list(Path().iterdir()) == []  # nothing is left behind


def test_several_suites_are_one_record_whatever_their_order(data: Dataset, tmp_path: Path) -> None:
    first = bench.evaluate(MODEL, data, ["pgd-sat", "fgsm"], limit=4, save=True, home=tmp_path)
    assert (first.suite, list(first.results)) == ("fgsm,pgd-sat", ["clean", "pgd-sat", "fgsm"])
    again = bench.evaluate(MODEL, data, "fgsm, pgd-sat", limit=4, save=True, home=tmp_path)
    assert again.digest
    assert again.created == first.created
    both = bench.evaluate(MODEL, data, ["whitebox", "bim", "fgsm"], limit=2)
    assert list(both.results) == ["clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf", "bim"]


def test_what_a_network_computes_tells_it_apart(data: Dataset) -> None:
    class Stretched(nn.Module):
        """Logits and weights as they were, and another gradient."""

        def forward(self, x: Tensor) -> Tensor:
            return MODEL(x + (2 * (x - x.detach())))

    class Dice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return MODEL(x + float(np.random.rand()))  # by a generator that nobody seeds

    seen = [fingerprint(model, data.test) for model in (MODEL, Stretched(), nn.Sequential(MODEL, nn.Softmax(1)))]
    assert None not in seen
    assert len(set(seen)) == 3
    assert fingerprint(small().eval(), data.test) == seen[0]
    assert fingerprint(Dice(), data.test) is None


class Stopped(Exception):
    pass


class Stopping(nn.Module):
    """Ends the notebook's cell in the pass of this number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.network, self.at, self.images, self.factor = small(), at, 0, 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        if self.images > self.at:
            raise KeyboardInterrupt
        return self.factor * self.network(x)


def test_what_was_broken_off_goes_on(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 4)
    options: dict[str, Any] = {"suite": "whitebox", "home": tmp_path / "home"}
    whole = Stopping(10**9)
    expected = bench.evaluate(whole, data, **options)
    with pytest.raises(KeyboardInterrupt):
        bench.evaluate(Stopping(whole.images // 2), data, **options)
    assert list((tmp_path / "home").rglob("*.safetensors"))
    other = Stopping(10**9)
    other.factor = 2.0  # the same weights: nothing of theirs is taken
    bench.evaluate(other, data, **options)
    assert other.images >= whole.images - 20
    with pytest.raises(KeyboardInterrupt):
        bench.evaluate(Stopping(whole.images // 2), data, **options)
    rest = Stopping(10**9)
    record = bench.evaluate(rest, data, **options)
    assert rest.images < 0.7 * whole.images
    assert outcomes(record) == outcomes(expected)
    assert record.checks is not None
    assert expected.checks is not None
    assert record.checks.model_copy(update={"seconds": 0.0}) == expected.checks.model_copy(update={"seconds": 0.0})
    assert list((tmp_path / "home").iterdir()) == []


def test_a_home_that_cannot_be_written_is_no_hindrance(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "fgsm" in bench.evaluate(MODEL, data, "fgsm", limit=2, home=tmp_path / "file").results
    with pytest.raises(BenchError, match="Cannot write"):
        bench.evaluate(MODEL, data, "fgsm", limit=2, home=tmp_path / "file", save=True)


LOADER = DataLoader(TensorDataset(torch.rand(4, 1, 4, 4), torch.arange(4)))

NO_SUITES: list[Any] = [5, None, [], [None], "", {}]
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"model": "my.pt"}, r"model is a str.*\n.*bench eval --checkpoint"),
    ({"model": OrderedDict(MODEL.state_dict())}, r"an OrderedDict.*\n.*load_state_dict\(weights\)"),
    ({"model": None}, r"model is a NoneType.*\nGive a torch\.nn\.Module"),
    ({"model": nn.Linear}, r"the class Linear.*\nMake one: Linear\("),
    (
        {"model": Returning(lambda y: (y, y))},
        r"a tuple with 2 tensors .*\n.*lambda x: model\(x\)\[0\]",
    ),
    ({"model": Returning(lambda y: {"out": y})}, r"a mapping of 'out'.*\n.*lambda x: model\(x\)\['KEY'\]"),
    ({"model": Returning(lambda y: (y[:, 0],))}, r"a tuple with no tensor of shape \(B, 3\)\.\n"),
    ({"model": Returning(lambda y: SimpleNamespace(out=y))}, r"a SimpleNamespace\.\n.*model\(x\)\.NAME"),
    ({"model": lambda x: MODEL(x).detach()}, r"No gradient comes back through lambda.*\n.*suite='square'"),
    ({"model": lambda x: MODEL(x).detach().numpy()}, r"returns an ndarray, and attacks need gradients\.\nReturn"),
    ({"model": lambda x: torch.zeros(len(x), 3)}, "No gradient comes back"),
    ({"model": lambda x: MODEL(x)[0]}, r"output of shape \(3,\) for one image, not \(1, 3\) logits"),
    ({"model": lambda x, y: x}, "lambda cannot take images of 1x4x4: .*missing"),
    ({"model": nn.Sequential(nn.Conv2d(3, 1, 1))}, "cannot take images of 1x4x4"),
    ({"model": small().half()}, r"float16.*\n.*\.float\(\)"),
    ({"model": small().to("meta")}, "Sequential has no weights yet"),
    ({"device": "meta"}, r"The model's weights are on cpu, the evaluation on meta\.\nMove the model with \.to"),
    ({"device": "gpu"}, r"device='gpu' is none\.\nGive 'cpu', 'cuda'"),
    ({"surrogate": "my.pt"}, "model is a str"),
    ({"surrogate": small().half()}, r"The surrogate's weights are float16"),
    ({"dataset": LOADER}, r"dataset is a DataLoader\.\nCollect it: "),
    ({"dataset": LOADER.dataset}, r"dataset is a dataset of PyTorch's\.\nCollect it: "),
    ({"dataset": np.zeros((4, 1, 4, 4))}, r"dataset is an ndarray\.\nGive a bench\.Dataset"),
    ({"dataset": (torch.rand(3, 1, 4, 4), torch.arange(3))}, r"dataset is a tuple\.\nGive a bench\.Dataset"),
    ({"dataset": "digit"}, "Did you mean 'digits'"),
    *(({"limit": limit}, f"limit={limit!r}: give the number") for limit in (0, -3, 2.5, True, "all")),
    ({"limit": "20"}, "limit='20': give the number .* Without quotes: limit=20"),
    ({"suite": "whitbox"}, "Did you mean 'whitebox'"),
    *(({"suite": suite}, "suite=.*: give a name, or a list of names") for suite in NO_SUITES),
    ({"protocol": "nonsense"}, "'official' and 'paper'"),
    *(({"seed": seed}, f"seed={seed!r}: a seed is a whole number") for seed in (-1, 0.5, None)),
    ({"name": 7}, "name=7: give a text"),
    ({"home": 7}, r"home=7 is no folder\.\nGive its path"),
    ({"save": "yes"}, "save='yes': give True or False"),
    ({"checks": 0}, "checks=0: give True or False"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_every_mistake_is_a_bench_error_with_its_cure(data: Dataset, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message) as raised:
        bench.evaluate(**{"model": MODEL, "dataset": data, "suite": "fgsm", "limit": 2, **change})
    assert 1 <= len(str(raised.value).splitlines()) <= 2
    assert list(Path().iterdir()) == []


def test_a_function_without_a_gradient_can_be_queried(data: Dataset) -> None:
    record = bench.evaluate(lambda x: MODEL(x).detach(), data, "square", limit=2)
    assert list(record.results) == ["clean", "square"]


def test_numbers_of_numpy_are_numbers(data: Dataset) -> None:
    record = bench.evaluate(MODEL, data, "fgsm", limit=np.int64(3), seed=torch.tensor(1))  # type: ignore[arg-type]
    assert (record.data.n, record.seed) == (3, 1)


def test_a_name_and_a_radius_of_ones_own(data: Dataset) -> None:
    record = bench.evaluate(of_a_global, replace(data, eps=0.1), "fgsm", name="mine", checks=False, limit=2)
    assert (record.subject.label, record.subject.model, record.data.eps) == ("mine", "of_a_global", 0.1)
    assert record.flags[-1].startswith("not checked")
