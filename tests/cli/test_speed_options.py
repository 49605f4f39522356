"""What speed may not cost: bf16 learns as well, a deterministic run repeats, and options are understood."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.fast import SPEEDUPS

Bench = Callable[..., Any]

DIGITS = ("--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo")
SHORT = (*DIGITS, "--epochs", "1", "--limit-train", "100")


@pytest.mark.slow
def test_bf16_learns_as_well_as_float32_over_five_seeds(bench: Bench, tmp_path: Path) -> None:
    runs = {}
    for precision in ("32", "bf16"):
        for seed in range(5):
            options = ("--method", "sat", *DIGITS[2:], "--epochs", "4", "--seed", seed, "--precision", precision)
            result = bench("run", *options, home=tmp_path)
            assert result.code == 0, result
            runs[precision] = Path(result.out.strip()).name
    assert bench("eval", "--suite", "pgd-sat", "--limit", "180", home=tmp_path).code == 0
    result = bench("compare", runs["32"], runs["bf16"], "--all-seeds", "--format", "json", home=tmp_path)
    assert result.code == 0, result
    compared = {(row["attack"], row["quantity"]): row for row in json.loads(result.out)["contrasts"]}
    for row in compared.values():
        assert row["test"] == "welch"
        assert row["difference"]["p"] > 0.05, row
    robust = compared["pgd-sat", "robust"]["difference"]
    assert robust["low"] < 0 < robust["high"]
    assert robust["high"] - robust["low"] < 0.2  # an interval that holds anything shows nothing


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
    slow = json.loads((folder / "summary.json").read_text())["accuracy"]
    result = bench("run", *SHORT, home=home)
    fast = json.loads((Path(result.out.strip()) / "summary.json").read_text())["accuracy"]
    assert slow == pytest.approx(fast, abs=0.05)


def test_a_speedup_there_is_not_is_a_mistake(bench: Bench, tmp_path: Path) -> None:
    assert "channels-last" in bench("run", *SHORT, "--off", "channel-last", home=tmp_path).mistake
    listed = bench("list", "speedups", "--json", home=tmp_path)
    assert [row["name"] for row in json.loads(listed.out)] == list(SPEEDUPS)
