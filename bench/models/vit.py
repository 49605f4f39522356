"""Vision transformers (Dosovitskiy et al. 2021) for small images, with the layer names of timm's."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError


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


class SelfAttention(nn.Module):
    """Attention of several heads: (B, tokens, width) to the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = (
            self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, width))


class Perceptron(nn.Module):
    """Two layers with GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Attention and perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Each patch as a vector: (B, C, H, W) to (B, width, H / patch, W / patch)."""

    def __init__(self, in_channels: int, size: Size) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, size.width, size.patch, size.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class VisionTransformer(nn.Module):
    """Patches and a class token, blocks, a linear layer on the class token.

    Maps images (B, in_channels, H, W) to logits (B, num_classes). Made for one size of image, it takes any whose sides
    are multiples of its patches': the embeddings of positions are resampled to them, as timm does it. Its weights begin
    as Dosovitskiy et al.'s do (Xavier's), not as small as timm's: those need more images.
    """

    def __init__(self, size: Size, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.patch, self.grid = size.patch, size.image // size.patch
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, size.width))
        self.patch_embed = PatchEmbedding(in_channels, size)
        self.blocks = nn.Sequential(*(TransformerBlock(size.width, size.heads) for _ in range(size.depth)))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.head = nn.Linear(size.width, num_classes)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % self.patch or x.shape[-1] % self.patch:
            raise BenchError(
                f"Images of {x.shape[-2]}x{x.shape[-1]} cannot be divided into patches of {self.patch}x{self.patch}.\n"
                "Choose a network for such images (`bench list models`)."
            )
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = self.blocks(tokens + self._positions(patches.shape[-2], patches.shape[-1]))
        return self.head(self.norm(tokens)[:, 0])

    def _positions(self, height: int, width: int) -> Tensor:
        """The embeddings of class token and positions for this many patches, (1, 1 + height * width, width)."""
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        own = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        resampled = F.interpolate(own.float(), (height, width), mode="bicubic", antialias=True).to(own.dtype)
        return torch.cat([self.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)


def build_vit(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """One of `SIZES`."""
    return VisionTransformer(SIZES[name], num_classes, in_channels)
