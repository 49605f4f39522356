"""A run that is killed ten times, at random moments, ends bit by bit as the one that never was.

`BENCH_TEST_KILLS=200` kills more often.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.data import load_dataset

from ..helpers.commands import Sit
from ..helpers.homes import Find, logged

KILLS = int(os.environ.get("BENCH_TEST_KILLS", "10"))
OPTIONS = (
    *("average.kind=ema", "average.decay=0.9", "awp.from_epoch=6", "augmentation.kind=trivial-augment"),
    *("optimizer.kind=adamw", "optimizer.lr=1e-3", "optimizer.clip=1", "optimizer.decay_norms=false"),
    *("schedule.kind=cosine", "schedule.warmup=4"),
)
STEPS = 16  # in an epoch: 80 images (of 100, 20 are held out) in batches of 5


def moments(seed: str) -> Iterator[dict[str, Any]]:
    """When to kill: in a step or between two, while a checkpoint is written or renamed, at the beginning."""
    draw = random.Random(seed)
    for number in range(KILLS):
        match number % 5:
            case 0 | 1:
                yield {"event": "step", "count": draw.randint(1, 4), "delay": draw.uniform(0, 0.03)}
            case 2:
                yield {"event": "flush", "count": draw.randint(2, 12)}
            case 3:
                yield {"event": "rename", "count": draw.randint(2, 12)}
            case _:
                yield {"event": "begin", "delay": draw.uniform(0, 0.05)}


def final_state(folder: Path) -> dict[str, Any]:
    """Everything that the next step would have depended on."""
    _, content = (folder / "final.pt").read_bytes().split(b"\n", 1)
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    assert {"student", "optimizer", "defense", "best", "best_weights"} <= state.keys()
    return {key: value for key, value in state.items() if key not in ("seconds", "digest")}


def assert_same(one: Any, other: Any, place: str = "state") -> None:
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_same(mine, theirs, f"{place}.{number}")
    else:
        assert one == other, place


def test_the_comparison_sees_one_bit() -> None:
    one: dict[str, list[Any]] = {"a": [torch.zeros(3), (1, "x")]}
    other = copy.deepcopy(one)
    assert_same(one, other)
    other["a"][0][1] = 1e-45
    with pytest.raises(AssertionError, match=r"state\.a\.0"):
        assert_same(one, other)


def options(folder: Path) -> Iterator[str]:
    """All that may be combined with a defense, additional images included; what it says of epochs is for twelve."""
    digits = load_dataset("digits", folder).test.first(40)
    more: dict[str, Any] = {"x": 255 - digits.images.numpy(), "y": digits.labels.numpy()}
    np.savez(folder / "more.npz", **more)
    yield from ("--extra", f"npz:{folder}/more.npz", "--extra-share", "0.5")
    for each in OPTIONS:
        yield from ("--set", f"training.{each}")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sat", "mtard", "b-mtard", "absld", "ciard"])
def test_killed_again_and_again_and_continued(method: str, sit: Sit, trained: Path, tmp_path: Path, runs: Find) -> None:
    """SAT with all options."""
    epochs = 2 * KILLS // 4
    arguments = (
        *("run", "--method", method, "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
        *("--epochs", str(epochs), "--limit-train", "100", "--batch-size", "5", "--set", "steps=3"),
        *(options(tmp_path) if method == "sat" else ()),
    )
    homes = [Path(shutil.copytree(trained, tmp_path / name)) for name in ("whole", "killed")]
    there = {path.name for path in runs(trained)}

    def folder(home: Path) -> Path:
        (path,) = (path for path in runs(home) if path.name not in there)
        return path

    code, _, said = sit(*arguments, home=homes[0])
    assert code == 0, said
    places = []
    for moment in moments(method):
        code, _, said = sit(*arguments, home=homes[1], save_seconds=0.0, **moment)
        if code == 0:  # a fast processor was done before the moment came
            break
        assert code == -signal.SIGKILL, (moment, said)
        if (folder(homes[1]) / "metrics.jsonl").exists():
            lines = Counter((line["kind"], line["epoch"], line["step"]) for line in logged(folder(homes[1])))
            assert set(lines.values()) <= {1}
        places.append(said.rpartition("Continuing")[2])
    if code != 0:
        code, _, said = sit(*arguments, home=homes[1])
        assert code == 0, said
        assert "Continuing" in said
    assert len(set(places)) > KILLS // 3  # it came forward

    whole, killed = map(folder, homes)
    assert whole.name == killed.name
    assert_same(final_state(whole), final_state(killed))
    assert logged(whole) == logged(killed)
    weights = sorted(path.name for path in whole.glob("*.safetensors"))
    assert weights == sorted(path.name for path in killed.glob("*.safetensors"))
    assert ("robust-teacher.safetensors" in weights) == (method == "ciard")
    assert ("best-plain.safetensors" in weights) == (method == "sat")
    for name in weights:
        assert_same(load_file(whole / name), load_file(killed / name), name)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (whole, killed)]
    for key in ("checkpoint", "selected_epoch", "accuracy"):
        assert summaries[0][key] == summaries[1][key]
    assert not list(killed.glob(".*.tmp"))
