"""TrivialAugmentWide of whole batches, on the device: every image has an operation and a strength of its own.

torchvision's `v2.TrivialAugmentWide` draws one operation for all images that it is called with; papers mean one for
each image (Müller and Hutter 2021, arXiv 2103.10158). Here are its operations and strengths with parameters that differ
within a batch, held to torchvision's image by image in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as library

from bench.data.augment import LEVELS, OPERATIONS

_NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
_GREY = (0.2989, 0.587, 0.114)
_BLUR = 1 / 13
"""Weight of a neighbour in the blurred image that sharpness moves away from; the pixel itself has five times that."""

Images = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def trivial_augment(images: Tensor, operation: Tensor, level: Tensor, negative: Tensor) -> Tensor:
    """Apply its operation to each image.

    Args:
        images: uint8, shape (B, C, H, W), one channel or three, on any device.
        operation: int64, shape (B,), on the CPU, place in `OPERATIONS`. level: likewise, 0 to LEVELS - 1.
        negative: bool, shape (B,), on the CPU: whether a strength that has a sign is negative.

    Returns:
        uint8, shape (B, C, H, W), a new tensor.
    """
    result = images.clone()
    sign = 1 - 2 * negative.float()
    for names, apply in _GROUPS.items():
        chosen = torch.isin(operation, torch.tensor([_NUMBER[name] for name in names])).nonzero()[:, 0]
        if len(chosen):
            place = chosen.to(images.device)
            result[place] = apply(images[place], operation[chosen], level[chosen], sign[chosen])
    return result


def _strength(level: Tensor, first: float, last: float) -> Tensor:
    return torch.linspace(first, last, LEVELS)[level]


def _moved(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shear, shift and rotate: nearest neighbours, black where nothing was."""
    b, _, h, w = images.shape

    def of(name: str, values: Tensor) -> Tensor:
        return torch.where(operation == _NUMBER[name], values, 0.0)

    shear, pixels = sign * _strength(level, 0, 0.99), sign * _strength(level, 0, 32).floor()
    angle = of("Rotate", torch.deg2rad(sign * _strength(level, 0, 135)))
    shear_x, shear_y = of("ShearX", shear), of("ShearY", shear)
    # From a pixel's place, seen from the image's centre, to where its value comes from: one row for x, one for y.
    x = torch.stack([angle.cos(), shear_x - angle.sin(), shear_x * h / 2 - of("TranslateX", pixels)], dim=1) / (w / 2)
    y = torch.stack([shear_y + angle.sin(), angle.cos(), shear_y * w / 2 - of("TranslateY", pixels)], dim=1) / (h / 2)
    matrix = torch.stack([x, y], dim=2).to(images.device)
    columns, rows = (torch.arange(n, device=images.device) - (n - 1) / 2 for n in (w, h))
    place = torch.stack([columns.expand(h, w), rows[:, None].expand(h, w), torch.ones_like(columns).expand(h, w)], -1)
    grid = place.view(1, h * w, 3).expand(b, -1, -1).bmm(matrix).view(b, h, w, 2)
    return F.grid_sample(images.float(), grid, "nearest", "zeros", align_corners=False).to(torch.uint8)


def _blended(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Brightness, colour and contrast: between each image (a ratio of 1) and what it is without it (0)."""
    x = images.float()
    ratio = _each(1 + sign * _strength(level, 0, 0.99), images)
    is_colour, is_contrast = (_each(operation == _NUMBER[name], images) for name in ("Color", "Contrast"))
    grey = x if x.shape[1] == 1 else (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True).floor()
    mean = grey.mean((1, 2, 3), keepdim=True)
    without = torch.where(is_colour, grey, torch.where(is_contrast, mean, 0.0))
    mixed = (x * ratio + without * (1 - ratio)).clamp(0, 255)
    return (torch.where(is_colour, x, mixed) if x.shape[1] == 1 else mixed).to(torch.uint8)


def _sharpened(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    x = images.float()
    kernel = x.new_full((x.shape[1], 1, 3, 3), _BLUR)
    kernel[:, :, 1, 1] *= 5
    inner = x[:, :, 1:-1, 1:-1]
    inner += (F.conv2d(x, kernel, groups=x.shape[1]).round() - inner) * -_each(sign * _strength(level, 0, 0.99), images)
    return x.clamp(0, 255).to(torch.uint8)


def _posterized(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    dropped = (level / ((LEVELS - 1) / 6)).round().long()
    return images & _each(256 - 2**dropped, images).to(torch.uint8)


def _solarized(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return torch.where(images >= _each(255 * _strength(level, 1, 0), images), 255 - images, images)


def _each(values: Tensor, images: Tensor) -> Tensor:
    """One value an image, on the images' device."""
    return values.to(images.device)[:, None, None, None]


_GROUPS: dict[tuple[str, ...], Images] = {
    ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"): _moved,
    ("Brightness", "Color", "Contrast"): _blended,
    ("Sharpness",): _sharpened,
    ("Posterize",): _posterized,
    ("Solarize",): _solarized,
    ("AutoContrast",): lambda images, *_: library.autocontrast(images),
    ("Equalize",): lambda images, *_: library.equalize(images),
}
"""What is done to all images at once whose operation is one of these."""
