"""Options of a training, many at once: by a sweep, in float32 and bf16, killed and continued, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from bench.cost.measure import flops_per_image
from bench.cost.workload import IMAGES, Workload
from bench.data import load_dataset
from bench.sweep.done import Known, Standing
from bench.sweep.plan import expand
from bench.sweep.spec import SweepSpec
from bench.system.home import Home

from ..cli.test_exact_resume import final_state
from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.killing import ended_the_same

LOOKS = {"every": 1, "steps": 1, "limit": 20}
DRAWING = "timm:test_resnet?drop_rate=0.3&drop_path_rate=0.3"
"""Dropout before its last layer, and blocks that are left out at random."""
CASES: dict[str, tuple[str, str, float, dict[str, Any]]] = {
    "convolutions": ("sat", "digits-cnn", 0.7, {
        "optimizer": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.05, "clip": 1.0, "decay_norms": False},
        "schedule": {"kind": "cosine", "warmup": 1},
        "average": {"kind": "ema", "decay": 0.9},
        "awp": {"from_epoch": 2},
        "augmentation": {"kind": "trivial-augment"},
        "selection": {"keep": "last"},
    }),
    "transformer": ("trades", "digits-vit", 0.4, {
        "optimizer": {"kind": "sgd", "lr": 0.1, "nesterov": True, "clip": 1.0},
        "schedule": {"kind": "one-cycle"},
        "average": {"kind": "swa", "from_epoch": 2},
        "awp": {"gamma": 0.005},
        "augmentation": {"kind": "cutout"},
    }),
    "dropout": ("natural", DRAWING, 1.0, {
        "optimizer": {"kind": "rmsprop", "lr": 1e-3},
        "schedule": {"kind": "multistep", "milestones": [2]},
        "average": {"kind": "swa", "from_epoch": 1},
        "augmentation": {"kind": "none"},
    }),
    "constant": ("natural", "digits-cnn", 0.5, {"schedule": {"kind": "constant"}, "augmentation": {"flip": True}}),
}  # fmt: skip
"""Of each: method, student, share of additional images, the recipe's training."""


def recipe_of(case: str, folder: Path) -> Path:
    """A recipe of three epochs with a case's training."""
    training = CASES[case][3]
    training = {"epochs": 3, **training, "selection": LOOKS | training.get("selection", {})}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "demo", "training": training}))
    return path


@pytest.fixture
def planned(tmp_path: Path) -> Callable[[str, str], Any]:
    """planned("dropout", "bf16"): the plan of a sweep of that one run, of three epochs of four steps."""

    def plan(case: str, precision: str) -> Any:
        method, student, share, _ = CASES[case]
        digits = load_dataset("digits", tmp_path).test.first(40)
        more: dict[str, Any] = {"x": 255 - digits.images.numpy(), "y": digits.labels.numpy()}
        np.savez(tmp_path / "more.npz", **more)
        grid = {
            "methods": [method],
            "students": [student],
            "datasets": ["digits"],
            "precision": precision,
            "recipes": [str(recipe_of(case, tmp_path))],
            "extra": f"npz:{tmp_path}/more.npz",
            "extra_share": share,
            "limit_train": 60,
            "batch_size": 12,
            **({} if method == "natural" else {"ablations": [{"steps": 1}]}),
        }
        return expand(SweepSpec.model_validate({"description": "x", "runs": [grid]}), lambda spec: spec)

    return plan


@pytest.mark.parametrize(
    ("case", "precision"),
    [(case, precision) for case in CASES for precision in ("32", "bf16") if (case, precision) != ("dropout", "bf16")],
)  # The gradient of that network's convolutions of a single pixel is none in bf16: PyTorch 2.15 on a CPU.
def test_a_run_of_a_sweep_that_is_killed_ends_the_same(
    case: str, precision: str, planned: Any, bench: Bench, tmp_path: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(case, precision)
    one = ended_the_same(plan[0].run_command[1:], case, bench, tmp_path, runs, monkeypatch)
    whole = Home(tmp_path / "whole")
    assert Standing(whole, plan, Known(whole)).done() == {1}
    files = {path.stem: path for path in one.glob("*.safetensors")}
    averages = "average" in CASES[case][3]
    assert files.keys() == ({"best", "last", "best-plain", "last-plain"} if averages else {"best", "last"})
    for name, path in files.items():
        with safe_open(path, framework="pt") as file:
            assert ("average" in file.metadata()) == (averages and "plain" not in name)
    if averages:
        _check_average(final_state(one), files)


def _check_average(final: dict[str, Any], files: dict[str, Path]) -> None:
    plain, average = load_file(files["last-plain"]), load_file(files["last"])
    torch.testing.assert_close(plain, dict(final["student"]), rtol=0, atol=0)
    carried = {name.removeprefix("network."): value for name, value in final["average"]["network"].items()}
    torch.testing.assert_close(average, carried, rtol=0, atol=0)
    assert any(not torch.equal(value, plain[name]) for name, value in average.items())


@pytest.mark.parametrize(("case", "phases", "passes"), [("convolutions", ["", "awp"], 1), ("transformer", ["awp"], 3)])
def test_a_profile_runs_with_all_of_it_and_counts_what_it_costs(
    case: str, phases: list[str], passes: int, bench: Bench, tmp_path: Path
) -> None:
    """Perturbed weights take the outer loss once more: of SAT one pass forward and back, of TRADES three."""
    method, student, *_ = CASES[case]
    recipe = str(recipe_of(case, tmp_path))
    options = ("--student", student, "--dataset", "cifar10", "--recipe", recipe, "--batch-size", 2, "--steps", 1)
    result = bench("profile", "--methods", method, *options, "--json", home=tmp_path)
    assert result.code == 0, result
    found = {each["phase"]: each for each in json.loads(result.out)}
    assert list(found) == phases
    work = partial(Workload, student=student, images=IMAGES["cifar10"], batch_size=2)
    one, without = (flops_per_image(work(name, recipe="demo"), epoch=1) for name in ("natural", method))
    assert found["awp"]["flops_per_image"] == pytest.approx(without + passes * one, rel=0.01)
    step = work(method, recipe=recipe).resolved()
    made = step.step(step.networks(torch.device("cpu"), lambda network: network))
    wanted = CASES[case][3]
    assert type(made.optimizer).__name__.lower() == wanted["optimizer"]["kind"]
    assert made.average is not None
    assert made.average.setting.kind == wanted["average"]["kind"]
