"""What a stopped evaluation and a surrogate's images leave on disk, and what is done with what cannot be trusted."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from attacks.autoattack import AutoAttack
from bench import registry
from bench.data.dataset import Dataset, Split, to_float
from bench.errors import BenchError
from bench.evaluation import attack_run, evaluator
from bench.evaluation.cache import Slot
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import SUITES, Entry, Suite
from bench.evaluation.transfers import Surrogate
from bench.records.record import Record
from bench.system.console import Reporter
from bench.system.files import atomic_path
from bench.system.signals import Interrupted, StopRequest

from .small import SUBJECT

N = 40
pytestmark = pytest.mark.usefixtures("all_in_one_batch")


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()


@pytest.fixture
def dataset() -> Dataset:
    images = torch.randint(256, (N, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        split = Split(images, network()(to_float(images)).argmax(1))
    return Dataset("small", split, split, ("a", "b", "c", "d"), eps=8 / 255)


class Said:
    """An evaluator on a folder, and what it said."""

    def __init__(self, folder: Path, stop: StopRequest | None = None) -> None:
        self.stream = io.StringIO()
        reporter = Reporter(Console(file=self.stream, width=500))
        stop = StopRequest() if stop is None else stop
        self.evaluator = Evaluator(torch.device("cpu"), "official", reporter, stop, kept=folder)

    def run(self, dataset: Dataset, suite: Suite, model: nn.Module | None = None, **options: Any) -> Record:
        surrogate = options.pop("surrogate", None)
        subject = options.pop("subject", SUBJECT)
        record = self.evaluator.evaluate(model or network(), dataset, subject, suite, None, "record", surrogate)
        self.evaluator.forget("record")
        return record


def content(record: Record) -> dict[str, Any]:
    """All of a record but the time it took."""
    times: Any = {"results": {"__all__": {"seconds"}}, "checks": {"seconds"}}
    return record.model_dump(exclude={**times, **dict.fromkeys(("created", "seconds", "digest", "environment"), True)})


class StopAfter(nn.Module):
    """A network during whose call number `calls` the user asks to stop."""

    def __init__(self, inner: nn.Module, stop: StopRequest, calls: int) -> None:
        super().__init__()
        self.inner, self.stop, self.calls = inner, stop, calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls == 0:
            self.stop.signal_number = 15
        return self.inner(x)


@dataclass(frozen=True, kw_only=True)
class InBatches(AutoAttack):
    """AutoAttack that has several batches here, too."""

    batch_size: int = 16


@pytest.mark.usefixtures("quick_autoattack")
@pytest.mark.parametrize(
    ("suite", "calls"),
    [
        *(("whitebox", 1), ("whitebox", 8), ("whitebox", 130), ("autoattack", 20), ("autoattack", 30), ("dard", 250)),
        ("curve", 150),
    ],
)
def test_a_stopped_evaluation_goes_on_and_gives_the_same_record(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str, calls: int
) -> None:
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 16)
    real = registry.attack_class
    monkeypatch.setattr(evaluator, "attack_class", lambda name: InBatches if name == "autoattack" else real(name))

    def counted(folder: Path, stop: StopRequest | None = None, calls: int = 0) -> tuple[Record, int]:
        stop = StopRequest() if stop is None else stop
        model = StopAfter(network(), stop, calls)
        return Said(folder, stop).run(dataset, SUITES[suite], model), -model.calls

    if suite == "autoattack":  # a wide ball: what stands until Square costs five thousand passes
        dataset = replace(dataset, eps=0.2)
    whole, all_calls = counted(tmp_path / "whole")
    assert calls < all_calls
    stop, folder = StopRequest(), tmp_path / "kept"
    with pytest.raises(Interrupted):
        counted(folder, stop, calls)
    assert list((folder / "unfinished" / "record").glob("*.safetensors"))
    record, further_calls = counted(folder)
    assert content(record) == content(whole)
    orders = ([list(result.components or ()) for result in each.results.values()] for each in (record, whole))
    assert next(orders) == next(orders)
    assert (suite == "curve") == any(result.radii is not None for result in record.results.values())
    assert further_calls < all_calls
    assert not (folder / "unfinished" / "record").exists()


def test_what_another_model_left_is_not_used(dataset: Dataset, tmp_path: Path) -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted):
        Said(tmp_path, stop).run(dataset, SUITES["whitebox"], StopAfter(network(), stop, 30))
    other = Said(tmp_path)
    record = other.run(
        dataset, SUITES["whitebox"], network(1), subject=SUBJECT.model_copy(update={"checkpoint": "cd" * 32})
    )
    assert "computed under other conditions" in other.stream.getvalue()
    fresh = Said(tmp_path / "fresh").run(dataset, SUITES["whitebox"], network(1))
    assert content(record)["results"] == content(fresh)["results"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_computed_anew(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    suite = Suite("own", "", (Entry("pgd-trades", transfer=True),))
    surrogate = Surrogate(network(3), "ee" * 32, "small")
    first = Said(tmp_path).run(dataset, suite, surrogate=surrogate)
    (file,) = (tmp_path / "transfers").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    file.write_bytes({"cut": bytes(data[:-7]), "flip": bytes(data), "empty": b""}[damage])
    again = Said(tmp_path)
    assert content(again.run(dataset, suite, surrogate=surrogate)) == content(first)
    assert "computed again" in again.stream.getvalue()
    third = Said(tmp_path)
    teacher, calls = network(3), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    third.run(dataset, suite, surrogate=Surrogate(teacher, "ee" * 32, "small"))
    assert calls == []  # what was made anew is whole
    assert third.stream.getvalue() == ""


def test_images_of_a_surrogate_are_crafted_once_for_all_students_and_commands(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, calls = network(3), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    surrogate = Surrogate(teacher, "ee" * 32, "small")
    records = [Said(tmp_path).run(dataset, SUITES["blackbox"], network(k), surrogate=surrogate) for k in (0, 1)]
    assert len(calls) == 20 + 30
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 7)  # start noise belongs to the sample: the same images
    again = Said(tmp_path).run(dataset, SUITES["blackbox"], surrogate=surrogate)
    assert len(calls) == 20 + 30
    for name in ("transfer:pgd-trades", "transfer:cw-inf"):
        assert again.results[name].final == records[0].results[name].final


def test_another_normalisation_of_the_same_weights_is_another_surrogate(dataset: Dataset, tmp_path: Path) -> None:
    suite = Suite("own", "", (Entry("cw-inf", transfer=True),))
    for network_, name in ((network(3), "small@none"), (nn.Sequential(nn.LayerNorm(4), network(3)), "small@own")):
        Said(tmp_path).run(dataset, suite, surrogate=Surrogate(network_, "ee" * 32, name))
    assert len(list((tmp_path / "transfers").iterdir())) == 2


def test_crafting_that_is_stopped_goes_on(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 16)
    suite = Suite("own", "", (Entry("cw-inf", transfer=True),))
    whole = Said(tmp_path / "whole").run(dataset, suite, surrogate=Surrogate(network(3), "ee" * 32, "small"))
    stop = StopRequest()
    with pytest.raises(Interrupted):
        Said(tmp_path, stop).run(
            dataset, suite, surrogate=Surrogate(StopAfter(network(3), stop, 40), "ee" * 32, "small")
        )
    teacher, calls = network(3), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    record = Said(tmp_path).run(dataset, suite, surrogate=Surrogate(teacher, "ee" * 32, "small"))
    assert content(record) == content(whole)
    assert len(calls) == 60  # the second of three batches, in whose midst it was stopped, and the last
    assert [path.name for path in (tmp_path / "transfers").iterdir() if "part" in path.name] == []


def test_a_slot_without_a_file_keeps_nothing() -> None:
    slot = Slot(None)
    slot.save({"a": torch.ones(2)})
    assert slot.load() is None
    slot.forget()


def test_autoattack_refuses_train_mode_and_another_device(dataset: Dataset) -> None:
    x, y = to_float(dataset.test.images), dataset.test.labels
    with pytest.raises(BenchError, match="train mode"):
        AutoAttack().run(network().train(), x, y)
    half_trained = network()
    half_trained[1].train()
    with pytest.raises(BenchError, match="train mode"):
        AutoAttack().run(half_trained, x, y)
    with pytest.raises(BenchError, match="images on cpu and a model on meta"):
        AutoAttack().run(network().to("meta"), x, y)


def test_an_evaluation_refuses_a_model_on_another_device(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"on meta, the evaluation on cpu.\nMove the model"):
        Said(tmp_path).run(dataset, SUITES["whitebox"], network().to("meta"))


def test_a_full_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: dict[str, Tensor], header: dict[str, str]) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bench.evaluation.cache.tensors_file", full)
    slot = Slot(tmp_path / "kept.safetensors")
    with pytest.raises(BenchError, match=r"Cannot write .*kept\.safetensors: No space left on device\.\nFree some"):
        slot.save({"a": torch.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_an_error_without_words_for_it_is_the_full_disk_s_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        with atomic_path(tmp_path / "file"):
            raise RuntimeError("[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0")  # torch.save's

    with pytest.raises(RuntimeError):
        full()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(BenchError, match="No space left on device"):
        full()


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Slot(tmp_path / name, {"of": 1}).save({"x": torch.ones(3), "y": torch.zeros(2, dtype=torch.bool)}, step=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    kept = Slot(tmp_path / "a", {"of": 1}, pytest.fail).load()
    assert kept is not None
    assert kept.facts == {"step": 3}


def test_facts_come_back_in_their_order(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "a")
    slot.save({"x": torch.ones(3)}, components={"clean": 0.9, "apgd-ce": 0.5})
    kept = slot.load()
    assert kept is not None
    assert list(kept.facts["components"]) == ["clean", "apgd-ce"]
