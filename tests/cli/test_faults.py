"""Full disks, damaged states, losses that run away, two processes at once: nothing that was saved is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.runs import resume

from ..helpers.commands import Bench, Mount, Sit, Start
from ..helpers.homes import Find, logged, measured

RUN = (
    *("run", "--method", "sat", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "4", "--limit-train", "100", "--batch-size", "10"),
)


def result(folder: Path) -> dict[str, Any]:
    """What a run came to, but for times."""
    summary = json.loads((folder / "summary.json").read_text())
    return {
        **{key: summary[key] for key in ("checkpoint", "selected_epoch", "accuracy")},
        "metrics": logged(folder),
        "last": {name: value.tolist() for name, value in load_file(folder / "last.safetensors").items()},
    }


@pytest.fixture(scope="module")
def whole(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run comes to that nothing happens to."""
    done = bench(*RUN, home=tmp_path_factory.mktemp("whole"))
    assert done.code == 0, done
    return result(Path(done.out.strip()))


def stopped(sit: Sit, home: Path, step: int) -> Path:
    """The folder of the run after a SIGTERM at a step, with states of the two steps before."""
    code, _, said = sit(*RUN, home=home, event="step", count=step, number=signal.SIGTERM, save_seconds=0.0)
    assert code == 128 + signal.SIGTERM, said
    (folder,) = (home / "results" / "runs").iterdir()
    assert (folder / resume.BEFORE).exists()
    return folder


class TestDamage:
    @pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
    def test_the_state_before_the_last_is_taken(
        self, sit: Sit, bench: Bench, tmp_path: Path, whole: dict[str, Any], damage: str
    ) -> None:
        folder = stopped(sit, tmp_path, 20)
        path = folder / resume.LAST
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:-50], "flip": flipped, "gone": b""}[damage])
        done = bench(*RUN, home=tmp_path)
        assert done.code == 0, done
        assert "resume.pt is damaged" in done.err.replace("\n", "")
        assert "the state saved before it is taken instead" in done.err.replace("\n", "")
        assert result(folder) == whole

    def test_selected_weights_are_put_back(self, sit: Sit, bench: Bench, tmp_path: Path, whole: dict[str, Any]) -> None:
        """Damaged while the run lay there, or of an epoch that the state does not know of yet."""
        folder = stopped(sit, tmp_path, 25)
        (folder / "best.safetensors").write_bytes(b"damaged")
        assert bench(*RUN, home=tmp_path).code == 0
        assert result(folder) == whole
        assert bench("eval", "--suite", "fgsm", "--limit", 4, home=tmp_path).code == 0

    def test_a_newer_configuration(self, sit: Sit, bench: Bench, tmp_path: Path) -> None:
        folder = stopped(sit, tmp_path, 5)
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
        said = f"{path} was written by a newer version (schema 2, this one reads 1): update ard-bench"
        assert said in bench(*RUN, home=tmp_path).mistake
        status = bench("status", home=tmp_path)
        assert (status.code, f"Left out: {said}" in status.err) == (0, True)


@pytest.fixture
def small_disk(mounted: Mount) -> Iterator[Path]:
    """A file system that is filled up but for about 1.5 MB."""
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs") as place:
        yield place


def test_a_full_disk_in_the_midst_of_a_run(sit: Sit, bench: Bench, small_disk: Path, whole: dict[str, Any]) -> None:
    folder = stopped(sit, small_disk, 12)
    states = {name: (folder / name).read_bytes() for name in (resume.LAST, resume.BEFORE)}
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(b"\0" * (free - 20_000))
    full = bench(*RUN, home=small_disk)
    assert "No space left on device" in full.mistake
    assert "Free some space" in full.mistake
    assert {name: (folder / name).read_bytes() for name in states} == states
    assert not list(folder.glob(".*.tmp"))
    (small_disk / "ballast").unlink()
    done = bench(*RUN, home=small_disk)
    assert done.code == 0, done
    assert "Continuing" in done.err
    assert result(folder) == whole


def outcomes(home: Path, run: str) -> list[dict[str, Any]]:
    """The records of a run, but for times."""
    return [measured(path) for path in sorted((home / "results" / "records").glob(f"{run}__*"))]


EVAL = ("eval", "--suite", "blackbox", "--limit", "4", "--run")


