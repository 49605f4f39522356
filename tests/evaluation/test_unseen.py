"""What is measured beyond a network's threat: corruptions made once for all networks, published ones, rotations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attacks.corruption import Corruption
from bench.data.dataset import Dataset, Split
from bench.errors import BenchError
from bench.evaluation.suites import SUITES, suite_named, suites_named
from bench.records.outcomes import unpack
from bench.vocabulary import CORRUPTIONS, SEVERITIES

from ..helpers.commands import Bench
from .small import evaluate

N = 5


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(N) % 4)
    return Dataset("synthetic", split, split, ("a", "b", "c", "d"))


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 4)).eval()


def test_the_suites_are_what_they_say() -> None:
    assert [entry.result for entry in SUITES["unseen"].entries[:4]] == ["apgd@1.5x", "apgd@l2", "apgd@l1", "geometric"]
    assert {entry.attack for entry in SUITES["unseen"].entries[4:]} == {f"corruption-{kind}-3" for kind in CORRUPTIONS}
    assert len(SUITES["corruptions"].entries) == len(CORRUPTIONS) * len(SEVERITIES) == 75
    assert [entry.result for entry in suite_named("corruption-fog-2").entries] == ["corruption-fog-2"]
    with pytest.raises(BenchError, match="Unknown suite 'geometrik'"):
        suite_named("geometrik")
    with pytest.raises(BenchError, match=r"corruption-fog-9.*\n.*corruption-fog-3"):
        suite_named("corruption-fog-9")


def test_corruptions_are_made_once_for_all_networks(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imagecorruptions")
    suite, made = suites_named(["corruption-gaussian_noise-3", "corruption-fog-5"]), []
    whole = Corruption.corrupted

    def counted(self: Corruption, image: np.ndarray, seed: int) -> np.ndarray:
        made.append(self.kind)
        return whole(self, image, seed)

    monkeypatch.setattr(Corruption, "corrupted", counted)
    first = evaluate(network(0), dataset, suite, kept=tmp_path)
    assert sorted(made) == ["fog"] * N + ["gaussian_noise"] * N
    second = evaluate(network(1), dataset, suite, kept=tmp_path)
    assert len(made) == 2 * N, "the images are kept, as bytes"
    again = evaluate(network(0), dataset, suite)
    assert len(made) == 4 * N
    for name in first.results:
        assert first.results[name].final == again.results[name].final
    assert first.results["corruption-fog-5"].parameters == {"kind": "fog", "severity": 5, "in_ball": False}
    assert not any("its own eps" in flag for flag in first.flags), "they have none"
    assert second.results.keys() == first.results.keys()


def test_images_that_cannot_be_corrupted_give_no_number() -> None:
    pytest.importorskip("imagecorruptions")
    split = Split(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    small = Dataset("small", split, split, ("a", "b"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with pytest.raises(BenchError, match="at least 32 x 32 pixels"):
        evaluate(model, small, suite_named("corruption-fog-1"))


def test_published_arrays_are_a_suite_with_their_folder(dataset: Dataset, tmp_path: Path) -> None:
    labels = np.tile(dataset.test.labels.numpy(), 5)
    np.save(tmp_path / "labels.npy", labels)
    images = dataset.test.images.permute(0, 2, 3, 1).numpy()
    for i, kind in enumerate(CORRUPTIONS):
        np.save(tmp_path / f"{kind}.npy", np.concatenate([np.roll(images, i + s, axis=1) for s in SEVERITIES]))
    suite = suite_named(f"cifar10-c:{tmp_path}")
    assert (suite.name, len(suite.entries)) == ("cifar10-c", 75)
    model = network(0)
    record = evaluate(model, dataset, suite, places=suite.places)
    rolled = torch.from_numpy(np.roll(images, 2 + 4, axis=1)).permute(0, 3, 1, 2) / 255
    expected = model(rolled).argmax(1) == dataset.test.labels
    found = record.results[f"published-corruption-{CORRUPTIONS[2]}-4"]
    assert unpack(found.final, N).tolist() == expected.tolist()
    assert str(tmp_path) not in record.model_dump_json(), "where they lie is nobody's business"
    assert {"kind", "severity", "arrays", "in_ball"} == found.parameters.keys()
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "labels.npy", labels)
    with pytest.raises(BenchError, match=r"gaussian_noise.npy cannot be read"):
        evaluate(model, dataset, suite, places={"folder": str(other)})
    with pytest.raises(BenchError, match=r"There is no labels.npy in"):
        suite_named(f"cifar10-c:{tmp_path / 'nowhere'}")


@pytest.mark.slow
def test_the_way_from_a_run_to_the_tables(bench: Bench, trained: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    suite = "pgd-sat@1.5x,pgd-sat@l2:0.5,geometric"
    measured = bench("eval", "--suite", suite, "--limit", 10, home=home)
    assert measured.code == 0, measured
    assert "geometric" in measured.out
    shown = bench("tables", "--table", "unseen", "--out", tmp_path, home=home)
    assert shown.code == 0, shown
    for word in ("1.5", "L2", "Geometric", "Union", "Mean"):
        assert word in shown.out, shown.out
    assert (tmp_path / "unseen.md").is_file()
    wrong = bench("tables", "--table", "corruptions", "--relative-to", "sat", "--out", tmp_path, home=home)
    assert "was not measured under corruptions" in wrong.mistake
