"""Loggers hear every line of metrics.jsonl once, whatever happens to the run; what happens to them does not end it."""

from __future__ import annotations

import errno
import json
import signal
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bench import loggers
from bench.errors import BenchError
from bench.loggers import LoggedRun, Logger, flat
from bench.runs.folder import RunFolder
from bench.training.journal import STATE, Journal

from ..helpers.commands import Bench, Sit
from ..helpers.homes import Find

# 60 steps an epoch, so that a line is logged within an epoch, and again when the epoch is repeated.
RUN = (
    *("run", "--method", "sat", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "4", "--limit-train", "150", "--batch-size", "2", "--set", "steps=1"),
)
STEPS = 60


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def expected(run: Path) -> dict[str, list[tuple[int, float]]]:
    """By name: (step, value) of everything in metrics.jsonl."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines(run):
        for name, value in flat(line).items():
            found.setdefault(name, []).append(((line["epoch"] - 1) * STEPS + line["step"], value))
    return found


def sat_in_three_sittings(sit: Sit, home: Path, *options: str) -> None:
    """A run that is killed as it looks at its models, stopped there by a signal, and goes on to its end."""
    assert sit(*RUN, *options, home=home, event="look", count=1)[0] == -signal.SIGKILL
    assert sit(*RUN, *options, home=home, event="look", count=1, number=signal.SIGTERM)[0] == 128 + signal.SIGTERM
    code, _, said = sit(*RUN, *options, home=home)
    assert code == 0, said
    assert "the logger" not in said


def test_tensorboard_has_each_line_once_after_a_kill_and_a_stop(sit: Sit, tmp_path: Path, runs: Find) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sat_in_three_sittings(sit, tmp_path / "logged", "--logger", "tensorboard")
    assert sit(*RUN, home=tmp_path / "plain")[0] == 0
    (run,), (plain,) = runs(tmp_path / "logged"), runs(tmp_path / "plain")
    assert len([*(run / "tensorboard").iterdir()]) == 3
    events = EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    wanted = expected(run)
    assert set(events.Tags()["scalars"]) == set(wanted)
    (config,) = events.Tensors("config/text_summary")
    assert b'"method": "sat"' in config.tensor_proto.string_val[0]
    assert {"train/loss", "epoch/loss", "progress/lr", "accuracy/student/robust"} <= set(wanted)
    for name, points in wanted.items():
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in points], name
        if name != "progress/seconds":  # a repeated line took another time
            assert [value for _, value in found] == pytest.approx([value for _, value in points]), name
    # Conduct, not setting: the same run, the same result.
    assert run.name == plain.name
    one, other = load_file(run / "best.safetensors"), load_file(plain / "best.safetensors")
    assert all(one[name].equal(other[name]) for name in one)


class Recorder(Logger):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []
        self.runs: list[LoggedRun] = []
        self.ended: list[bool] = []

    def begin(self, run: LoggedRun) -> None:
        self.runs.append(run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.heard.append((step, min(values)))

    def end(self, finished: bool) -> None:
        self.ended.append(finished)


class Broken(Recorder):
    """Fails from its second line on."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self.heard:
            raise OSError("No space left on device")
        super().log(values, step)


