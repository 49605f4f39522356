"""`bench run --plan`: what would be trained, from what, for how long; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cost.measure import Runner
from bench.models import build_model
from bench.runs.folder import RunFolder

from ..helpers.commands import DIGITS, Bench
from ..helpers.homes import Contents, Find

CIARD = ("run", "--method", "ciard", "--student", "digits-cnn")
SAT = ("run", "--method", "sat", "--student", "digits-cnn")
TOOK = 0.5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Runner]:
    """Every step that is timed takes half a second; the runners that were asked."""
    asked: list[Runner] = []

    def few(self: Runner, patience: float) -> tuple[float, str]:
        asked.append(self)
        return TOOK, "a few timed steps"

    monkeypatch.setattr(Runner, "few", few)
    return asked


@pytest.fixture
def planned(bench: Bench) -> Callable[..., Any]:
    """planned(*arguments, home=...): `bench ... --plan --json`."""

    def plan(*arguments: object, home: Path) -> Any:
        result = bench(*arguments, "--plan", "--json", home=home)
        assert result.code == 0, result
        return json.loads(result.out)

    return plan


def test_a_run_in_a_new_home(bench: Bench, quick: list[Runner], planned: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = (*CIARD, "--dataset", "digits", "--recipe", "demo", "--epochs", "4", "--batch-size", "100")
    plan = planned(*options, "--limit-train", "900", home=home)
    assert [(part["role"], part["model"], part["method"], part["state"]) for part in plan["parts"]] == [
        ("robust", "digits-teacher", "trades", "not run"),
        ("clean", "digits-teacher", "natural", "not run"),
        ("student", "digits-cnn", "ciard", "not run"),
    ]
    robust, clean, student = plan["parts"]
    # A fifth of 900 images at most is held out; a teacher has the recipe's length.
    assert (student["epochs"], student["batch_size"], student["images"]) == (4, 100, 900 - 180)
    assert (student["steps"], robust["epochs"], robust["steps"]) == (8, 12, 12)
    assert student["seconds"] == pytest.approx(4 * 8 * TOOK)  # both phases of CIARD together
    assert plan["seconds"] == pytest.approx((4 * 8 + 2 * 12 * 12) * TOOK)
    assert clean["source"] is None
    assert not home.exists()
    text = bench(*options, "--limit-train", "900", "--plan", home=home).out
    assert "About 3 min of training steps are left" in text
    assert "robust teacher" in text
    assert "12 epochs of 12 steps, batches of 64" in text
    assert not home.exists()


def test_images_that_are_not_here_are_not_fetched(
    quick: list[Runner], planned: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.cifar.urlopen", lambda *_, **__: pytest.fail("it was"))
    plan = planned("run", "--method", "sat", "--student", "resnet20", "--set", "steps=3", home=tmp_path / "home")
    (student,) = plan["parts"]
    assert (plan["dataset"], student["epochs"], student["steps"]) == ("cifar10", 205, 391)
    assert student["seconds"] == pytest.approx(205 * 391 * TOOK)
    assert quick[0].x.shape == (128, 3, 32, 32)
    assert getattr(quick[0].step.defense, "steps") == 3  # noqa: B009
    assert not (tmp_path / "home").exists()


def test_what_is_here_is_named(
    bench: Bench, quick: list[Runner], planned: Callable[..., Any], trained: Path, contents: Contents, runs: Find
) -> None:
    before = contents(trained)
    assert "All of it is trained already." in bench(*CIARD, *DIGITS, "--plan", home=trained).out
    plan = planned(*CIARD, *DIGITS, "--seed", "5", home=trained)
    assert [part["state"] for part in plan["parts"]] == ["trained", "trained", "not run"]
    assert {part["source"] for part in plan["parts"][:2]} == {path.name for path in runs(trained, "-teacher_")}
    # The run with another seed tells how long it takes, but not where something is set that changes a step.
    (ciard,) = runs(trained, "_ciard_")
    summary = RunFolder(ciard).summary()
    assert summary is not None
    assert plan["seconds"] == pytest.approx(summary.seconds)
    assert plan["parts"][2]["basis"] == f"run {ciard.name}"
    for more in (("--set", "steps=3"), ("--off", "fused"), ("--deterministic",)):
        assert planned(*SAT, *DIGITS, "--seed", "5", *more, home=trained)["parts"][0]["basis"] == "a few timed steps"
    assert contents(trained) == before


def test_of_a_run_that_was_stopped_the_rest_is_left(
    quick: list[Runner], planned: Callable[..., Any], home: Path, runs: Find
) -> None:
    (sat,) = runs(home, "_sat_")
    for name in ("summary.json", "best.safetensors", "last.safetensors"):
        (sat / name).unlink()
    RunFolder(sat).write_progress(epoch=1, epochs=1, step=1, steps=2, seconds_left=None)
    (student,) = planned(*SAT, *DIGITS, home=home)["parts"]
    assert (student["state"], student["source"], student["done"]) == ("interrupted", sat.name, 0.5)
    assert student["seconds"] == pytest.approx(student["epochs"] * student["steps"] * TOOK / 2)


def test_a_teacher_from_a_file(bench: Bench, quick: list[Runner], planned: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "robust.pt"
    torch.save(build_model("digits-cnn", 10, 1).state_dict(), file)
    options = ("run", "--method", "ard", "--student", "digits-cnn", *DIGITS)
    teacher, student = planned(*options, "--teacher", f"robust=digits-cnn:{file}", home=tmp_path / "home")["parts"]
    assert (teacher["state"], teacher["source"], teacher["model"]) == ("given", str(file), "digits-cnn")
    assert teacher["seconds"] == 0
    assert student["seconds"] > 0
    message = bench(*options, "--teacher", "robust=/nowhere.pt", "--plan", home=tmp_path / "home").mistake
    assert "There is no checkpoint /nowhere.pt" in message


@pytest.mark.parametrize(
    ("options", "words"), [(("--json",), "--json belongs to --plan"), (("--plan", "--restart"), "Leave --restart")]
)
def test_what_makes_no_sense(bench: Bench, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    assert words in bench(*SAT, *DIGITS, *options, home=tmp_path).mistake


@pytest.mark.parametrize(
    ("an_image", "seconds", "basis"),
    [(1e-4, 0.0064, "a few timed steps"), (0.5, 32.0, "timed steps of 8 images")],
)
def test_on_a_cpu_large_batches_are_timed_where_they_are_quick(
    monkeypatch: pytest.MonkeyPatch, an_image: float, seconds: float, basis: str
) -> None:
    now = 0.0
    taken: list[int] = []

    def step(x: torch.Tensor, y: torch.Tensor, **_: object) -> None:
        nonlocal now
        now += len(x) * an_image * (10 if not taken else 1)  # the first one loads libraries
        taken.append(len(x))

    monkeypatch.setattr("bench.cost.measure.time.perf_counter", lambda: now)
    step_of_64: Any = step
    runner = Runner(step_of_64, torch.zeros(64, 1), torch.zeros(64), 1, torch.device("cpu"))
    assert runner.few(6.0) == (pytest.approx(seconds), basis)
    assert now < 60
