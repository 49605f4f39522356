"""The adapters of torchattacks' Square and pyautoattack's AutoAttack."""

from __future__ import annotations

from typing import Any

import pyautoattack
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from attacks import frugal
from attacks.autoattack import APGD, AutoAttack, AutoAttackRand
from attacks.ensemble import Ensemble
from attacks.square import Square
from bench.attack import Attack, check_images
from bench.errors import BenchError
from bench.threat import Threat
from bench.vocabulary import Norm

EPS = 0.05


def network(classes: int, scale: float = 1.0, seed: int = 0, side: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        d = 3 * side**2
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(d), nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, classes))
    model.state_dict()["2.weight"].mul_(scale)
    return model.eval()


def images(model: nn.Module, n: int, side: int = 4) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))
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


def test_square_of_libraries_needs_five_pixels_a_side_but_in_linf() -> None:
    model = network(10)
    for attack in (Square(norm="l2", eps=0.5), AutoAttack(norm="l1", eps=1.0)):
        with pytest.raises(BenchError, match="5 pixels or more a side"):
            attack.run(model, *images(model, 2))


@pytest.mark.parametrize("queries", [100])
def test_square_in_l2_is_torchattacks(queries: int) -> None:
    model = network(10, scale=3, side=8)
    x, y = images(model, 8, side=8)
    x_adv = Square(norm="l2", eps=0.5, queries=queries)(model, x, y)
    with torch.random.fork_rng():
        theirs = torchattacks.Square(model, norm="L2", eps=0.5, n_queries=queries, seed=0)(x, y)
    assert torch.equal(x_adv, theirs)
    check_images("square", Threat("l2", 0.5), x_adv, x)
    assert 0 < int((model(x_adv).argmax(1) != y).sum()) < len(x)


def test_square_in_l1_is_pyautoattack_s() -> None:
    model = network(10, scale=3, side=8)
    x, y = images(model, 8, side=8)
    before = torch.get_rng_state()
    x_adv = Square(norm="l1", eps=4.0, queries=60)(model, x, y)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        library = pyautoattack.square.SquareAttack(model, norm="L1", eps=4.0, n_queries=60, seed=0)
        theirs = library.perturb(x, y)
    assert torch.equal(x_adv, theirs)
    assert library.rescale_schedule  # of 10,000 queries, to those allowed; torchattacks' too
    check_images("square", Threat("l1", 4.0), x_adv, x)
    assert 0 < int((model(x_adv).argmax(1) != y).sum()) < len(x)


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


def _few_queries(square: Any) -> Any:
    def perturb(self: Any, *given: Any) -> Any:
        self.n_queries = 100
        return whole(self, *given)

    whole = square.perturb
    return perturb


RADII: dict[Norm, float] = {"linf": 0.05, "l2": 0.25, "l1": 1.0}


@pytest.mark.usefixtures("quick_autoattack")
@pytest.mark.parametrize("norm", RADII)
@pytest.mark.parametrize("kind", [AutoAttack, APGD, AutoAttackRand])
def test_an_ensemble_is_the_librarys_own_whole_run(
    norm: Norm, kind: type[Ensemble], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of four, and without those that are fooled, it breaks the samples that one call of the library breaks.

    Where none is left out APGD finds the very images, too; FAB's hang on the last bit of a sum.
    """
    monkeypatch.setattr(pyautoattack.square.SquareAttack, "perturb", _few_queries(pyautoattack.square.SquareAttack))
    monkeypatch.setattr(frugal, "at_once", lambda *_: 4)
    model = network(10, scale=4, side=6)
    x, y = images(model, 12, side=6)
    attack = kind(eps=RADII[norm], norm=norm, batch_size=8)
    ours = attack.run(model, x, y)
    with torch.random.fork_rng():
        version = "custom" if kind is APGD else attack.version
        library = pyautoattack.AutoAttack(model, norm=norm.capitalize(), eps=attack.eps, seed=0, version=attack.version)
        library.version, library.attacks_to_run = version, list(kind.components)
        theirs, _ = library.run_standard_evaluation(x, y, batch_size=8)
    broken = model(theirs).argmax(1) != y
    assert torch.equal(model(ours.x_adv).argmax(1) != y, broken)
    assert 0 < int(broken.sum()) < len(x)
    check_images(kind.label, attack.threat, ours.x_adv, x)
    if kind is AutoAttack:
        return
    monkeypatch.setattr(kind, "_may_leave_out", False)
    monkeypatch.setattr(frugal, "at_once", lambda *_: 8)
    torch.testing.assert_close(attack.run(model, x, y).x_adv, theirs, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("quick_autoattack")
def test_apgd_passes_no_sample_that_is_fooled() -> None:
    model = network(10, scale=4)
    x, y = images(model, 32)
    passes: list[int] = []
    model.register_forward_hook(lambda module, given, logits: passes.append(len(logits)))
    APGD(eps=0.1).run(model, x, y)
    ours = sum(passes)
    passes.clear()
    library = pyautoattack.AutoAttack(model, eps=0.1, seed=0)
    library.attacks_to_run = ["apgd-ce", "apgd-t"]
    with torch.random.fork_rng():
        library.run_standard_evaluation(x, y, batch_size=32)
    assert ours < 0.8 * sum(passes)


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
