"""Image files of one colour."""

from __future__ import annotations

import io
from typing import Protocol

from PIL import Image

Colour = str | int | tuple[int, ...]


class Picture(Protocol):
    """picture(colour, size=8, mode="RGB", format="PNG"): the bytes of an image file of one colour."""

    def __call__(self, colour: Colour, size: int = 8, mode: str = "RGB", format: str = "PNG") -> bytes: ...


def encoded(colour: Colour, size: int = 8, mode: str = "RGB", format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (size, size), colour).save(stream, format)
    return stream.getvalue()
