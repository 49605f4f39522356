"""`hf:DIR` and `hf:NAME`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import load_dataset
from bench.errors import BenchError

Y = [0, 1, 2] * 4


@pytest.fixture
def saved(noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """saved(validation=True, ...): a folder of `save_to_disk`, twelve training images and six others."""
    datasets = pytest.importorskip("datasets", reason="the package of the extra hf is not installed")
    datasets.disable_progress_bars()

    def save(*parts: str, image: str = "img", label: str = "label", named: bool = True) -> str:
        made = {}
        for part in parts:
            n = 12 if part == "train" else 6
            pictures = [Image.fromarray(each.transpose(1, 2, 0)) for each in noise[:n]]
            made[part] = datasets.Dataset.from_dict({image: pictures, label: Y[:n]})
            if named:
                made[part] = made[part].cast_column(label, datasets.ClassLabel(names=["a", "b", "c"]))
        datasets.DatasetDict(made).save_to_disk(str(tmp_path / "mine"))
        return f"hf:{tmp_path / 'mine'}"

    return save


@pytest.mark.parametrize("named", [True, False])
def test_a_saved_dataset(saved: Any, noise: np.ndarray, tmp_path: Path, named: bool) -> None:
    for _ in range(2):  # decoded, then from what is kept
        made = load_dataset(
            saved("train", "validation", named=named) if _ == 0 else f"hf:{tmp_path / 'mine'}", tmp_path
        )
        assert (made.name, made.classes) == ("hf:mine", ("a", "b", "c") if named else ("0", "1", "2"))
        assert torch.equal(made.train.images, torch.from_numpy(noise))
        assert torch.equal(made.test.images, torch.from_numpy(noise[:6]))
        assert made.train.labels.tolist() == Y


def test_what_a_dataset_lacks_is_named(saved: Any, tmp_path: Path) -> None:
    for arguments, options, said in (
        (("train",), {}, r"has no split test or validation or valid or val; it has train"),
        (
            ("train", "test"),
            {"image": "picture"},
            r"no column img or image in the split train of .*; it has picture, label",
        ),
        (("train", "test"), {"image": "image", "label": "img"}, r"no column label or fine_label|holds no images"),
    ):
        with pytest.raises(BenchError, match=said):
            load_dataset(saved(*arguments, **options), tmp_path)


def test_without_the_package_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BenchError, match=r"needs the package `datasets`.*\nInstall it: pip install 'ard-bench\[hf\]'"):
        load_dataset("hf:org/name", tmp_path)
    with pytest.raises(BenchError, match="The dataset 'hf:' names nothing"):
        load_dataset("hf:", tmp_path)


def test_a_name_on_the_hub_with_configuration_and_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*arguments: Any, **options: Any) -> None:
        asked.append((*arguments, options))
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    for name in ("org/name", "org/name:large@v1"):
        with pytest.raises(
            BenchError, match=rf"hf:{name} cannot be loaded: ConnectionError: no network\.\nCheck its name"
        ):
            load_dataset(f"hf:{name}", tmp_path)
    assert asked == [("org/name", None, {"revision": None}), ("org/name", "large", {"revision": "v1"})]
