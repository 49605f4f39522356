"""Attacks that give a radius for each sample: FMN, held against foolbox's, and PGD at eight radii."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.fmn import FMN
from attacks.pgd import PGDSAT
from attacks.pgd_curve import PGDCurve
from bench.attack import check_images, distance
from bench.vocabulary import Norm


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 5))
    return layers.double().eval()


def samples(model: nn.Module, n: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 5  # wrong without attack
    return x, y


NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def scaled_project(self: Any, x: Any, x0: Any, epsilon: Any) -> Any:
    """What foolbox's L2 projection means to do: its own divides a norm by itself, and so leaves all as it is."""
    delta = x - x0
    length = delta.flatten(start=1).norms.l2(axis=-1).maximum(1e-12)
    return x0 + delta * (epsilon / length).minimum(1).reshape((-1, 1, 1, 1))


@pytest.mark.parametrize("norm", NORMS)
def test_fmn_is_foolbox_s(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    foolbox = pytest.importorskip("foolbox")
    kinds = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack"}
    kind = getattr(foolbox.attacks, kinds[norm])
    if norm == "l2":
        monkeypatch.setattr(kind, "project", scaled_project)
    model = network()
    x, y = samples(model)
    _, theirs, _ = kind(steps=40)(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=None)
    ours = FMN(norm=norm, steps=40, overshoot=0.0).run(model, x, y)
    assert ours.radii is not None
    found = ours.radii.isfinite()
    assert found.sum() > 4
    assert ours.radii[found].tolist() == pytest.approx(distance(theirs, x, norm)[found].tolist(), abs=1e-6)
    # Where none was found, both have the image itself. Of two steps as near, rounding may choose the other.
    assert torch.allclose(ours.x_adv, theirs, atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_fmn_s_images_fool_at_their_radii_and_are_nearest_found(norm: Norm) -> None:
    model = network()
    x, y = samples(model)
    outcome = FMN(norm=norm).run(model, x, y)
    assert outcome.radii is not None
    assert outcome.radii[0] == 0
    check_images("fmn", None, outcome.x_adv, x)
    found = outcome.radii.isfinite()
    assert found.sum() > 6
    assert torch.equal(model(outcome.x_adv).argmax(1) != y, found)
    assert outcome.radii[found].tolist() == pytest.approx(distance(outcome.x_adv, x, norm)[found].tolist(), abs=1e-12)
    # Of a linear margin the distance to the boundary is known: |margin| / the gradient's dual norm; this one is nearly.
    weight = torch.zeros(2, 48, dtype=torch.float64)
    weight[1] = torch.linspace(-1, 1, 48)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    linear.load_state_dict({"1.weight": weight, "1.bias": torch.tensor([0.0, -0.4], dtype=torch.float64)})
    middle = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    dual = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}[norm]
    radii = FMN(norm=norm, steps=300).run(linear, middle, torch.tensor([0])).radii
    assert radii is not None
    exact = 0.4 / float(torch.linalg.vector_norm(weight[1], ord=dual))
    assert exact <= float(radii) < 1.15 * exact


def test_a_model_without_a_boundary_has_no_radius() -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double()
    constant[1].weight.data.zero_()  # type: ignore[operator]
    constant[1].bias.data.copy_(torch.tensor([1.0, 0, 0]))  # type: ignore[operator]
    x = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
    for attack in (FMN(steps=5), PGDCurve()):
        outcome = attack.run(constant, x, torch.tensor([0, 1]))
        assert outcome.radii is not None
        assert outcome.radii.tolist() == [float("inf"), 0]
        assert torch.equal(outcome.x_adv, x)


@pytest.mark.parametrize("norm", NORMS)
def test_the_curve_of_pgd_is_pgd_at_each_radius(norm: Norm) -> None:
    model = network()
    x, y = samples(model, 30)
    attack = PGDCurve.for_protocol(
        "official", FMN(norm=norm, eps={"linf": 0.02, "l2": 0.1, "l1": 0.8}[norm]).threat or 0
    )
    assert isinstance(attack, PGDCurve)
    noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(2))
    outcome = attack.run(model, x, y, noise=noise)
    assert outcome.radii is not None
    standing = torch.ones(30, dtype=torch.bool)
    for radius in attack.radii():
        plain = PGDSAT.for_protocol("official", attack.threat or 0).scaled_to(radius)
        single = plain.run(model, x, y, noise=noise, track=True)
        assert single.always_right is not None
        standing &= single.always_right & (model(single.x_adv).argmax(1) == y)
        assert torch.equal(outcome.radii > radius, standing)
    assert 0 < standing.sum() < 29
    found = outcome.radii.isfinite()
    assert (distance(outcome.x_adv, x, norm)[found] <= outcome.radii[found] + 1e-9).all()
    assert (model(outcome.x_adv).argmax(1) != y)[found].all()