@pytest.fixture(scope="module")
def evaluated(bench: Bench, trained: Path, runs: Find, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run's records, as they become where there is room."""
    home = Path(shutil.copytree(trained, tmp_path_factory.mktemp("room") / "home"))
    (sat,) = runs(home, "_sat_")
    assert bench(*EVAL, sat.name, home=home).code == 0
    return outcomes(home, sat.name)


@pytest.mark.parametrize("free", [0, 4096, 16384, 20480])
def test_an_evaluation_on_a_full_disk(
    bench: Bench, small_disk: Path, trained: Path, runs: Find, evaluated: Any, free: int
) -> None:
    shutil.copytree(trained, small_disk / "home")
    home, ballast = small_disk / "home", small_disk / "ballast"
    (sat,) = runs(home, "_sat_")
    ballast.write_bytes(b"\0" * (shutil.disk_usage(small_disk).free - free))
    full = bench(*EVAL, sat.name, home=home)
    assert re.match(f"Cannot write {home}/.*: No space left on device", full.mistake)
    assert "Free some space" in full.mistake
    ballast.unlink()
    assert bench(*EVAL, sat.name, home=home).code == 0
    assert outcomes(home, sat.name) == evaluated


class TestLosses:
    def test_one_that_is_no_number_stops_the_run(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bench.training.step import TrainingStep

        real, calls = TrainingStep.__call__, []

        def runs_away(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
            calls.append(1)
            loss = real(self, *arguments, **options)
            return loss if len(calls) != 13 else loss._replace(terms={**loss.terms, "odd": loss.total * float("nan")})

        monkeypatch.setattr(TrainingStep, "__call__", runs_away)
        message = bench(*RUN, home=tmp_path).mistake
        assert "no longer finite: odd; it happened between step 8 of epoch 1 and step 8 of epoch 2." in message
        assert "--precision 32" in message
        assert "\nThe state of epoch 2, step 0 is saved in " in message
        (folder,) = (tmp_path / "results" / "runs").iterdir()
        state = resume.load(folder, pytest.fail)
        assert state is not None
        assert (state["epoch"], state["step"]) == (2, 0)
        # The way back: what was saved is whole.
        monkeypatch.undo()
        assert "Continuing" in bench(*RUN, home=tmp_path).err

    def test_where_nothing_was_saved_nothing_is_said_to_be(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bench.training.step import TrainingStep

        real = TrainingStep.__call__

        def no_number(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
            loss = real(self, *arguments, **options)
            return loss._replace(terms={**loss.terms, "odd": loss.total * float("nan")})

        monkeypatch.setattr(TrainingStep, "__call__", no_number)
        message = bench(*RUN, home=tmp_path).mistake
        assert "\nNo state was saved in " in message
        (folder,) = (tmp_path / "results" / "runs").iterdir()
        assert not resume.exists(folder)

    def test_weights_that_are_no_numbers_are_not_saved(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a last step whose loss was still finite."""
        from bench.training.step import TrainingStep

        real, calls = TrainingStep.__call__, []

        def breaks(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
            calls.append(1)
            loss = real(self, *arguments, **options)
            if len(calls) == 16:
                next(self.models.student.parameters()).data.fill_(float("inf"))
            return loss

        monkeypatch.setattr(TrainingStep, "__call__", breaks)
        assert "no longer finite: the student's weights" in bench(*RUN, home=tmp_path).mistake
        (folder,) = (tmp_path / "results" / "runs").iterdir()
        state = resume.load(folder, pytest.fail)
        assert state is not None
        assert all(value.isfinite().all() for value in state["student"].values())

    def test_a_collapse_is_warned_about(self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from bench.training.monitor import Monitor

        looks = iter([0.9, 0.1])
        found = {"student": {"clean": 0.0, "robust": 0.0}}
        monkeypatch.setattr(Monitor, "look", lambda *_: {"student": {**found["student"], "clean": next(looks)}})
        done = bench(*RUN, home=tmp_path)
        assert done.code == 0, done
        said = " ".join(done.err.split())
        assert "epoch 4 of 4: the student's clean accuracy is 10.0%, no better than chance (10.0%), after 90.0%" in said


class TestTwoProcesses:
    def test_different_runs_and_evaluations_side_by_side(
        self, start: Start, bench: Bench, home: Path, runs: Find, records: Find
    ) -> None:
        """Two trainings of other seeds, then two evaluations of all: every run trained, every record there once."""
        both = [start(*RUN, "--seed", seed, home=home) for seed in (1, 2)]
        for process in both:
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
        assert len(runs(home, "_s1_")) == len(runs(home, "_s2_")) == 1
        both = [start("eval", "--suite", suite, "--limit", 8, home=home) for suite in ("fgsm", "fgsm")]
        said = []
        for process in both:
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
            said.append(error)
        assert len(records(home, "-n8")) == 4
        assert bench("results", "validate", home=home).code == 0

    def test_an_evaluation_that_another_process_makes_is_left_to_it(
        self, sit: Sit, bench: Bench, home: Path, runs: Find, records: Find
    ) -> None:
        from bench.system.home import Home
        from bench.system.locks import held

        (sat,) = runs(home, "_sat_")
        arguments = ("eval", "--suite", "fgsm", "--limit", 8, "--run", sat.name)
        lock = Home(home).kept / "unfinished" / f"{sat.name}__fgsm-official-n8.lock"
        with held(lock, "it is evaluated"):
            done = bench(*arguments, home=home)
            assert done.code == 0, done
            assert f"is being evaluated by process {os.getpid()}" in done.err
            assert not records(home, "fgsm") + records(home, "fgsm-official-last")  # of the same weights
        assert bench(*arguments, home=home).code == 0
        assert len(records(home, "fgsm")) == 1
        assert not lock.exists()

    def test_a_run_whose_process_was_killed_is_taken_over(
        self, sit: Sit, bench: Bench, tmp_path: Path, whole: dict[str, Any]
    ) -> None:
        code, _, said = sit(*RUN, home=tmp_path, event="step", count=20)
        assert code == -signal.SIGKILL, said
        (folder,) = (tmp_path / "results" / "runs").iterdir()
        owner = json.loads((folder / "lock").read_text())
        done = bench(*RUN, home=tmp_path)
        assert f"was being trained by process {owner['process']} on {owner['host']}" in done.err
        assert "takes it over" in done.err
        assert result(folder) == whole
        assert not (folder / "lock").exists()


@pytest.mark.usefixtures("judged_by_few")
def test_a_learned_teacher_is_a_checkpoint_like_any_other(
    bench: Bench, digits: tuple[str, ...], home: Path, runs: Find
) -> None:
    (ciard,) = runs(home, "_ciard_")
    learned = ciard / "robust-teacher.safetensors"
    (before,) = runs(home, "_robust-teacher_")
    one, other = load_file(learned), load_file(before / "best.safetensors")
    assert one.keys() == other.keys()
    assert not all(torch.equal(one[key], other[key]) for key in one)
    done = bench(
        *("run", "--method", "ard", "--student", "digits-cnn", *digits, "--teacher", f"robust={learned}"), home=home
    )
    assert done.code == 0, done
