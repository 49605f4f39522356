"""Small pictures that tests put into datasets of the real layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ..helpers.places import SHARED
from .pictures import Picture, encoded


@pytest.fixture
def picture() -> Picture:
    """picture(colour, size=8, mode="RGB", format="PNG"): the bytes of an image file of one colour."""
    return encoded


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
