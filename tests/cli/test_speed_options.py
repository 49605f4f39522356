"""What speed may not cost: bf16 learns as well, a deterministic run repeats, and options are understood.

`BENCH_TEST_SEEDS=5` takes the mean of five trainings in each precision.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.compute.speedups import SPEEDUPS

from ..helpers.commands import Bench

DIGITS = ("--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo")
SEEDS = int(os.environ.get("BENCH_TEST_SEEDS", "1"))
SHORT = (*DIGITS, "--epochs", "1", "--limit-train", "100")


@pytest.mark.slow
def test_bf16_learns_as_well_as_float32(bench: Bench, tmp_path: Path) -> None:
    """A training that underflows or drifts ends near chance, 10 %; sound ones differ by some points."""
    means = {}
    for precision in ("32", "bf16"):
        options = ("--method", "sat", *DIGITS[2:], "--epochs", "4", "--set", "steps=3", "--precision", precision)
        found = []
        for seed in range(SEEDS):
            result = bench("run", *options, "--seed", seed, home=tmp_path)
            assert result.code == 0, result
            run = Path(result.out.strip()).name
            result = bench("eval", "--suite", "pgd-sat", "--limit", "180", "--run", run, home=tmp_path)
            assert result.code == 0, result
            results = json.loads(Path(result.out.splitlines()[0]).read_text())["results"]
            found.append([results[name]["accuracy"] for name in ("clean", "pgd-sat")])
        means[precision] = np.mean(found, axis=0)
    assert means["32"][0] > 0.5  # it learns at all: without that, "as well" shows nothing
    assert means["bf16"] == pytest.approx(means["32"], abs=0.25)


@pytest.mark.parametrize(("method", "precision"), [("ciard", "32"), ("sat", "bf16")])
def test_the_same_run_twice_is_the_same_weights_with_deterministic(
    bench: Bench, taught: Path, method: str, precision: str
) -> None:
    checkpoints = []
    again = Path(shutil.copytree(taught, taught.with_name("again")))
    try:
        for home in (taught, again):
            result = bench(
                "run", "--method", method, *SHORT[2:], "--deterministic", "--precision", precision, home=home
            )
            assert result.code == 0, result
            folder = Path(result.out.strip())
            checkpoints.append(json.loads((folder / "summary.json").read_text())["checkpoint"])
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert checkpoints[0] == checkpoints[1]


def test_a_run_says_which_speedups_it_had_and_all_can_be_switched_off(bench: Bench, taught: Path) -> None:
    home = Path(shutil.copytree(taught, taught.with_name("fast")))
    off = [word for name in SPEEDUPS for word in ("--off", name)]
    result = bench("run", *SHORT, *off, home=taught)
    assert result.code == 0, result
    folder = Path(result.out.strip())
    assert json.loads((folder / "environment.json").read_text())["speedups"] == []
    result = bench("run", *SHORT, home=home)
    # Over an epoch of two steps, whose gradients differ in their last bits, in which a few signs may turn.
    slow, fast = (json.loads((at / "metrics.jsonl").read_text()) for at in (folder, Path(result.out.strip())))
    assert slow["terms"] == pytest.approx(fast["terms"], rel=0.05)


def test_a_speedup_there_is_not_is_a_mistake(bench: Bench, tmp_path: Path) -> None:
    assert "channels-last" in bench("run", *SHORT, "--off", "channel-last", home=tmp_path).mistake
    listed = bench("list", "speedups", "--json", home=tmp_path)
    assert [row["name"] for row in json.loads(listed.out)] == list(SPEEDUPS)
