"""TrivialAugmentWide of whole batches against torchvision's own, image by image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from bench.data.augment import LEVELS, OPERATIONS
from bench.data.trivial_augment import trivial_augment

ROUNDED = ("Brightness", "Color", "Contrast", "Sharpness")
"""Equal up to where a product is rounded: by one grey level, in few pixels."""


def pictures(channels: int, height: int, width: int) -> torch.Tensor:
    """Noise, a ramp, a dark and an even image."""
    shape = (channels, height, width)
    noise = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ramp = torch.linspace(0, 255, noise.numel()).view(shape).to(torch.uint8)
    return torch.stack([noise, ramp, noise // 8, torch.full(shape, 77, dtype=torch.uint8)])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 12, 8)])
def test_every_operation_at_every_strength_is_torchvision_s(shape: tuple[int, int, int]) -> None:
    policy: Any = v2.TrivialAugmentWide()
    assert (tuple(policy._AUGMENTATION_SPACE), policy.num_magnitude_bins) == (OPERATIONS, LEVELS)
    images = pictures(*shape)
    cases = torch.cartesian_prod(torch.arange(14), torch.arange(LEVELS), torch.arange(2)).tolist()
    repeated = images.repeat(len(cases), 1, 1, 1)
    operation, level, negative = torch.tensor(cases).repeat_interleave(len(images), dim=0).T
    whole = trivial_augment(repeated, operation, level, negative.bool())  # all in one batch
    for number, (which, strength, sign) in enumerate(cases):
        name = OPERATIONS[which]
        values, signed = policy._AUGMENTATION_SPACE[name]
        magnitudes = values(LEVELS, *shape[1:])
        magnitude = 0.0 if magnitudes is None else float(magnitudes[strength]) * (-1 if sign and signed else 1)
        options = {"interpolation": policy.interpolation, "fill": policy._fill}
        expected = policy._apply_image_or_video_transform(images, name, magnitude, **options)
        got = whole[number * len(images) : (number + 1) * len(images)]
        if name in ROUNDED:
            apart = (expected.int() - got.int()).abs()
            assert apart.max() <= 1, (name, magnitude)
            assert apart[:3].sum() <= 2e-2 * apart[:3].numel()
        elif name == "Rotate":  # pixels of a diagonal lie between two others
            assert (expected != got).any(1).float().mean() < 0.08
        else:
            assert torch.equal(expected, got), (name, magnitude)


def test_the_images_given_stay_as_they_are() -> None:
    images = pictures(3, 8, 8).repeat(14, 1, 1, 1)
    before = images.clone()
    trivial_augment(images, torch.arange(14).repeat_interleave(4), torch.full((56,), 30), torch.ones(56).bool())
    assert torch.equal(images, before)
