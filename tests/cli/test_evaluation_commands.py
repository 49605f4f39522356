"""`bench eval` of one's own checkpoint, interrupted in every way; and what `bench status` says of failed checks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from bench.records.files import read_record, write_record

from ..helpers.commands import Bench, Sit
from ..helpers.homes import Find, measured
from ..helpers.networks import DigitsModel


@pytest.mark.slow
def test_autoattack_that_was_interrupted_is_the_one_that_never_was(
    bench: Bench, sit: Sit, records: Find, digits_model: DigitsModel, tmp_path: Path
) -> None:
    """Not between two batches: there is only one, and its first attack alone has more passes than that."""
    file, home = tmp_path / "my.pt", tmp_path / "home"
    torch.save(digits_model("natural").state_dict(), file)  # soon broken: nothing is left for Square
    network = ("--checkpoint", file, "--student", "digits-cnn@none")
    command = ("eval", "--suite", "autoattack", *network, "--dataset", "digits", "--limit", "4", "--device", "cpu")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        code, seconds, said = sit(*command, home=home, event="pass", count=12, number=number)
        assert not records(home), "it was not interrupted"
        assert list(home.rglob("autoattack.inner.safetensors"))
        if number == signal.SIGKILL:
            assert code == -number
        else:
            assert code == 128 + number, said
            assert seconds < 10  # what a batch system is sure to leave
            assert "what is computed is kept" in said
            assert "Run the same command again" in said.splitlines()[-1]
            assert "Traceback" not in said

    last = bench(*command, home=home)
    assert last.code == 0, last
    assert not list((home / "results" / "kept" / "unfinished").iterdir())
    whole = bench(*command, home=tmp_path / "other")
    assert whole.code == 0, whole
    assert measured(Path(last.out.splitlines()[0])) == measured(Path(whole.out.splitlines()[0]))


def test_without_checks_is_a_record_of_its_own(bench: Bench, digits_model: DigitsModel, tmp_path: Path) -> None:
    """With checks it is measured again; who wants none takes the one that has them."""
    torch.save(digits_model("natural").state_dict(), tmp_path / "my.pt")
    checkpoint = ("--checkpoint", tmp_path / "my.pt", "--student", "digits-cnn@none")
    command = ("eval", "--suite", "fgsm", *checkpoint, "--dataset", "digits", "--limit", 8)
    folder = tmp_path / "results" / "records"
    seen = []
    for option, count in (("--no-checks", 1), ("", 2), ("--no-checks", 2)):
        assert bench(*command, *option.split(), home=tmp_path).code == 0
        seen = sorted(folder.iterdir())
        assert len(seen) == count
    checked, unchecked = map(read_record, seen)
    assert unchecked.id == checked.id.replace("-n8", "-unchecked-n8")
    assert unchecked.flags == ["not checked: the checks that attack images of their own were left out"]
    assert checked.checks is not None
    assert checked.checks.left_out[-1].startswith("PGD-SAT with eps = ")
    tables = bench("results", "validate", home=tmp_path)
    assert tables.code == 0, tables


def test_a_checkpoint_of_ones_own_architecture(bench: Bench, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "my.pt")
    command = ("eval", "--suite", "whitebox", "--checkpoint", tmp_path / "my.pt", "--student", "timm:test_resnet")
    result = bench(*command, "--dataset", "digits", "--limit", 16, home=tmp_path)
    assert result.code == 0, result
    record = read_record(Path(result.out.splitlines()[0]))
    assert record.subject.model.startswith("timm:test_resnet")
    assert record.subject.label == "my"
    assert list(record.results) == ["clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf"]
    again = bench(*command, "--dataset", "digits", "--limit", 16, home=tmp_path)
    assert again.out == result.out
    assert "Already evaluated" in again.err


def test_failed_checks_stand_in_words_below_the_status(bench: Bench, home: Path, records: Find) -> None:
    for path in records(home):  # whatever the checks found in networks that were trained for a second
        record = read_record(path)
        path.unlink()
        write_record(record.model_copy(update={"flags": []}), path.parent)
    assert "Flag:" not in bench("status", home=home).out
    flagged = "the gradient vanishes on 16 of 16 samples"
    path = next(path for path in records(home) if "_sat_" in path.name and "teacher" not in path.name)
    record = read_record(path)
    path.unlink()
    write_record(record.model_copy(update={"flags": [flagged]}), path.parent)
    elsewhere = record.subject.model_copy(update={"run": None, "kind": "checkpoint"})
    write_record(record.model_copy(update={"flags": ["another"], "subject": elsewhere, "id": "mine"}), path.parent)
    out = bench("status", home=home).out
    assert f"Flag: {record.subject.run}: {flagged}\n" in out
    assert "Flag: mine: another\n" in out
    assert out.count("Flag:") == 2
    assert out.count(" ‡ ") == 2
    assert "(1 flags)" in bench("status", "--grid", home=home).out
    tables = bench("tables", home=home)
    assert tables.code == 0, tables
    rendered = "".join(path.read_text() for path in (home / "results" / "tables").rglob("*.md"))
    assert "‡" in rendered
    assert flagged in rendered
