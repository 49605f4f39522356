"""`bench sweep` with two workers, processes of its own or of a real Ray; one is killed in the middle of a training."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.errors import BenchError
from bench.sweep import run_in_processes, run_on_ray
from bench.sweep.at_once import RETRIES

from ..helpers.commands import Bench, Start
from ..helpers.homes import Find, logged

SPEC = """
description: two students of one teacher, long enough to be killed
runs:
  - methods: [rslad]
    seeds: [0, 1]
    students: [digits-cnn]
    datasets: [digits]
    recipes: [demo]
    limit_train: 100
    batch_size: 8
    epochs: 6
    evaluations: [{suite: whitebox, limit: 4}]
"""
TASKS = 5
TIMES = {"created", "digest", "seconds", "training"}


@pytest.fixture(params=["processes", "ray"])
def at_once(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for two tasks at a time."""
    if request.param == "processes":
        return "--workers", "2"
    pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")
    return "--workers", "2", "--address", "local"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "killed.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def raylets() -> set[int]:
    """Processes of any Ray on this machine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if name in ("raylet", "gcs_server") or name.startswith("ray::"):
            found.add(int(folder.name))
    return found


def leftover(before: set[int]) -> set[int]:
    """Processes of Ray that a command left behind; those that are just ending have some seconds to do so."""
    until = time.monotonic() + 20
    while (left := raylets() - before) and time.monotonic() < until:
        time.sleep(0.1)
    return left


@contextmanager
def sweeping(start: Start, *arguments: object, home: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, which takes its workers with it when the test fails."""
    running = start(*arguments, home=home, start_new_session=True)
    try:
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()


def worker_in_the_middle(home: Path, running: subprocess.Popen[str]) -> tuple[Path, int]:
    """(run folder, process) of a student that was trained for two epochs and is being trained."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert running.poll() is None, running.communicate()
        for lock in (home / "results" / "runs").glob("*_s[01]_*/lock"):
            metrics = lock.with_name("metrics.jsonl")
            if (
                "teacher" not in lock.parent.name
                and metrics.exists()
                and metrics.read_text().count('"epoch", "ep') >= 2
            ):
                return lock.parent, int(json.loads(lock.read_text())["process"])
        time.sleep(0.02)
    raise AssertionError("no student was trained for two epochs in two minutes")


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return content


def assert_same_results(one: Path, other: Path, runs: Find, records: Find) -> None:
    """Bit by bit: weights, what was logged, and records but for their times."""
    assert [path.name for path in runs(one)] == [path.name for path in runs(other)]
    for mine, theirs in zip(runs(one), runs(other), strict=True):
        assert {path.name for path in mine.iterdir()} == {path.name for path in theirs.iterdir()}
        assert logged(mine) == logged(theirs)
        for weights in mine.glob("*.safetensors"):
            ours, expected = load_file(weights), load_file(theirs / weights.name)
            assert ours.keys() == expected.keys()
            assert all(torch.equal(ours[key], expected[key]) for key in ours), weights
    assert [path.name for path in records(one)] == [path.name for path in records(other)]
    for mine, theirs in zip(records(one), records(other), strict=True):
        contents = [without_times(json.loads(path.read_text())) for path in (mine, theirs)]
        assert contents[0] == contents[1]


@pytest.fixture(scope="module")
def undisturbed(bench: Bench, judged: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one task was done after the other."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "whole.yaml").write_text(SPEC, encoding="utf-8")
    if torch.get_num_threads() > 1:
        pytest.skip("workers have one thread each; two add up in another order: OMP_NUM_THREADS=1")
    home = judged(folder / "home")
    assert bench("sweep", folder / "whole.yaml", home=home).code == 0
    return home


@pytest.mark.slow
def test_a_killed_worker_s_task_is_begun_again_and_the_results_are_those_of_an_undisturbed_sweep(
    start: Start,
    at_once: tuple[str, ...],
    judged: Callable[[Path], Path],
    undisturbed: Path,
    spec: Path,
    tmp_path: Path,
    runs: Find,
    records: Find,
) -> None:
    before, home = raylets(), judged(tmp_path / "disturbed")
    with sweeping(start, "sweep", spec, *at_once, home=home) as running:
        folder, worker = worker_in_the_middle(home, running)
        os.kill(worker, signal.SIGKILL)
        _, said = running.communicate(timeout=180)
    assert running.returncode == 0, said
    assert f"All {TASKS} tasks are done." in said
    assert f"Continuing {folder.name} at epoch" in said
    assert "Traceback" not in said
    assert leftover(before) == set()
    assert_same_results(home, undisturbed, runs, records)
    assert len(runs(home)) == 3
    assert len(records(home)) == 2 + 2  # both teachers' were there before


@pytest.mark.slow
def test_ctrl_c_has_all_workers_save(
    bench: Bench, start: Start, at_once: tuple[str, ...], spec: Path, tmp_path: Path
) -> None:
    before = raylets()
    no_teachers = SPEC.replace("[rslad]", "[sat]").replace("epochs: 6", "epochs: 100")
    spec.write_text(no_teachers, encoding="utf-8")
    with sweeping(start, "sweep", spec, *at_once, home=tmp_path) as running:
        folder, _ = worker_in_the_middle(tmp_path, running)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        _, said = running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGINT, said
    assert f"Stopped {folder.name} at epoch" in said
    assert "Run the same command again to continue" in said
    assert "Traceback" not in said
    assert leftover(before) == set()

    states = {run["id"]: run["state"] for run in json.loads(bench("status", "--json", home=tmp_path).out)}
    assert states[folder.name] == "interrupted"


def test_a_task_whose_process_dies_each_time_is_given_up(
    bench: Bench, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs it is not tried."""

    class Dead(multiprocessing.get_context("spawn").Process):  # type: ignore[misc]
        def start(self) -> None:
            raise EOFError

    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Dead)
    monkeypatch.setattr(run_in_processes, "_context", lambda: context)
    spec.write_text(SPEC.replace("[rslad]", "[sat]"), encoding="utf-8")
    said = bench("sweep", spec, "--workers", "2", home=tmp_path)
    assert said.code == 2
    assert said.err.count("[1/4] bench run") == 1 + RETRIES
    assert "Its process died 4 times, perhaps because the memory is used up." in said.err
    assert "Not tried, for it needs 1" in said.err


@pytest.mark.parametrize("there", [{}, {"GPU": 0.2}])
def test_gpus_that_are_not_there_are_named(there: dict[str, float]) -> None:
    ray = SimpleNamespace(cluster_resources=lambda: there)
    with pytest.raises(BenchError, match=r"--gpus-per-task 0.25: Ray sees 0(\.2)? GPUs here"):
        run_on_ray._check_gpus(ray, run_on_ray.Cluster(workers=1, address="local", gpus_per_task=0.25, device="auto"))
