"""A teacher's evaluation: the same procedure as `bench eval`, and once for all students."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.compute.speedups import enabled
from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.evaluation import attack_run
from bench.jobs import teachers
from bench.jobs.session import Session
from bench.jobs.train import Request, Teacher, resolve
from bench.models import references
from bench.models.checkpoints import save_weights, weights_hash
from bench.records.files import read_record
from bench.records.record import Record
from bench.runs.config import TeacherRef
from bench.system import locks
from bench.system.console import Lines
from bench.system.home import Home
from bench.system.signals import Interrupted, StopRequest

from ..helpers.hub import Hub
from ..helpers.networks import DigitsModel

REQUEST = Request(method="rslad", student="digits-cnn", dataset="digits", recipe="demo")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load_dataset("digits", Path("data"))
    return replace(whole, test=whole.test.first(16))


@pytest.fixture
def session(tmp_path: Path, digits: Dataset) -> Session:
    own = Session(Home(tmp_path), torch.device("cpu"), Lines(), StopRequest())
    own._datasets["digits"] = digits
    return own


@pytest.fixture
def teacher(digits_model: DigitsModel, tmp_path: Path) -> Teacher:
    network = digits_model("sat")
    return Teacher(_ref(network), network)


def _ref(network: nn.Module) -> TeacherRef:
    return TeacherRef(role="robust", model="digits-cnn", source="t.pt", checkpoint=weights_hash(network), given=True)


def _calls(network: nn.Module) -> list[int]:
    calls: list[int] = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


def _outcomes(record: Record) -> dict[str, Any]:
    return {name: (result.final, result.worst) for name, result in record.results.items()}


def test_what_a_signal_stops_is_kept_and_continued(
    session: Session, teacher: Teacher, digits_model: DigitsModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 8)
    session.speedups = enabled(["folding"])  # so that all passes are the network's own

    def evaluated(stop_after: int = 0) -> tuple[Record, int]:
        network = digits_model("sat")
        calls = _calls(network)
        if stop_after:
            session.stop = StopRequest()
            network.register_forward_hook(
                lambda *_: setattr(session.stop, "signal_number", 15 if len(calls) == stop_after else None)
            )
        return teachers.evaluate_once(session, REQUEST, Teacher(_ref(network), network)), len(calls)

    with pytest.raises(Interrupted, match="what is computed is kept"):
        evaluated(stop_after=60)
    assert list(session.home.kept.glob("unfinished/*/*.safetensors"))
    session.stop = StopRequest()
    continued, calls = evaluated()
    (file,) = session.home.records.iterdir()
    file.unlink()
    whole, all_calls = evaluated()
    assert _outcomes(continued) == _outcomes(whole)
    assert calls < all_calls


def test_speedups_that_are_off_are_off(session: Session, teacher: Teacher) -> None:
    record = teachers.evaluate_once(session, REQUEST, teacher)
    assert record.environment["speedups"] == ["channels-last", "folding"]
    (file,) = session.home.records.iterdir()
    file.unlink()
    session.speedups = enabled(["folding"])
    assert teachers.evaluate_once(session, REQUEST, teacher).environment["speedups"] == []


def test_it_is_measured_once_and_found_then(session: Session, teacher: Teacher) -> None:
    first = teachers.evaluate_once(session, REQUEST, teacher)
    calls = _calls(teacher.network)
    again = teachers.evaluate_once(session, REQUEST, teacher)
    assert (calls, again.created) == ([], first.created)
    assert sum("16 test images" in line for line in session.reporter.lines) == 1  # type: ignore[attr-defined]


def test_while_another_process_measures_it_its_end_is_awaited(
    session: Session, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(session, home=Home(tmp_path / "elsewhere"))
    made = teachers.evaluate_once(elsewhere, REQUEST, teacher)
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    monkeypatch.setattr(locks, "_LOOK_AGAIN", 0.05)
    lock = session.home.kept / "unfinished" / f"{made.id}.lock"
    begun, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with locks.held(lock, "it is being evaluated"):
            begun.set()
            go_on.wait(20)
            session.home.records.mkdir(parents=True)
            (session.home.records / f"{made.id}.json").write_bytes(
                (elsewhere.home.records / f"{made.id}.json").read_bytes()
            )

    rival = threading.Thread(target=other)
    rival.start()
    begun.wait(20)
    monkeypatch.setattr(session.stop, "pause", lambda seconds: go_on.set())
    calls = _calls(teacher.network)
    assert (
        teachers.evaluate_once(session, REQUEST, teacher).created
        == read_record(elsewhere.home.records / f"{made.id}.json").created
    )
    rival.join()
    assert calls == []
    assert any(line.startswith("Waiting: ") for line in session.reporter.lines)  # type: ignore[attr-defined]


def test_a_file_that_holds_no_numbers_is_refused_by_its_path(
    session: Session, teacher: Teacher, digits: Dataset, tmp_path: Path
) -> None:
    next(teacher.network.parameters()).data.view(-1)[0] = torch.nan
    file = tmp_path / "t.safetensors"
    save_weights(file, teacher.network, {"model_spec": "digits-cnn", "num_classes": "10", "in_channels": "1"})
    with pytest.raises(BenchError, match=r"t\.safetensors has NaN or infinite weights"):
        teachers.from_file(session, str(file), "robust", digits)


def test_one_that_is_trained_first_says_how_long_it_takes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.live._WORTH_SAYING", 0)
    asked = teachers.teacher_request(replace(REQUEST, limit_train=40), "robust", "digits")
    teachers.train_teacher(session, asked)
    first, told, trained = session.reporter.lines  # type: ignore[attr-defined]
    assert first.startswith("The robust teacher is trained first: digits-teacher by trades, demo recipe, 12 epochs; ")
    assert re.fullmatch(r"The robust teacher, TRADES on digits: 12 epochs of 1 steps, about \d+ (s|min) to go\.", told)
    assert trained.startswith("Trained digits_digits-teacher_robust-teacher_demo_")


class TestGathering:
    @pytest.fixture(autouse=True)
    def nothing_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def long(*_: object) -> None:
            raise AssertionError("something long was begun")

        monkeypatch.setattr(teachers, "train_teacher", long)
        monkeypatch.setattr(teachers, "evaluate_once", long)

    @pytest.mark.parametrize(
        ("student", "named", "words"),
        [
            ("digits-cnn", {"robust": "/nowhere.pt"}, "There is no checkpoint /nowhere.pt"),
            ("digits-cnn", {"robust": "robustbench:nobody"}, "pip install robustbench"),
            ("digits-cnn", {"robust": "damaged.pt"}, "truncated or no PyTorch checkpoint"),
            ("timm:vit_tiny_patch16_224?img_size=9", {}, "cannot take images of 1x8x8"),
            ("timm:vit_tiny_patch16_224?img_siz=8", {}, "no argument 'img_siz'"),
        ],
    )
    def test_a_mistake_is_found_before_the_clean_teacher_is_trained(
        self, student: str, named: dict[str, str], words: str, session: Session, tmp_path: Path, monkeypatch: Any
    ) -> None:
        (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(references, "_installed", lambda: False)
        with pytest.raises(BenchError, match=re.escape(words)):
            teachers.gather(session, replace(REQUEST, method="ciard", student=student, teachers=named))


def test_a_teacher_of_the_hub_is_recorded_with_its_commit(
    session: Session, teacher: Teacher, digits: Dataset, hub: Hub, tmp_path: Path
) -> None:
    torch.save(teacher.network.state_dict(), tmp_path / "t.pt")
    commit = hub.commit("org/repo", {"robust.pt": (tmp_path / "t.pt").read_bytes()})
    ref = teachers.from_file(session, "digits-cnn@none:hf:org/repo/robust.pt", "robust", digits).ref
    assert (ref.source, ref.known_as) == (f"hf:org/repo@{commit}/robust.pt", "org/repo/robust")
    assert ref.checkpoint == weights_hash(teacher.network)
    config = resolve(replace(REQUEST, teachers={"robust": "x"}), digits, [Teacher(ref, teacher.network)])
    nameless = config.model_copy(update={"teachers": [ref.model_copy(update={"name": None, "source": "/other.pt"})]})
    assert config.id == nameless.id  # a run of an earlier version is the same run
    assert nameless.teachers[0].known_as == "other"
