"""`bench sweep` in one process: it does what the commands do that it shows, once, and goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records.files import read_record, write_record
from bench.records.outcomes import pack
from bench.stats import wilson_interval

from ..helpers.commands import Bench, Start
from ..helpers.homes import Contents, Find

GRID = "students: [digits-cnn], datasets: [digits], recipes: [demo], epochs: 1, limit_train: 100"
SPEC = f"""
description: what `trained` has, and one ablation with an evaluation that transfers
runs:
  - {{methods: [sat, ciard], {GRID}, evaluations: [{{suite: whitebox, limit: 16}}]}}
  - {{methods: [ciard], {GRID}, ablations: [{{push: false}}], evaluations: [{{suite: blackbox, limit: 2}}]}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def plan(bench: Bench, spec: object, home: Path) -> list[dict[str, Any]]:
    result = bench("sweep", spec, "--plan", "--json", home=home)
    assert result.code == 0, result
    tasks: list[dict[str, Any]] = json.loads(result.out)
    return tasks


def test_what_hand_made_commands_have_done_is_done(
    bench: Bench, spec: Path, home: Path, contents: Contents, records: Find
) -> None:
    before = {task["command"]: task["done"] for task in plan(bench, spec, home)}
    assert [done for command, done in before.items() if "push=false" in command] == [False, False]
    assert all(done for command, done in before.items() if "push=false" not in command)
    assert len(before) == 8

    there = contents(home)
    result = bench("sweep", spec, home=home)
    assert result.code == 0, result
    assert "All 8 tasks are done." in result.err
    after = contents(home)
    assert all(after[name] == there[name] for name in there)
    assert all(task["done"] for task in plan(bench, spec, home))
    (record,) = records(home, "blackbox-official-n2")
    assert json.loads(record.read_text())["subject"]["overrides"] == {"push": False}

    again = bench("sweep", spec, home=home)
    assert (again.code, again.err.strip()) == (0, "All 8 tasks are done.")
    assert contents(home) == after


def test_the_commands_it_shows_do_the_same(bench: Bench, spec: Path, home: Path, shell: dict[str, str]) -> None:
    """In a shell, as the plan has them; the sweep then finds nothing left to do."""
    left = [task["command"] for task in plan(bench, spec, home) if not task["done"]]
    for command in left:
        done = subprocess.run(["bash", "-ec", command], cwd=home, env=shell, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert all(task["done"] for task in plan(bench, spec, home))


def test_what_is_missing_or_of_other_weights_is_not_done(bench: Bench, spec: Path, home: Path, runs: Find) -> None:
    (summary,) = (path / "summary.json" for path in runs(home, "_sat_"))
    text = summary.read_text()
    other = json.loads(text) | {"checkpoint": "0" * 64}
    summary.write_text(json.dumps(other))
    tasks = plan(bench, spec, home)
    assert [task["done"] for task in tasks if "--method sat" in task["command"]] == [True, False]
    summary.unlink()
    tasks = plan(bench, spec, home)
    assert [task["done"] for task in tasks if "--method sat" in task["command"]] == [False, False]
    (teacher,) = runs(home, "robust-teacher")
    shutil.rmtree(teacher)
    assert not any(task["done"] for task in plan(bench, spec, home) if "ciard" in task["command"])


def test_one_that_fails_does_not_stop_the_others(bench: Bench, home: Path, tmp_path: Path, records: Find) -> None:
    """Batch normalisation makes nothing of a last batch of one: 100 images, 80 of them trained on, in batches of 79."""
    spec = tmp_path / "failing.yaml"
    evaluations = "evaluations: [{suite: fgsm, limit: 16}]"
    other = GRID.replace("digits-cnn", "resnet18")
    spec.write_text(
        f"description: x\nruns:\n  - {{methods: [rslad], {other}, batch_size: 79, {evaluations}}}\n"
        f"  - {{methods: [sat], {GRID}, {evaluations}}}\n",
        encoding="utf-8",
    )
    result = bench("sweep", spec, home=home)
    assert "1 of 5 tasks failed and 1 could not be tried" in result.mistake
    assert "Failed: 2. bench run --method rslad --student resnet18" in result.err
    assert "leave a last batch of one" in result.err
    assert "Not tried, for it needs 2: 3. bench eval --suite fgsm" in result.err
    assert [path.name for path in records(home, "fgsm")] == [
        path.name for path in records(home, "_sat_") if "fgsm" in path.name
    ]
    assert len(records(home, "fgsm")) == 1


def test_a_teacher_that_is_not_robust_is_warned_about_once(
    bench: Bench, home: Path, tmp_path: Path, records: Find
) -> None:
    (path,) = records(home, "robust-teacher")
    record = read_record(path)
    n = record.data.n
    none_right = {
        "final": pack(np.zeros(n, bool)),
        "worst": None,
        "worst_accuracy": None,
        "class_accuracy": [0.0] * 10,
        "correct": 0,
        "accuracy": 0.0,
        "interval": wilson_interval(0, n),
    }
    record.results["pgd-sat"] = record.results["pgd-sat"].model_copy(update=none_right)
    path.unlink()
    write_record(record, path.parent)
    spec = tmp_path / "two.yaml"
    evaluations = "evaluations: [{suite: fgsm, limit: 8}]"
    spec.write_text(f"description: x\nruns: [{{methods: [rslad, ard], {GRID}, {evaluations}}}]", encoding="utf-8")
    result = bench("sweep", spec, home=home)
    assert result.code == 0, result
    assert result.err.count("is not robust: 0.0% under PGD-SAT") == 1


def test_any_error_of_a_plug_in_is_a_failed_task(
    bench: Bench, spec: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.ciard import CIARD

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake\nof theirs")

    monkeypatch.setattr(CIARD, "loss", broken)
    result = bench("sweep", spec, home=home)
    assert "1 of 8 tasks failed" in result.mistake
    assert "ZeroDivisionError: a mistake of theirs" in result.err
    assert "run the command alone: bench run --method ciard" in result.err


def test_stopped_and_continued(bench: Bench, start: Start, taught: Path, tmp_path: Path) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"description: x\nruns: [{{methods: [natural, ciard], {GRID.replace('epochs: 1', 'epochs: 8')}}}]")
    with start("sweep", spec, home=taught) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("[4/"):
                break
        running.send_signal(signal.SIGTERM)
        _, error = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM, error
    assert "Run the same command again to continue" in error
    tasks = plan(bench, spec, taught)
    assert [task["done"] for task in tasks] == [True, True, True, False]
    result = bench("sweep", spec, home=taught)
    assert result.code == 0, result
    assert "[3/4]" not in result.err
    assert all(task["done"] for task in plan(bench, spec, taught))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--json",), "--plan"),
        (("--gpus-per-task", "0.5"), "--address"),
        (("--gpus-per-task", "0.5", "--workers", "2"), "--address"),
        (("--target", "slurm"), "--out"),
        (("--sbatch", "--time=1"), "--target slurm"),
        (("--plan", "--workers", "2"), "exclude"),
        (("--address", "localhost:1"), "Cannot reach Ray at localhost:1"),
        (("--plan", "--hardware", "GPU of nobody"), "Unknown device"),
    ],
)
def test_mistakes(bench: Bench, spec: Path, trained: Path, options: tuple[str, ...], says: str) -> None:
    if "--address" in options:
        pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")
    assert says in bench("sweep", spec, *options, home=trained).mistake


