"""No speed-up changes an evaluation's outcome; the worst case is found sooner and kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.fgsm import FGSM
from attacks.pgd import PGDSAT
from bench.compute.speedups import SPEEDUPS, enabled
from bench.data import load_dataset
from bench.data.dataset import to_float
from bench.evaluation import attack_run
from bench.evaluation.target import ready, view_of
from bench.models.checkpoints import load_model
from bench.records.files import read_record
from bench.records.measurement import differing
from bench.records.outcomes import unpack

from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.networks import DigitsModel
from ..helpers.places import RESNET56, SHARED


@pytest.fixture(scope="module")
def trained(digits_model: DigitsModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a SAT student of the digits."""
    file = tmp_path_factory.mktemp("trained") / "sat.pt"
    torch.save(digits_model("sat").state_dict(), file)
    return file


def evaluated(bench: Bench, trained: Path, home: Path, *options: str) -> Any:
    """The record of the student, made in a home of its own."""
    command = ("eval", "--checkpoint", trained, "--student", "digits-cnn@none", "--dataset", "digits", *options)
    result = bench(*command, home=home)
    assert result.code == 0, result
    return read_record(Path(result.out.splitlines()[0]))


@pytest.mark.usefixtures("quick_autoattack")
@pytest.mark.parametrize(("suite", "limit"), [("whitebox", 120), ("dard", 8), ("square", 120)])
def test_outcomes_are_the_same_with_every_speedup_on_and_off(
    bench: Bench, trained: Path, tmp_path: Path, suite: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = evaluated(bench, trained, tmp_path / "fast", "--suite", suite, "--limit", str(limit))
    assert fast.environment["speedups"] == ["channels-last", "folding"]
    monkeypatch.setattr(attack_run, "at_once", lambda *_: 250)
    off = [word for name in SPEEDUPS for word in ("--off", name)]
    slow = evaluated(bench, trained, tmp_path / "slow", "--suite", suite, "--limit", str(limit), *off)
    assert slow.environment["speedups"] == []
    assert set(differing(fast, slow).values()) == {0}
    for name, result in fast.results.items():
        assert result.worst == slow.results[name].worst


def test_the_worst_case_is_the_plain_pass_s_and_a_setting_of_its_own(
    bench: Bench, trained: Path, tmp_path: Path, records: Find
) -> None:
    plain = evaluated(bench, trained, tmp_path, "--suite", "whitebox", "--limit", "120")
    worst = evaluated(bench, trained, tmp_path, "--suite", "whitebox", "--limit", "120", "--worst-case")
    assert worst.worst_case
    assert not plain.worst_case
    assert worst.id != plain.id
    n = plain.data.n
    for name, result in worst.results.items():
        expected = plain.results[name].worst or plain.results[name].final
        assert (unpack(result.final, n) == unpack(expected, n)).all(), name
        assert result.worst is None
    assert worst.results["pgd-sat"].correct < n
    assert bench("tables", "--table", "3", "--format", "csv", home=tmp_path).code == 0
    compared = bench("compare", *records(tmp_path), home=tmp_path)
    assert "official protocol, worst case" in compared.out + compared.err


def test_an_attack_that_couples_its_batch_runs_to_the_end_in_the_worst_case(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    plain = evaluated(bench, trained, tmp_path, "--suite", "dpgd", "--limit", "60")
    worst = evaluated(bench, trained, tmp_path, "--suite", "dpgd", "--limit", "60", "--worst-case")
    assert worst.results["dpgd"].final == plain.results["dpgd"].worst


def test_tf32_is_refused_without_a_gpu(bench: Bench, trained: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, which has TF32")
    options = ("--checkpoint", trained, "--student", "digits-cnn@none", "--dataset", "digits", "--precision", "tf32")
    assert "tf32 is a GPU's" in bench("eval", "--suite", "fgsm", *options, home=tmp_path).mistake


@pytest.mark.skipif(not RESNET56.is_file(), reason="the shared development data is not beside this repository")
def test_a_published_network_on_real_images_gives_the_same_outcomes_too() -> None:
    """Under a small eps, so that some images are lost on the way, and some are not."""
    split = load_dataset(f"parquet:{SHARED / 'cifar10-jpeg'}", Path("data")).test
    network, _ = load_model(RESNET56, "resnet56-option-a@imagenet", 10, 3)
    x, y = to_float(split.images[:24]), split.labels[:24]
    with ready(network):
        view = view_of(network, enabled())
        assert view is not None
        for attack in (FGSM(eps=0.5 / 255), PGDSAT(eps=0.5 / 255, step_size=0.1 / 255, steps=8)):
            noise = attack.start_noise(x.shape, x, torch.Generator().manual_seed(0))
            fast, slow = (attack.run(model, x, y, noise=noise, track=True) for model in (view, network))
            assert fast.always_right is not None
            assert slow.always_right is not None
            assert torch.equal(fast.always_right, slow.always_right)
            with torch.no_grad():
                right = [network(outcome.x_adv).argmax(1) == y for outcome in (fast, slow)]
            assert torch.equal(*right)
            assert 0 < right[0].sum() < 20
            worst = attack.survivors(view, x, y, noise=noise, batch_size=32)
            assert worst is not None
            assert worst.always_right is not None
            assert torch.equal(worst.always_right, slow.always_right & right[1])


def test_the_schema_keeps_precision_and_worst_case(bench: Bench, trained: Path, tmp_path: Path) -> None:
    record = evaluated(bench, trained, tmp_path, "--suite", "fgsm", "--limit", "20")
    content = json.loads((tmp_path / "results" / "records" / f"{record.id}.json").read_text())
    assert content["precision"] == "32"
    assert content["worst_case"] is False
    faster = record.model_copy(update={"precision": "tf32", "worst_case": True})
    assert faster.conduct == "official, worst case, tf32"
