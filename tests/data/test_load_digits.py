"""The digits: sizes, values and a split that never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits as sklearn_digits

from bench.data import load_dataset


def test_digits(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.test.images.shape == (360, 1, 8, 8)
    assert digits.train.images.dtype == torch.uint8
    assert digits.test.labels.dtype == torch.int64
    assert digits.classes == tuple("0123456789")
    assert (digits.padding, digits.flip, digits.eps > 8 / 255) == (1, False, True)
    assert digits.test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert list(tmp_path.iterdir()) == []


def test_the_values_are_scikit_learns_spread_to_255(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    found = torch.cat([digits.train.images, digits.test.images]).flatten(1).numpy()
    original = sklearn_digits().images.reshape(1797, 64)
    expected = np.floor(original * 255 / 16 + 0.5).astype(np.uint8)  # 8 of 16 is 127.5: to the even 128 as well
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected))


def test_the_split_is_the_published_one(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    assert digits.train.fingerprint == "da140760992cd0916e959156bd3bed2cdb9d36f2abd2315df399a7c68788d202"
    assert digits.test.fingerprint == "6b89fbe3692e1acd9ec145dab78b12e8ed85b896d56e6fb59051384e020e7498"