def test_the_built_in_ones_are_listed(bench: Bench, trained: Path) -> None:
    listed = {row["name"] for row in json.loads(bench("list", "sweeps", "--json", home=trained).out)}
    assert {"tables", "table7", "lambda", "freeze", "eps", "demo-digits"} <= listed
    assert "Did you mean 'tables'" in bench("sweep", "tabels", home=trained).mistake


def test_a_plan_is_made_without_images(bench: Bench, tmp_path: Path) -> None:
    result = bench("sweep", "tables", "--plan", home=tmp_path)
    assert result.code == 0, result
    assert "116 tasks, 0 done; left: 4 teachers, 42 students, 70 evaluations." in result.out
    hint = "no profile: bench profile --methods trades --student wrn-70-16 --dataset cifar100 --recipe official"
    assert hint in result.out
    assert not list(tmp_path.iterdir())


def test_seeds_with_teachers_of_their_own_are_one_defense(
    bench: Bench, tmp_path: Path, taught: Path, records: Find
) -> None:
    spec = tmp_path / "seeds.yaml"
    spec.write_text(
        f"description: teachers of each seed\nruns:\n  - {{methods: [sat, rslad], seeds: [0, 1], {GRID}, "
        "teacher_seeds: true, evaluations: [{suite: pgd-sat, limit: 16}]}\n",
        encoding="utf-8",
    )
    result = bench("sweep", spec, home=taught)
    assert result.code == 0, result
    assert "All 10 tasks are done." in result.err
    subjects = [json.loads(path.read_text())["subject"] for path in records(taught, "_rslad_")]
    assert [subject["teacher_seeds"] for subject in subjects] == [True, True]
    assert len({subject["teachers"]["robust"] for subject in subjects}) == 2
    assert all(task["done"] for task in plan(bench, spec, taught))

    said = bench("compare", "sat", "rslad", "--all-seeds", home=taught)
    assert (said.code, "learned from one robust teacher" in said.out) == (0, False), said
    again = bench("run", "--method", "sat", "--student", "digits-cnn", "--teacher-seeds", home=taught)
    assert again.mistake.startswith("--teacher-seeds: there is no teacher of sat to be trained.")
