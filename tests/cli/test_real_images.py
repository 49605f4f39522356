"""The way from real images to tables with CIARD and teachers that are files, on a few images of CIFAR-10."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.models import build_model

from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.places import RESNET56, SHARED


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first images of the subset in its own layout: `short` evaluates teachers on 500, which here takes minutes."""
    pq = pytest.importorskip("pyarrow.parquet")
    if not RESNET56.is_file() or not (SHARED / "cifar10-subset").is_dir():
        pytest.skip("the shared development data is not beside this repository")
    folder = tmp_path_factory.mktemp("data") / "few-of-cifar10"
    folder.mkdir()
    for split, n in (("train", 64), ("test", 4)):
        name = f"{split}-00000-of-00001.parquet"
        pq.write_table(pq.read_table(SHARED / "cifar10-subset" / name).slice(0, n), folder / name)
    return f"parquet:{folder}"


@pytest.mark.slow
def test_train_attack_tabulate(
    bench: Bench, images: str, tmp_path: Path, runs: Find, records: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    robust = tmp_path / "robust.pt"
    torch.save(build_model("resnet20", 10).state_dict(), robust)
    home = tmp_path / "home"
    result = bench(
        *("run", "--method", "ciard", "--student", "resnet20", "--dataset", images),
        *("--limit-train", 64, "--epochs", 1, "--recipe", "short"),
        *("--teacher", f"clean={RESNET56}", "--teacher", f"robust={robust}"),
        home=home,
    )
    assert result.code == 0, result
    assert "resnet56-cifar10.th does not say how it wants its images normalised" in result.err
    assert "is not robust" in result.err  # its weights are random

    (run,) = runs(home)
    config = json.loads((run / "config.json").read_text())
    assert {teacher["role"]: teacher["source"] for teacher in config["teachers"]} == {
        "clean": str(RESNET56.resolve()),
        "robust": str(robust),
    }
    (epoch,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert {"loss", "kl_nat", "kl_adv"} <= epoch["terms"].keys()
    assert epoch["accuracy"]["clean teacher"]["clean"] > 0.9

    monkeypatch.chdir(tmp_path)  # the images are found again from any folder
    assert bench("eval", "--suite", "whitebox", "--limit", 2, home=home).code == 0
    (record,) = records(home, run.name)
    results = json.loads(record.read_text())["results"]
    assert results.keys() == {"clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf"}
    teachers = {row["role"]: row for row in json.loads(bench("teacher", "list", "--json", home=home).out)}
    clean = {attack: result["accuracy"] for attack, result in teachers["clean"]["results"].items()}
    assert clean["clean"] > 0.8
    assert clean["pgd-sat"] < 0.1

    assert bench("tables", "--table", 2, "--table", 3, home=home).code == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (home / "results" / "tables").iterdir()}
    assert "few-of-cifar10" in written["table2.md"]
    assert f"{100 * clean['clean']:.2f}" in written["table2.md"]
    # Table 3 is of ResNet-18s: without one it shows what there is, and says of whom.
    assert "robustness: resnet20 (%, measured)" in written["table3.md"]
    assert "No record of ResNet-18 fits" in written["table3.md"]


def test_classes_and_channels_of_a_checkpoint_are_compared_with_the_data(
    bench: Bench, images: str, tmp_path: Path
) -> None:
    hundred = SHARED / "cifar100-subset"
    own = ("--checkpoint", RESNET56, "--student", "resnet56-option-a", "--limit", 4)
    arguments = ("eval", "--suite", "fgsm", *own)
    assert "the file has 10 classes" in bench(*arguments, "--dataset", f"parquet:{hundred}", home=tmp_path).mistake
    assert "for images of 3 channels" in bench(*arguments, "--dataset", "digits", home=tmp_path).mistake
    named = ("eval", "--suite", "fgsm", "--checkpoint", RESNET56, "--student", "resnet56", "--dataset", images)
    assert "It holds a resnet56-option-a" in bench(*named, home=tmp_path).mistake
