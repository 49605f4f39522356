"""Small pictures that tests put into datasets of the real layouts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..helpers.places import SHARED

Picture = Callable[..., bytes]


@pytest.fixture
def picture() -> Picture:
    """picture(colour, size=8, mode="RGB", format="PNG"): the bytes of an image file of one colour."""

    def encode(colour: object, size: int = 8, mode: str = "RGB", format: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.new(mode, (size, size), colour).save(stream, format)  # type: ignore[arg-type]
        return stream.getvalue()

    return encode


@pytest.fixture
def noise() -> np.ndarray:
    """Random uint8 images, shape (12, 3, 8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """shared("cifar10-subset"): that folder of real data, or a skip where it is not at hand."""

    def find(name: str) -> Path:
        folder = SHARED / name
        if not folder.is_dir():
            pytest.skip(f"the real data {name} is not at hand")
        return folder

    return find
