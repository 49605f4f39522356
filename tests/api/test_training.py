"""`bench.train`: `bench run` with objects of one's own, whose identity is what they compute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.api.trained import Trained
from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.models import build_model
from bench.models.checkpoints import weights_hash

from ..helpers.commands import Bench
from ..helpers.networks import DigitsModel

SHORT: dict[str, Any] = {"recipe": "demo", "epochs": 1, "batch_size": 30, "device": "cpu"}


class Net(nn.Module):
    """A student of a notebook; what it returns is a dict."""

    def __init__(self, rate: float = 0.1, act: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Linear(36, 10)
        self.rate, self.act = rate, act

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = F.dropout(self.act(self.norm(self.conv(x))).flatten(1), self.rate, self.training)
        return {"logits": self.head(hidden)}


def net(seed: int = 0, **options: Any) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(**options)


@pytest.fixture(scope="module")
def mine() -> Dataset:
    digits = load_dataset("digits", Path("data"))
    train, test = digits.train.first(90), digits.test.first(30)
    return Dataset("mine", train, test, digits.classes, eps=0.1, padding=1, flip=False)


@pytest.fixture
def go(mine: Dataset, tmp_path: Path) -> Callable[..., Trained]:
    """go(method, student): a short run in this test's home."""

    def train(method: str, student: Any, dataset: str | Dataset = mine, **options: Any) -> Trained:
        return bench.train(method, student, dataset, **{"home": tmp_path, **SHORT, **options})

    return train


def test_names_make_the_run_that_the_command_makes(bench: Bench, go: Callable[..., Trained], tmp_path: Path) -> None:
    run = go("sat", "digits-cnn", "digits", limit_train=60, set={"steps": 2, "step_size": 8 / 255})
    options = ("--recipe", "demo", "--epochs", 1, "--batch-size", 30, "--limit-train", 60, "--device", "cpu")
    command = ("run", "--method", "sat", "--student", "digits-cnn", "--dataset", "digits", *options)
    done = bench(*command, "--set", "steps=2", "--set", f"step_size={8 / 255}", home=tmp_path)
    assert done.out.strip() == str(run.folder)
    assert "Already trained" in done.err
    assert run.config.own == {}
    assert not run.student.training
    assert weights_hash(run.student) == run.summary.checkpoint
    evaluated = bench("eval", "--suite", "fgsm", "--limit", 8, home=tmp_path)
    assert evaluated.code == 0, evaluated


def test_objects_of_ones_own_are_trained_evaluated_and_compared(
    go: Callable[..., Trained], mine: Dataset, tmp_path: Path, digits_model: DigitsModel
) -> None:
    student, teacher = net(), digits_model("sat").train()
    before = weights_hash(student), weights_hash(teacher)
    runs = [go("rslad", student, teachers={"robust": teacher}), go("sat", student)]
    assert (weights_hash(student), weights_hash(teacher)) == before
    assert teacher.training
    first = runs[0]
    assert isinstance(first.student, Net)
    assert not first.student.training
    assert first.id.startswith("mine_net_rslad_demo_s0_")
    assert first.config.own.keys() == {"dataset", "student", "robust"}
    assert repr(first) == f"Trained(id={first.id!r}, folder={first.folder!r})"
    records = [bench.evaluate(run, suite="fgsm", save=True) for run in runs]
    assert [record.subject.run for record in records] == [run.id for run in runs]
    assert records[0].subject.teachers == {"robust": weights_hash(teacher)}
    assert records[0].data.name == "mine"
    compared = [str(bench.compare(*sides, home=tmp_path)) for sides in (runs, records, [run.id for run in runs])]
    assert len(set(compared)) == 1
    assert "RSLAD" in compared[0]
    again = go("rslad", net(), teachers={"robust": teacher})
    assert again.id == first.id
    assert weights_hash(again.student) == weights_hash(first.student)
    with torch.no_grad():
        next(first.student.parameters()).add_(1)
    with pytest.raises(BenchError, match=r"other weights than the run selected\.\nEvaluate it by itself"):
        bench.evaluate(first, suite="fgsm")
    found = bench.load_records(tmp_path, method="rslad")
    assert [(record.subject.run, record.suite) for record in found] == [(first.id, "fgsm")]


