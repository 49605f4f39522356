"""Rotations and translations: the transformation against SciPy's, the search against a plain one over the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from attacks.geometric import Geometric, transformed
from bench.attack import check_images


def images(n: int, side: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("place", [(0, 0, 0), (17.0, 0, 0), (-30.0, 0, 0), (0, 1.5, -3.0), (24.0, -1.5, 3.0)])
def test_a_transformation_is_scipy_s(place: tuple[float, float, float]) -> None:
    """Held against `ndimage.affine_transform`, bilinear, zeros outside; rows are y there, and y points down."""
    x, (angle, right, down) = images(2), place
    radians = np.deg2rad(angle)
    back = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    centre = (np.array(x.shape[-2:]) - 1) / 2
    offset = centre - back @ (centre + np.array([down, right]))
    for image, moved in zip(x.flatten(0, 1), transformed(x, *place).flatten(0, 1), strict=True):
        padded = np.pad(image.numpy(), 1)  # SciPy cuts at the centres of the outermost pixels
        expected = ndimage.affine_transform(padded, back, offset + 1 - back @ np.ones(2), order=1)[1:-1, 1:-1]
        assert moved.numpy() == pytest.approx(expected, abs=1e-12)


def test_a_rotation_turns_against_the_clock() -> None:
    x = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    x[0, 0, 2, 4] = 1  # at the right
    assert transformed(x, 90, 0, 0)[0, 0, 0, 2] == pytest.approx(1)  # at the top
    assert transformed(x, 0, -1, 2)[0, 0, 4, 3] == pytest.approx(1)


class Counting(nn.Module):
    """A small network that counts what passes through it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).double()
            self.passes = 0
            self(images(1))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        logits: Tensor = self.layers(x)
        return logits


def test_it_finds_what_a_plain_search_finds_with_fewer_passes() -> None:
    network, attack, x = Counting(), Geometric(rotations=5, degrees=4, translations=3, pixels=0.5), images(24, seed=1)
    assert len(attack.grid()) == 45
    assert (0, 0, 0) in attack.grid()
    y = network(x).argmax(1)
    y[0] = (y[0] + 1) % 4  # wrong as it is
    plain = torch.stack([network(transformed(x, *place)).argmax(1) == y for place in attack.grid()]).all(0)
    plain &= network(x).argmax(1) == y
    network.passes = 0
    x_adv = attack(network, x, y)
    assert network.passes < 45 * 24
    assert torch.equal(network(x_adv).argmax(1) == y, plain)
    assert 0 < plain.sum() < 23
    assert torch.equal(x_adv[plain], x[plain])
    check_images("geometric", attack.threat, x_adv, x)


def test_the_grid_is_the_published_one() -> None:
    grid = Geometric().grid()
    assert len(set(grid)) == 31 * 25
    assert sorted({round(angle, 9) for angle, _, _ in grid}) == list(range(-30, 31, 2))
    assert {shift for _, shift, _ in grid} == {-3, -1.5, 0, 1.5, 3}
    assert Geometric(rotations=1, translations=1).grid() == [(0, 0, 0)]


def test_it_has_no_ball() -> None:
    attack = Geometric.for_protocol("official", 8 / 255)
    assert attack.parameters() == {"rotations": 31, "degrees": 30.0, "translations": 5, "pixels": 3.0, "in_ball": False}
    with pytest.raises(ValueError, match="1 or more"):
        Geometric(rotations=0)
