"""Our gradient attacks give the images that torchattacks' give from the same start; both AutoAttacks agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attacks.autoattack import AutoAttack
from attacks.bim import BIM
from attacks.fgsm import FGSM
from attacks.loop import GradientAttack
from attacks.pgd import PGD20, PGDSAT, PGDTRADES
from attacks.t_pgd import TPGD
from bench.data import load_dataset
from bench.data.dataset import Dataset, to_float
from bench.models import build_model
from bench.stats import mcnemar_exact

from ..helpers.networks import DigitsModel, fit
from ..helpers.places import CIFAR10_SUBSET


@pytest.fixture(scope="module")
def digits(digits_model: DigitsModel) -> tuple[nn.Module, Dataset]:
    return digits_model("sat").requires_grad_(False), load_dataset("digits", Path("data"))


@pytest.fixture(scope="module")
def cifar10() -> tuple[nn.Module, Dataset]:
    """A ResNet-20 after eight steps: the two have to agree on any network."""
    if not CIFAR10_SUBSET.is_dir():
        pytest.skip(f"needs the CIFAR-10 images in {CIFAR10_SUBSET}")
    dataset = load_dataset(f"parquet:{CIFAR10_SUBSET}", Path("data")).limit_train(512)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_model("resnet20", dataset.num_classes, dataset.in_channels)
    images = to_float(dataset.train.images)
    return fit(network, images, dataset.train.labels, epochs=2).requires_grad_(False), dataset


def uniform(x: Tensor, seed: int) -> Tensor:
    """The U(-1, 1) that torchattacks scales to its own start after the same seed."""
    torch.manual_seed(seed)
    return torch.empty_like(x).uniform_(-1, 1)


def normal(x: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn_like(x)


def pgd(model: nn.Module, attack: Any) -> Any:
    return torchattacks.PGD(model, attack.eps, attack.step_size, attack.steps, random_start=True)


PAIRS: dict[str, tuple[type[GradientAttack], Callable[..., Any], Callable[..., Tensor] | None, dict[str, Any]]] = {
    "fgsm": (FGSM, lambda model, a: torchattacks.FGSM(model, a.eps), None, {}),
    "bim": (BIM, lambda model, a: torchattacks.BIM(model, a.eps, a.step_size, a.steps), None, {}),
    "pgd-sat": (PGDSAT, pgd, uniform, {}),
    "pgd-20": (PGD20, pgd, uniform, {}),
    "pgd-trades": (PGDTRADES, pgd, uniform, {}),
    # torchattacks clamps the gaussian start to [0, 1], TRADES' code does not.
    "t-pgd": (
        TPGD,
        lambda model, a: torchattacks.TPGD(model, a.eps, a.step_size, a.steps),
        normal,
        {"start": "gaussian-clamped"},
    ),
}


@pytest.mark.parametrize(
    ("data", "name"), [*(("digits", name) for name in PAIRS), *(("cifar10", name) for name in ("pgd-sat", "t-pgd"))]
)
def test_the_same_images_from_the_same_start(data: str, name: str, request: pytest.FixtureRequest) -> None:
    network, dataset = request.getfixturevalue(data)
    kind, theirs, noise, options = PAIRS[name]
    attack = kind.for_protocol("official", dataset.eps)
    attack = type(attack)(
        **{**{k: v for k, v in attack.parameters().items() if name != "fgsm" or k == "eps"}, **options}
    )
    # float64: in float32 the two ways of rounding an iterate can turn the sign of a gradient that is all but zero.
    model = network.double()
    n = {"digits": 64, "cifar10": 4}[data]
    x, y = to_float(dataset.test.images[:n]).double(), dataset.test.labels[:n]
    library = theirs(model, attack)
    torch.manual_seed(7)
    expected = library(x, y)
    ours = attack(model, x, y, noise=noise(x, 7) if noise else None)
    assert (ours - expected).abs().max() < 1e-6
    assert (ours - x).abs().max() == pytest.approx(attack.eps, rel=1e-6)
    network.float()


@pytest.mark.usefixtures("quick_autoattack")
@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_both_autoattacks_agree_within_the_interval(data: str, request: pytest.FixtureRequest) -> None:
    """Their draws differ, so single samples may; McNemar's test must see no difference between the two."""
    network, dataset = request.getfixturevalue(data)
    n = 8
    x, y = to_float(dataset.test.images[:n]), dataset.test.labels[:n]
    ours = AutoAttack.for_protocol("official", dataset.eps).run(network, x, y)
    library = torchattacks.AutoAttack(network, eps=dataset.eps, n_classes=10, seed=0)
    library._autoattack.attacks[-1].n_queries = 1000  # its Square's; as many as ours has here
    theirs = library(x, y)
    with torch.no_grad():
        right = [(network(images).argmax(1) == y).numpy() for images in (ours.x_adv, theirs)]
    only = [int((right[k] & ~right[1 - k]).sum()) for k in (0, 1)]
    assert mcnemar_exact(*only) > 0.05
    assert ours.components is not None
    assert list(ours.components) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert all(np.diff(list(ours.components.values())) <= 0)
    assert ours.components["square"] == pytest.approx(right[0].mean())