def test_whatever_decides_the_result_is_in_the_run_s_name(go: Callable[..., Trained], mine: Dataset) -> None:
    other = replace(mine, padding=0)
    flipped = replace(mine, test=mine.test.take(torch.arange(30).flip(0)))
    frozen = net()
    frozen.conv.requires_grad_(False)
    wrapped = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    students: list[tuple[Any, Dataset]] = [
        *((student, mine) for student in (net(), net(1), net(rate=0.2), net(act=F.gelu), frozen, wrapped)),
        *((net(), data) for data in (other, flipped)),
    ]
    seen = {go("natural", student, data).id for student, data in students}
    assert len(seen) == len(students)
    assert {go("natural", student, data).id for student, data in students} == seen


def test_a_factory_s_weights_follow_from_the_seed(go: Callable[..., Trained]) -> None:
    torch.manual_seed(5)
    first = go("natural", Net)
    torch.manual_seed(6)
    assert go("natural", Net).id == first.id
    assert go("natural", Net, seed=1).config.own["student"] != first.config.own["student"]


def test_commands_leave_what_no_name_builds_to_python(bench: Bench, go: Callable[..., Trained], tmp_path: Path) -> None:
    run = go("natural", net())
    done = bench("eval", "--suite", "fgsm", "--run", run.id, home=tmp_path)
    assert done.code == 2
    assert "was trained from Python" in done.err
    assert "bench.evaluate()" in done.err
    assert bench("status", home=tmp_path).code == 0
    exported = bench("export", run.id, home=tmp_path)
    assert exported.code == 2
    assert "given from Python (Net)" in exported.err


def test_a_thread_may_train(go: Callable[..., Trained]) -> None:
    found: list[Trained] = []
    thread = threading.Thread(target=lambda: found.append(go("natural", "digits-cnn")))
    thread.start()
    thread.join()
    assert found[0].config.own.keys() == {"dataset"}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"method": "sta"}, "Did you mean 'sat'"),
    ({"method": None}, r"method is a NoneType\.\nGive a name: `bench list methods`"),
    ({"student": "resnet2"}, "Did you mean 'resnet20'"),
    ({"student": 3}, r"student is an int\.\nGive a torch\.nn\.Module"),
    ({"student": lambda: 3}, r"student is an int\.\n"),
    ({"student": nn.Linear}, r"student\(\) failed \(TypeError: .*\nGive a network, or .* lambda: Net\(10\)"),
    ({"student": net().requires_grad_(False)}, r"no weight that may be trained.*\nAllow it: student\.requires_grad_"),
    ({"student": build_model("resnet20", 10, 3)}, "cannot take images of 1x8x8"),
    ({"dataset": [1, 2]}, r"dataset is a list\.\nGive a bench\.Dataset"),
    ({"teachers": net()}, r"teachers is a Net\.\nGive them by role: teachers=\{'robust': network\}"),
    ({"teachers": {"big": net()}}, r"There is no 'big' teacher\.\nThe roles are 'clean' and 'robust'"),
    ({"teachers": {"robust": 5}}, r"The robust teacher is an int\.\nGive a network, a file"),
    ({"method": "natural", "teachers": {"robust": net()}}, "natural has no robust teacher"),
    ({"set": ["steps=2"]}, r"set is a list\.\nGive parameters by name"),
    ({"set": {"step": 2}}, "Did you mean 'step_size' or 'steps'"),
    ({"recipe": "dmo"}, "Did you mean 'demo'"),
    ({"epochs": "5"}, r"epochs='5': .* Without quotes: epochs=5"),
    ({"limit_train": 5}, "limit_train=5: give a whole number, 10 or more"),
    ({"seed": -1}, "seed=-1"),
    ({"precision": "16"}, "'32' and 'bf16'"),
    ({"device": "gpu"}, "'auto' and 'cpu' and 'cuda'"),
    ({"loggers": 5}, "loggers=5: give a name"),
    ({"loggers": "wandbb"}, "Did you mean 'wandb'"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_every_mistake_is_a_bench_error_with_its_cure(
    go: Callable[..., Trained], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchError, match=message) as raised:
        go(**{"method": "rslad", "student": "digits-cnn", **change})
    assert 1 <= len(str(raised.value).splitlines()) <= 2
    assert not (tmp_path / "results").exists()
