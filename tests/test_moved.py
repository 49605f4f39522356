"""Import paths that earlier documentation named still lead to what they led to."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from bench.moved import MOVED


@pytest.mark.parametrize(
    ("old", "names"),
    [
        ("bench.ranks", ["Ranks", "ranks"]),
        ("bench.recipe", ["Optimizer"]),
        ("bench.schedule", ["Schedule"]),
        ("bench.statistics", ["Difference", "holm", "mcnemar", "welch", "wilson_interval"]),
        ("bench.stepping", ["TrainingStep"]),
    ],
)
def test_an_old_import_path_gives_the_same_and_says_the_new_one(old: str, names: list[str]) -> None:
    sys.modules.pop(old, None)
    new = import_module(MOVED[old])
    with pytest.warns(DeprecationWarning, match=MOVED[old]):
        found = import_module(old)
    assert all(getattr(found, name) is getattr(new, name) for name in names)
