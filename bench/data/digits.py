"""Handwritten digits that come with scikit-learn: 1,797 real images, enough to train on in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits as sklearn_digits

from bench.data.dataset import Dataset, Split
from bench.data.holdout import hold_out
from bench.vocabulary import usual_eps

TEST_SIZE = 360
SPLIT_SEED = 0


def load_digits(name: str, root: Path) -> Dataset:
    """The digits of scikit-learn (UCI's "Optical Recognition of Handwritten Digits", its test set).

    Images are uint8 of shape (N, 1, 8, 8): the original values 0 to 16 spread over 0 to 255. The 360 test
    images are a fixed, class-stratified draw; the other 1,437 are for training.
    """
    bunch = sklearn_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    everything = Split(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(bunch.target.astype(np.int64)))
    train, test = hold_out(everything, TEST_SIZE, SPLIT_SEED)
    classes = tuple(str(digit) for digit in range(10))
    licence = "CC BY 4.0 (UCI Machine Learning Repository, Optical Recognition of Handwritten Digits)"
    return Dataset(name, train, test, classes, eps=usual_eps("digits"), padding=1, flip=False, licence=licence)
