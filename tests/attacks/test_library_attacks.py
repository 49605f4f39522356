"""The adapters of torchattacks' Square and pyautoattack's AutoAttack."""

from __future__ import annotations

from typing import Any

import pyautoattack
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attacks.autoattack import AutoAttack
from attacks.square import Square
from bench.attack import Attack

EPS = 0.05


def network(classes: int, scale: float = 1.0, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, classes))
    model.state_dict()["2.weight"].mul_(scale)
    return model.eval()


def images(model: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, model(x.to(next(model.parameters()).dtype)).argmax(1)


def inside(x_adv: Tensor, x: Tensor, eps: float = EPS) -> bool:
    return bool(((x_adv - x).abs() <= eps + 1e-6).all() and x_adv.min() >= 0 and x_adv.max() <= 1)


@pytest.mark.parametrize("training", [True, False])
def test_square_leaves_the_random_state_and_the_models_mode_untouched(training: bool) -> None:
    model = network(10)
    x, y = images(model, 8)
    model.train(training)
    statistics = model.state_dict()["1.running_mean"].clone()
    results = []
    for seed in (1, 2):  # the caller's random state has no influence, either
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(Square(eps=EPS)(model, x, y))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(model.state_dict()["1.running_mean"], statistics)
    assert all(value.grad is None for value in model.parameters())


def test_square_is_torchattacks_square_of_100_queries() -> None:
    model = network(10, scale=3)
    x, y = images(model, 8)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    x_adv = Square(eps=EPS)(model, x, y)
    assert 100 <= len(calls) <= 103  # the library's own bookkeeping takes up to three more
    with torch.random.fork_rng():
        theirs = torchattacks.Square(model, norm="Linf", eps=EPS, n_queries=100, seed=0)(x, y)
    assert torch.equal(x_adv, theirs)
    assert inside(x_adv, x)
    assert (model(x_adv).argmax(1) != y).any()
    assert not torch.equal(Square(eps=EPS, seed=1)(model, x, y), x_adv)


def test_square_needs_a_module() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module"):
        Square()(lambda x: x.flatten(1), torch.rand(1, 3, 4, 4), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, ["clean", "apgd-ce", "fab-t", "square"]),
        (3, ["clean", "apgd-ce", "fab-t", "square"]),
        (4, ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]),
        (10, ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]),
        (12, ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]),
    ],
)
def test_autoattack_with_few_and_many_classes(classes: int, names: list[str]) -> None:
    model = network(classes, scale=5).requires_grad_(False)  # as the harness gives it
    x, y = images(model, 5)
    y[0] = (y[0] + 1) % classes  # wrong without an attack
    torch.manual_seed(1)
    before = torch.get_rng_state()
    outcome = AutoAttack(eps=0.15, batch_size=3).run(model, x, y)
    assert torch.equal(torch.get_rng_state(), before)
    assert outcome.components is not None
    assert list(outcome.components) == names
    shares = list(outcome.components.values())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 0.8
    assert shares[-1] < 0.8
    with torch.no_grad():
        right = model(outcome.x_adv).argmax(1) == y
    assert right.double().mean().item() == shares[-1]
    assert inside(outcome.x_adv, x, eps=0.15)
    assert torch.equal(outcome.x_adv[0], x[0])
    assert not model.training


def test_autoattack_leaves_standing_what_cannot_be_broken() -> None:
    model = network(4)
    model.state_dict()["4.weight"].zero_()
    model.state_dict()["4.bias"].copy_(torch.tensor([3.0, 0.0, -1.0, -2.0]))
    x, y = images(model, 2)
    outcome = AutoAttack(eps=EPS).run(model, x, y)
    assert outcome.components is not None
    assert set(outcome.components.values()) == {1.0}


def test_autoattack_is_the_standard_ensemble() -> None:
    model = network(10)
    library: Any = AutoAttack(eps=EPS)._library(model, images(model, 1)[0], 10)
    assert library.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert library.epsilon == EPS
    assert (library.apgd.n_iter, library.apgd.n_restarts, library.apgd.loss) == (100, 1, "ce")
    assert (library.apgd_targeted.n_target_classes, library.fab.n_target_classes) == (9, 9)
    assert (library.square.n_queries, library.square.eps) == (5000, EPS)


def test_autoattack_refuses_what_would_mean_nothing() -> None:
    model = network(10)
    x, y = images(model, 1)
    with pytest.raises(TypeError, match=r"nn\.Module"):
        AutoAttack().run(lambda x: x.flatten(1), x, y)


def test_autoattack_is_the_librarys_own_whole_run() -> None:
    """Attack by attack and batch by batch it finds the very images that one call of the library finds."""
    model = network(10, scale=5)
    x, y = images(model, 12)
    ours = AutoAttack(eps=0.1, batch_size=8).run(model, x, y)
    with torch.random.fork_rng():
        library = pyautoattack.AutoAttack(model, eps=0.1, seed=0)
        theirs, _ = library.run_standard_evaluation(x, y, batch_size=8)
    assert torch.equal(ours.x_adv, theirs)
    assert not torch.equal(theirs, x)


@pytest.mark.parametrize("attack", [AutoAttack(eps=0.15), Square(eps=0.15)])
def test_a_float64_model_gets_float64_images(attack: Attack) -> None:
    model = network(4, scale=5).double()
    x, y = images(model, 6)
    x = x.double()
    seen: set[torch.dtype] = set()
    model.register_forward_hook(lambda network, given, logits: seen.add(logits.dtype))
    x_adv = attack(model, x, y)
    assert seen == {torch.float64}
    assert x_adv.dtype == torch.float64
    assert inside(x_adv, x, eps=0.15)
    assert (model(x_adv).argmax(1) != y).any()
