"""Run folders: what a power cut leaves of them, and what is said of lines that are lost or damaged."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.recipes.schedule import Schedule
from bench.recipes.training import Average, Selection
from bench.runs import resume
from bench.runs.folder import RunFolder, Summary, all_runs
from bench.runs.subject import run_subject
from bench.system.home import Home
from bench.training.journal import Journal

SUMMARY = Summary(checkpoint="c", selected_epoch=1, selected_on="last", accuracy=None, seconds=1.0, finished="now")


def line(epoch: int, kind: str = "epoch") -> dict[str, Any]:
    return {"kind": kind, "epoch": epoch, "step": 10, "terms": {"loss": 0.1 * epoch}, "accuracy": None}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """With the lines of three epochs."""
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    for epoch in (1, 2, 3):
        made.append_metrics(line(epoch))
    return made


@pytest.mark.parametrize("what", ["a state", "a summary"])
def test_the_lines_are_on_the_disk_before_what_is_past_them(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    on_disk: dict[int, int] = {}
    flush, replace = os.fsync, os.replace
    metrics = folder.path / "metrics.jsonl"
    replaced: list[str] = []

    def fsync(descriptor: int) -> None:
        stat = os.fstat(descriptor)
        on_disk[stat.st_ino] = stat.st_size
        flush(descriptor)

    def checked(source: Any, target: Any) -> None:
        stat = metrics.stat()
        assert on_disk.get(stat.st_ino) == stat.st_size, f"{target} comes before the lines"
        replaced.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", checked)
    with folder.locked():
        if what == "a state":
            folder.save_resume({"epoch": 4})
        else:
            folder.finish(SUMMARY)
    assert replaced[-1] in (resume.LAST, "summary.json")


def test_a_continued_run_says_whose_lines_are_lost(folder: RunFolder) -> None:
    lines = (folder.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "metrics.jsonl").write_text(lines[1][:-20])  # as a power cut leaves a file that was not flushed
    said: list[str] = []
    Journal(folder, {}, 10, said.append, {}).begin(4, 0)
    assert len(said) == 1
    assert said[0].endswith("metrics.jsonl has lost the lines of epochs 1, 2, 3.")
    folder.append_metrics(line(1))
    Journal(folder, {}, 10, said.append, {}).begin(2, 0)
    assert len(said) == 1
    assert folder.metrics() == [line(1)]


@pytest.mark.parametrize("damage", ["a digit", "a brace", "another run's", "no text"])
def test_a_damaged_line_is_named_and_left_out(
    folder: RunFolder, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    path = folder.path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    other = RunFolder(folder.path.parent / "other")
    other.path.mkdir()
    other.append_metrics(line(2))
    lines[1] = {
        "a digit": lines[1].replace("0.2", "0.3", 1),
        "a brace": lines[1].replace("}", "{", 1),
        "another run's": (other.path / "metrics.jsonl").read_text(),
        "no text": "\x00\xff\n",
    }[damage]
    path.write_text("".join(lines), encoding="latin-1")
    assert folder.metrics() == [line(1), line(3)]
    assert capfd.readouterr().err.splitlines() == [f"Left out: line 2 of {path}, which is damaged"]


@pytest.mark.parametrize("rest", ['{"kind": "ep', "\0\0\0", ""])
def test_a_last_line_cut_short_is_no_damage(folder: RunFolder, capfd: pytest.CaptureFixture[str], rest: str) -> None:
    with (folder.path / "metrics.jsonl").open("a") as stream:
        stream.write(rest)
    assert folder.metrics() == [line(1), line(2), line(3)]
    assert capfd.readouterr().err == ""


def test_lines_without_a_digest_are_of_an_earlier_version(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(line(epoch)) + "\n" for epoch in (1, 2)))
    assert folder.metrics() == [line(1), line(2)]


@pytest.mark.parametrize("change", [{"selected_on": "hendout"}, {"seconds": -1.0}, {"accuracy": {"clean": 1.5}}])
def test_a_summary_has_its_values_in_range(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Summary.model_validate(SUMMARY.model_dump() | change)


@pytest.mark.parametrize("change", [{"step": -1}, {"seconds_left": -60.0}, {"seconds_left": "Infinity"}])
def test_progress_out_of_range_tells_nothing(folder: RunFolder, change: dict[str, Any]) -> None:
    folder.write_progress(epoch=2, epochs=9, step=1, steps=5, seconds_left=60.0)
    assert folder.progress() is not None
    path = folder.path / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert folder.progress() is None


def test_a_folder_that_is_not_written_to_stays_as_it_is(folder: RunFolder) -> None:
    """As a process has it that trains in step with the one that writes."""
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    watched = replace(folder, writes=False)
    with watched.locked() as dead:
        assert dead is None
        watched.write_progress(epoch=2, epochs=9, step=1, steps=5, seconds_left=60.0)
        watched.append_metrics(line(4))
        watched.save_resume({"epoch": 4})
        watched.save_weights("best", torch.nn.Linear(1, 1), {})
        watched.finish(SUMMARY)
        watched.clear()
        assert watched.forget_metrics_after(1, 0) == ()
        assert watched.load_resume(pytest.fail) is None
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before
    assert len(watched.metrics()) == 3  # it reads as any


@pytest.mark.parametrize("environment", [{}, {"hardware": None}, {"hardware": "a GPU"}])
def test_the_device_is_what_the_environment_names(folder: RunFolder, environment: dict[str, Any]) -> None:
    assert folder.device() is None
    (folder.path / "environment.json").write_text(json.dumps(environment))
    assert folder.device() == environment.get("hardware")


def test_a_run_and_its_records_say_how_many_looks_the_best_is_of(home: Path) -> None:
    """The clean teacher's run keeps its last epoch, which is the best of no looks."""
    counted = {}
    for folder in all_runs(Home(home)):
        config, summary, subject = folder.config(), folder.summary(), run_subject(folder)
        looked = sum(line["kind"] == "epoch" and line["accuracy"] is not None for line in folder.metrics())
        counted[config.method] = subject.looks
        assert summary is not None
        assert subject.looks == summary.looks == (looked if config.selection.keep == "best" else 0)
        assert run_subject(folder, "last").looks == 0
        assert subject.procedure is not None
        assert subject.procedure["hyperparameters"].keys() == config.hyperparameters.keys()
        assert subject.procedure["selection"]["every"] == config.selection.every
        folder.finish(summary.model_copy(update={"looks": None}))  # as of a run of an earlier version
        assert run_subject(folder).looks == subject.looks
    assert counted["natural"] == 0
    assert counted["sat"]


@pytest.mark.parametrize(("average", "looks"), [("ema", 10), ("swa", 4)])
def test_before_an_average_has_begun_nothing_can_be_selected(home: Path, average: Any, looks: int) -> None:
    config = next(folder.config() for folder in all_runs(Home(home)) if folder.config().method == "sat")
    changed = {
        "epochs": 20,
        "average": Average.model_validate({"kind": average} | ({"from_epoch": 14} if average == "swa" else {})),
        "schedule": Schedule(kind="constant"),
        "selection": Selection(split="test", every=2),
    }
    assert config.model_copy(update=changed).looks == looks
