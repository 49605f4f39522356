"""The outcome of every sample, as a record's JSON holds it: bits, or distances, as base64 text."""

from __future__ import annotations

import base64

import numpy as np


def pack(right: np.ndarray) -> str:
    """Per-sample outcomes, shape (n,), bool, as base64 text."""
    return base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode()


def unpack(text: str, n: int) -> np.ndarray:
    """Outcomes packed by `pack`: shape (n,), bool. ValueError where the text does not hold n outcomes."""
    return np.unpackbits(np.frombuffer(_packed(text, n), dtype=np.uint8), count=n).astype(bool)


def _packed(text: str, n: int) -> bytes:
    packed = base64.b64decode(text, validate=True)
    if len(packed) != (n + 7) // 8:
        raise ValueError(f"{len(packed)} bytes of outcomes cannot hold {n} samples")
    return packed


def pack_radii(radii: np.ndarray) -> str:
    """Distances, shape (n,), as base64 text of float32."""
    return base64.b64encode(radii.astype("<f4").tobytes()).decode()


def unpack_radii(text: str, n: int) -> np.ndarray:
    """Distances packed by `pack_radii`: shape (n,), float64. ValueError where the text does not hold n of them."""
    packed = base64.b64decode(text, validate=True)
    if len(packed) != 4 * n:
        raise ValueError(f"{len(packed)} bytes of radii cannot hold {n} samples")
    return np.frombuffer(packed, dtype="<f4").astype(np.float64)


def as_bits(text: str, n: int) -> int:
    """Outcomes packed by `pack` as one whole number of n bits: to count and compare them takes no array."""
    return int.from_bytes(_packed(text, n), "big") >> -n % 8


def of_bits(right: int, n: int) -> str:
    """The text of outcomes that are one whole number of n bits, as `as_bits` makes it."""
    return base64.b64encode((right << -n % 8).to_bytes((n + 7) // 8, "big")).decode()