def steps_line(epoch: int, step: int) -> dict[str, Any]:
    return {"kind": "steps", "epoch": epoch, "step": step, "terms": {"loss": 1.0}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def journal(folder: RunFolder, said: list[str]) -> Callable[..., Journal]:
    """journal(name=logger): a journal of a run with 100 steps an epoch."""
    return lambda **named: Journal(folder, named, 100, said.append, {"seed": 0})


def test_a_repeated_line_is_heard_once(journal: Callable[..., Journal]) -> None:
    recorder = Recorder()
    first = journal(recorder=recorder)
    first.begin(0, 0)
    for step in (50, 100):
        first.write(steps_line(1, step))
    second = journal(recorder=recorder)  # the first was killed; its last saved state was at step 60
    second.begin(1, 60)
    for epoch, step in ((1, 100), (2, 50)):
        second.write(steps_line(epoch, step))
    second.end(True)
    assert recorder.heard == [(50, "train/loss"), (100, "train/loss"), (150, "train/loss")]
    assert recorder.ended == [True]


def test_what_a_logger_remembers_is_there_in_the_next_sitting(journal: Callable[..., Journal]) -> None:
    class Remembers(Recorder):
        def begin(self, run: LoggedRun) -> None:
            run.memory["sittings"] = str(int(run.memory.get("sittings", "0")) + 1)
            super().begin(run)

    for expected_count in ("1", "2"):
        logger = Remembers()
        journal(remembers=logger).begin(0, 0)
        assert logger.runs[0].memory == {"sittings": expected_count}
        assert (logger.runs[0].id, logger.runs[0].config) == ("run", {"seed": 0})


def test_a_logger_that_comes_later_gets_what_it_missed(journal: Callable[..., Journal]) -> None:
    alone = journal()
    alone.begin(0, 0)
    alone.write(steps_line(1, 50))
    late = Recorder()
    joined = journal(late=late)
    joined.begin(1, 50)
    joined.write(steps_line(1, 100))
    assert late.heard == [(50, "train/loss"), (100, "train/loss")]


def test_a_logger_that_fails_is_said_once_and_catches_up_later(
    journal: Callable[..., Journal], folder: RunFolder, said: list[str]
) -> None:
    broken, well = Broken(), Recorder()
    first = journal(broken=broken, well=well)
    first.begin(0, 0)
    for step in (10, 20, 30, 40):
        first.write(steps_line(1, step))
    assert [step for step, _ in well.heard] == [10, 20, 30, 40]
    assert len(folder.metrics()) == 4
    (warning,) = said
    assert "logger broken failed" in warning
    assert "No space left on device" in warning
    repaired = Recorder()
    journal(broken=repaired).begin(1, 40)
    assert [step for step, _ in repaired.heard] == [30, 40]  # 20 was lost in the failure; none is there twice


@pytest.mark.parametrize("text", ["", "[]", '{"recorder": 1}', '{"recorder": {"lines": "x", "memory": {}}}'])
def test_a_damaged_state_is_said_and_ends_nothing(
    journal: Callable[..., Journal], folder: RunFolder, said: list[str], text: str
) -> None:
    (folder.path / STATE).write_text(text)
    recorder = Recorder()
    opened = journal(recorder=recorder)
    opened.begin(0, 0)
    opened.write(steps_line(1, 50))
    assert recorder.heard == [(50, "train/loss")]
    assert "is damaged" in said[0]


def test_a_disk_that_is_full_ends_no_run(
    bench: Bench, digits: tuple[str, ...], tmp_path: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.summary.writer.record_writer import RecordWriter

    def fail(self: Any, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", fail)
    arguments = ("run", "--method", "sat", "--student", "digits-cnn", *digits, "--logger", "tensorboard")
    result = bench(*arguments, home=tmp_path)
    assert result.code == 0, result
    assert result.err.count("the logger tensorboard failed") == 1
    assert "Traceback" not in result.err
    assert (runs(tmp_path)[0] / "summary.json").exists()


def test_a_restart_begins_anew(bench: Bench, digits: tuple[str, ...], tmp_path: Path, runs: Find) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    arguments = ("run", "--method", "sat", "--student", "digits-cnn", *digits, "--logger", "tensorboard")
    assert bench(*arguments, home=tmp_path).code == 0
    assert bench(*arguments, "--restart", home=tmp_path).code == 0
    (run,) = runs(tmp_path)
    assert len([*(run / "tensorboard").iterdir()]) == 1
    assert json.loads((run / "loggers.json").read_text())["tensorboard"]["lines"] == len(lines(run))


def test_an_unknown_logger_is_found_before_anything_is_trained(
    bench: Bench, digits: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("run", "--method", "sat", "--student", "digits-cnn", *digits, "--logger", "tensorbord")
    assert "Did you mean 'tensorboard'?" in bench(*arguments, home=tmp_path).mistake
    assert not (tmp_path / "results").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match="needs tensorboard, not installed") as error:
        loggers.make(["tensorboard"])
    assert "pip install 'ard-bench[tensorboard]'" in str(error.value)


def two_sittings(journal: Callable[..., Journal], name: str) -> None:
    """Two lines, a kill; the second line again, an epoch's end; a stop; one more. Each time with a logger made anew."""
    epoch = {"kind": "epoch", "epoch": 1, "step": 100, "terms": {"loss": 0.5}, "lr": 0.1, "seconds": 2.0}
    first = journal(**loggers.make([name]))
    first.begin(0, 0)
    first.write(steps_line(1, 50))
    first.write(steps_line(1, 100))
    second = journal(**loggers.make([name]))
    second.begin(1, 50)
    second.write(steps_line(1, 100))
    second.write(epoch | {"accuracy": {"robust teacher": {"clean": 0.75}}})
    second.end(False)
    third = journal(**loggers.make([name]))
    third.begin(2, 0)
    third.write(steps_line(2, 50))
    third.end(True)


def test_mlflow_has_one_run_of_all_sittings(
    journal: Callable[..., Journal], tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    two_sittings(journal, "mlflow")
    assert said == []
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    experiment = client.get_experiment_by_name("ard-bench")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["seed"]) == ("run", "FINISHED", "0")
    points = {
        name: [each.step for each in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }
    assert points["train/loss"] == [50, 100, 150]
    assert points["epoch/loss"] == points["accuracy/robust_teacher/clean"] == [100]


def test_wandb_has_one_run_of_all_sittings(
    journal: Callable[..., Journal], folder: RunFolder, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    two_sittings(journal, "wandb")
    assert said == []
    rows: list[dict[str, float]] = []
    files = sorted((folder.path / "wandb").glob("offline-run-*/*.wandb"))
    for file in files:
        rows += wandb_rows(file)
    assert len({file.stem for file in files}) == 1
    assert sorted((row["step"], next(iter(row.keys() & {"train/loss", "epoch/loss"}))) for row in rows) == [
        (50, "train/loss"),
        (100, "epoch/loss"),
        (100, "train/loss"),
        (150, "train/loss"),
    ]


def wandb_rows(file: Path) -> list[dict[str, float]]:
    """The history in one of wandb's offline files: LevelDB's log format, after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, part, rows = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # what is left of a block is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<4xHB", content[place : place + 7])
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            record, part = Record.FromString(part), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows
