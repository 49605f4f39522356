"""Vision transformers (Dosovitskiy et al. 2021) for small images: timm's, with first weights of their own."""

from __future__ import annotations

from typing import NamedTuple

from timm.models import VisionTransformer
from torch import nn


class Size(NamedTuple):
    """How large a transformer is, and the square images it is made for."""

    width: int
    depth: int
    heads: int
    image: int
    patch: int


SIZES = {
    "vit-tiny": Size(192, 12, 3, 32, 4),
    "vit-small": Size(384, 12, 6, 32, 4),
    "digits-vit": Size(64, 2, 4, 8, 2),
}
"""The sizes of Touvron et al. (2021) with patches for 32x32; the last is to 8x8 digits what they are to CIFAR."""


def build_vit(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """One of `SIZES`: images (B, in_channels, H, W) to logits (B, num_classes).

    Made for one size of image, it takes any whose sides are multiples of its patches'. Its weights begin as Dosovitskiy
    et al.'s do (Xavier's), not as small as timm's: those need more images. Positions begin as large as the weights that
    embed the patches, which is timm's 0.02 for patches of 16x16x3: beside small patches, whose weights are larger, that
    would not be seen.
    """
    size = SIZES[name]
    network = VisionTransformer(
        img_size=size.image,
        patch_size=size.patch,
        in_chans=in_channels,
        num_classes=num_classes,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        dynamic_img_size=True,
    )
    assert network.pos_embed is not None
    nn.init.normal_(network.pos_embed, std=(3 * in_channels * size.patch**2) ** -0.5)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return network
