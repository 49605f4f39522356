"""The scripts for Slurm, run by bash as Slurm would; two scripts that note their call stand for its own commands."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..helpers.commands import Bench
from ..helpers.homes import Find

GRID = "students: [digits-cnn], datasets: [digits], recipes: [demo], limit_train: 100, batch_size: 4"
SPEC = f"""
description: a student with a teacher, and two without
runs:
  - {{methods: [rslad], {GRID}, epochs: 12, evaluations: [{{suite: blackbox, limit: 2}}]}}
  - {{methods: [sat, natural], {GRID}, epochs: 1, evaluations: [{{suite: fgsm, limit: 16}}]}}
"""


@pytest.fixture
def tools(shell: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a job: `sbatch` and `scontrol` that note their arguments, and `bench`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, answer in (("sbatch", 'wc -l < "$CALLS"'), ("scontrol", "true")):
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{answer}\n')
        (folder / name).chmod(0o755)
    return shell | {"PATH": f"{folder}:{shell['PATH']}", "CALLS": str(tmp_path / "calls")}


@pytest.fixture
def scripts(bench: Bench, judged: Callable[[Path], Path], tmp_path: Path) -> Path:
    """The folder with the scripts; the home is `home` beside it."""
    spec, out = tmp_path / "mine.yaml", tmp_path / "scripts"
    spec.write_text(SPEC, encoding="utf-8")
    options = ("--target", "slurm", "--out", out, "--sbatch", "--partition=gpu", "--sbatch", "--gres=gpu:1")
    result = bench("sweep", spec, *options, home=judged(tmp_path / "home"))
    assert result.code == 0, result
    assert result.out.splitlines()[-1] == str(out / "submit.sh")
    return out


def job(script: Path, index: int, tools: dict[str, str]) -> subprocess.Popen[str]:
    """An array job's task, as Slurm starts it."""
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(index)}
    return subprocess.Popen(
        ["bash", script], env=tools | slurm, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_stages_wait_for_what_they_need_and_for_nothing_else(scripts: Path, tools: dict[str, str]) -> None:
    subprocess.run(["bash", scripts / "submit.sh"], env=tools, check=True)
    calls = Path(tools["CALLS"]).read_text().splitlines()
    # The number of a call is its job's number: 1 the teacher, 2 the student that needs it, 3 those that need none.
    assert calls == [
        "sbatch --parsable teachers-1.sbatch",
        "sbatch --parsable --dependency=afterok:1_0 students-1.sbatch",
        "sbatch --parsable students-2.sbatch",
        "sbatch --parsable --dependency=aftercorr:2,afterok:1_0 evaluations-1.sbatch",
        "sbatch --parsable --dependency=aftercorr:3 evaluations-2.sbatch",
    ]
    assert (scripts / "logs").is_dir()


def test_an_evaluation_has_the_index_of_its_student(scripts: Path) -> None:
    students, evaluations = ((scripts / f"{kind}-2.sbatch").read_text() for kind in ("students", "evaluations"))
    runs = dict(re.findall(r"^ +(\d+)\) exec (bench run .*) ;;$", students, re.MULTILINE))
    asked = dict(re.findall(r"^ +(\d+)\) exec bench eval .*\$\((bench run .*?)\)", evaluations, re.MULTILINE))
    assert runs == asked
    assert len(runs) == 2
    for text in (students, evaluations):
        assert "#SBATCH --array=0,1\n" in text
        for line in ("--requeue", "--signal=B:USR1@120", "--partition=gpu", "--gres=gpu:1"):
            assert f"#SBATCH {line}\n" in text


@pytest.mark.slow
def test_a_warned_job_saves_and_is_queued_again_and_all_of_them_are_the_sweep(
    bench: Bench, scripts: Path, tools: dict[str, str], tmp_path: Path, runs: Find
) -> None:
    home = tmp_path / "home"
    with job(scripts / "teachers-1.sbatch", 0, tools) as teacher:
        assert teacher.wait(timeout=120) == 0, teacher.communicate()
    with job(scripts / "students-1.sbatch", 0, tools) as warned:
        until = time.monotonic() + 60
        while not [path for path in runs(home, "_rslad_") if (path / "resume.pt").exists()]:
            assert warned.poll() is None, warned.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        warned.send_signal(signal.SIGUSR1)
        _, said = warned.communicate(timeout=30)
    assert warned.returncode == 0, said
    assert Path(tools["CALLS"]).read_text() == "scontrol requeue 7_0\n"
    (student,) = runs(home, "_rslad_")
    assert f"Stopped {student.name} at epoch" in said
    assert not (student / "summary.json").exists()

    for name in ("students-1", "evaluations-1"):
        with job(scripts / f"{name}.sbatch", 0, tools) as running:
            _, said = running.communicate(timeout=120)
        assert running.returncode == 0, said
    assert (student / "summary.json").exists()
    tasks = json.loads(bench("sweep", tmp_path / "mine.yaml", "--plan", "--json", home=home).out)
    assert [task["done"] for task in tasks if "rslad" in task["command"] or task["kind"] == "teacher"] == [True] * 3


def test_a_failed_command_fails_its_job(scripts: Path, tools: dict[str, str]) -> None:
    script = scripts / "students-2.sbatch"
    script.write_text(script.read_text().replace("--method sat", "--method none-such"), encoding="utf-8")
    with job(script, 0, tools) as failing:
        _, said = failing.communicate(timeout=60)
    assert failing.returncode == 2
    assert "Unknown method" in said


def test_what_is_done_is_left_out(bench: Bench, trained: Path, tmp_path: Path) -> None:
    grid = "students: [digits-cnn], datasets: [digits], recipes: [demo], epochs: 1, limit_train: 100"
    suites = "evaluations: [{suite: whitebox, limit: 16}, {suite: fgsm, limit: 8}]"
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"description: x\nruns: [{{methods: [sat, ciard], {grid}, {suites}}}]")
    assert bench("sweep", spec, "--target", "slurm", "--out", tmp_path / "out", home=trained).code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluations-1.sbatch", "submit.sh"]
    text = (tmp_path / "out" / "evaluations-1.sbatch").read_text()
    assert text.count("exec bench eval --suite fgsm") == 2
    assert "--dependency" not in (tmp_path / "out" / "submit.sh").read_text()
