"""A run that is stopped, killed or started twice loses nothing, repeats nothing, and ends as if nothing had been."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ..helpers.commands import Bench, Sit, Start
from ..helpers.homes import Find, json_lines, logged

# CIARD, because nothing else has so much to remember: a teacher that learns, its optimizer, two temperatures.
RUN = (
    *("run", "--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "8", "--limit-train", "100", "--batch-size", "5"),
)


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def epoch_of(folder: Path) -> int:
    """The last epoch that a running run has logged; 0 before the first."""
    try:
        lines = json_lines(folder / "metrics.jsonl")
    except (OSError, ValueError):
        return 0
    return max([line["epoch"] for line in lines if line["kind"] == "epoch"], default=0)


@pytest.fixture
def stopped(start: Start) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end with the test, whatever happens in it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_run_that_was_stopped_in_every_way_is_the_run_that_never_was(
    bench: Bench,
    start: Start,
    stopped: list[subprocess.Popen[str]],
    home: Path,
    trained: Path,
    tmp_path: Path,
    runs: Find,
) -> None:
    """By Ctrl-C and by a kill; what a batch system sends: test_signals.py."""

    def begin() -> subprocess.Popen[str]:
        stopped.append(start(*RUN, home=home))
        return stopped[-1]

    def folder() -> Path:
        return next((path for path in runs(home, "_ciard_") if path.name not in finished), home / "none yet")

    finished = {path.name for path in runs(home)}
    undisturbed = Path(shutil.copytree(trained, tmp_path / "undisturbed"))

    # Another process sees it run, cannot train it too, and cannot delete it.
    first = begin()
    wait_for(lambda: epoch_of(folder()) >= 1, first)
    (seen,) = (run for run in json.loads(bench("status", "--json", home=home).out) if run["id"] == folder().name)
    assert seen["state"] == "running"
    assert "of 8" in seen["detail"]
    for restart in ([], ["--restart"]):
        assert f"is being trained by process {first.pid}" in bench(*RUN, *restart, home=home).mistake

    # Ctrl-C: the step in hand is finished, the state saved.
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGINT, error
    assert "Run the same command again to continue" in error
    assert "Traceback" not in error
    run = folder()
    (seen,) = (run for run in json.loads(bench("status", "--json", home=home).out) if run["id"] == folder().name)
    assert seen["state"] == "interrupted"

    # A kill without warning: it goes on from the last state that was saved.
    second = begin()
    goal = epoch_of(run) + 1
    wait_for(lambda: epoch_of(run) >= goal, second)
    second.kill()
    second.communicate()
    (run / ".resume.pt.1.tmp").write_text("half a file, of a process that was killed while it wrote")

    last = bench(*RUN, home=home)
    assert last.code == 0, last
    assert "Continuing" in last.err

    whole = bench(*RUN, home=undisturbed)
    assert whole.code == 0, whole
    expected = Path(whole.out.strip())
    assert expected.name == run.name
    assert {path.name for path in run.iterdir()} == {path.name for path in expected.iterdir()}
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load_file(run / name), load_file(expected / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert logged(run) == logged(expected)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, expected)]
    for key in ("checkpoint", "selected_epoch", "accuracy"):
        assert summaries[0][key] == summaries[1][key]


def test_a_line_that_a_crash_cut_short_is_dropped(
    bench: Bench, home: Path, runs: Find, digits: tuple[str, ...]
) -> None:
    (sat,) = runs(home, "_sat_")
    (sat / "summary.json").unlink()
    (sat / "progress.json").write_text("{}")  # as if it had been killed before its first state was saved
    with (sat / "metrics.jsonl").open("a") as stream:
        stream.write('not a line\n{"kind": "steps"}\n[]\n{"kind": "epoch", "epo')
    assert bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=home).code == 0
    assert [(line["kind"], line["epoch"]) for line in logged(sat)] == [("epoch", 1)]


def test_two_runs_that_need_the_same_teacher_do_not_spoil_each_other(
    start: Start,
    stopped: list[subprocess.Popen[str]],
    bench: Bench,
    judged: Callable[[Path], Path],
    tmp_path: Path,
    runs: Find,
) -> None:
    home = judged(tmp_path / "home")
    arguments = ("--dataset", "digits", "--recipe", "demo", "--limit-train", "100")
    first = start("teacher", "train", "--role", "robust", *arguments, home=home)
    stopped.append(first)
    wait_for(lambda: (home / "results" / "runs").exists() and epoch_of(runs(home)[0]) >= 1, first)
    second = bench("run", "--method", "ard", "--student", "digits-cnn", "--epochs", "1", *arguments, home=home)
    assert second.code == 0, second
    assert f"is being trained by process {first.pid}" in second.err
    assert "Waiting" in second.err
    assert first.wait(timeout=60) == 0
    (teacher,) = runs(home, "_robust-teacher_")
    assert [line["epoch"] for line in logged(teacher) if line["kind"] == "epoch"] == list(range(1, 13))


def test_an_evaluation_that_is_stopped_keeps_the_records_it_wrote(
    sit: Sit, bench: Bench, home: Path, records: Find
) -> None:
    """Of the first student; the signal comes in the midst of the second."""
    command = ("eval", "--suite", "whitebox", "--limit", 8)
    code, _, said = sit(*command, home=home, event="pass", count=150, number=signal.SIGINT)
    assert code == 128 + signal.SIGINT, said
    assert "Traceback" not in said
    assert len(records(home, "whitebox-official-n8")) == 1
    assert bench("tables", home=home).code == 0
    assert not list(home.rglob("*.tmp"))
    assert "1 evaluated, 1 had the suite already" in bench(*command, home=home).err
