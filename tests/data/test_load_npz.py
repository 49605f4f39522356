"""`npz:FILE`, and names of one's own for what lies in the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cli.completing import plugins
from bench.data import load_dataset, npz
from bench.data.npz import load_additional
from bench.errors import BenchError
from bench.system.home import Home

from ..helpers.commands import Bench
from .pictures import Picture

Y = np.arange(12) % 3
store: Any = np.savez
compress: Any = np.savez_compressed


@pytest.fixture
def arrays(noise: np.ndarray) -> dict[str, np.ndarray]:
    """What a file holds, images as bytes, (N, H, W, C)."""
    x = np.ascontiguousarray(noise.transpose(0, 2, 3, 1))
    return {"x_train": x, "y_train": Y, "x_test": x[:6], "y_test": Y[:6]}


@pytest.mark.parametrize("save", [store, compress])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("small", [1 << 26, 0], ids=["small", "large"])
def test_it_holds_what_was_stored(
    arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, order: Any, small: int
) -> None:
    monkeypatch.setattr(npz, "_SMALL", small)
    x = arrays["x_train"]
    save(tmp_path / "mine.npz", **arrays | {"x_train": np.array(x, order=order)}, classes=["a", "b", "c"])
    file = npz.Arrays(tmp_path / "mine.npz", tmp_path)
    assert isinstance(file.read("x_train"), np.memmap) == (save is store or small == 0)
    for _ in range(2):  # what was unpacked is found again
        made = load_dataset(f"npz:{tmp_path}/mine.npz", tmp_path)
        assert (made.name, made.classes) == ("npz:mine", ("a", "b", "c"))
        assert torch.equal(made.train.images, torch.from_numpy(x.transpose(0, 3, 1, 2)))
        assert torch.equal(made.test.images, made.train.images[:6])
        assert made.train.labels.tolist() == Y.tolist()
    fingerprint = made.train.fingerprint
    store(tmp_path / "other.npz", **arrays)
    assert load_dataset(f"npz:{tmp_path}/other.npz", tmp_path).train.fingerprint == fingerprint
    assert len(list((tmp_path / "decoded").glob("*.npy"))) == (5 if save is compress and small == 0 else 0)


def test_where_nothing_can_be_unpacked_to_memory_does(
    arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(npz, "_SMALL", 0)
    compress(tmp_path / "mine.npz", **arrays)
    (tmp_path / "decoded").write_text("no folder")
    made = load_dataset(f"npz:{tmp_path}/mine.npz", tmp_path)
    assert len(made.train) == 12
    assert "mine.npz is unpacked into memory" in caplog.text


def test_what_is_missing_or_wrong_is_named(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"

    def problem(**changed: Any) -> str:
        store(file, **{name: value for name, value in (arrays | changed).items() if value is not None})
        with pytest.raises(BenchError) as caught:
            load_dataset(f"npz:{file}", tmp_path)
        return str(caught.value)

    assert f"{file} has no y_test; it has x_train, y_train, x_test" in problem(y_test=None)
    assert f"y_train in {file} 11 labels" in problem(y_train=Y[1:])
    assert f"x_test in {file} holds int64" in problem(x_test=arrays["x_test"].astype(np.int64))
    assert "holds Python's objects" in problem(x_train=arrays["x_train"].astype(object))
    assert "The dataset npz:mine: in its training split labels are from 0 to 2" in problem(classes=np.array(["a", "b"]))
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(BenchError, match=r"mine\.npz cannot be read: .*\nIt is damaged or no \.npz file"):
            load_dataset(f"npz:{file}", tmp_path)
    for name, said in (
        ("npz:", "names no file"),
        (f"npz:{tmp_path}", "is not a file"),
        ("npz:no.npz", "is not a file"),
    ):
        with pytest.raises(BenchError, match=said):
            load_dataset(name, tmp_path)


def test_additional_images_by_the_names_they_are_published_under(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    x, file = arrays["x_train"], tmp_path / "more.npz"
    for names in (("image", "label"), ("x_train", "y_train"), ("x", "y")):
        store(file, **dict(zip(names, (x, Y), strict=True)))
        split = load_additional(f"npz:{file}", tmp_path)
        assert torch.equal(split.images, torch.from_numpy(x.transpose(0, 3, 1, 2)))
        assert "more.npz" in Path("/proc/self/maps").read_text()  # the images lie in the file
    store(file, image=x)
    with pytest.raises(BenchError, match=r"more\.npz has no label; it has image"):
        load_additional(f"npz:{file}", tmp_path)
    with pytest.raises(BenchError, match=r"Additional images 'parquet:x': write npz:FILE"):
        load_additional("parquet:x", tmp_path)


def test_own_names_of_files_and_folders(
    arrays: dict[str, np.ndarray], picture: Picture, tmp_path: Path, bench: Bench
) -> None:
    home, elsewhere = Home(tmp_path), tmp_path / "elsewhere"
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            (elsewhere / part / label).mkdir(parents=True)
            (elsewhere / part / label / "1.png").write_bytes(picture((9, 9, 9)))
    home.data.mkdir()
    store(home.data / "mine.npz", **arrays)
    store(home.data / "digits.npz", **arrays)  # the registered one of that name is meant
    (home.data / "pets").symlink_to(elsewhere)
    (home.data / "tiny-imagenet-200" / "train").mkdir(parents=True)
    (home.data / "tiny-imagenet-200" / "val").mkdir()

    assert load_dataset("mine", home.data).name == "mine"
    pets = load_dataset("pets", home.data)
    assert (pets.name, pets.classes) == ("pets", ("cat", "dog"))
    assert load_dataset("digits", home.data).in_channels == 1
    with pytest.raises(BenchError, match=r"Unknown dataset 'pet'\. Did you mean 'pets'\?\nKnown: .*mine.*pets"):
        load_dataset("pet", home.data)

    listed = bench("list", "datasets", home=tmp_path).out
    assert f"npz:{home.data}/mine.npz" in "".join(listed.split())
    assert "\ntiny-imagenet-200" not in listed
    assert listed.count("\ndigits") == 1
    context: Any = type("Context", (), {"find_object": lambda _, __: home})()
    offered = [item.value for item in plugins("datasets")(context, None, "")]  # type: ignore[arg-type]
    assert {"mine", "pets", "cifar10"} <= set(offered)


def test_a_run_on_a_name_of_one_s_own(tmp_path: Path, bench: Bench, arrays: dict[str, np.ndarray]) -> None:
    grey = {name: value[..., :1] if name[0] == "x" else value for name, value in arrays.items()}
    options = ("--method", "natural", "--student", "digits-cnn", "--recipe", "demo", "--epochs", 1)
    assert "Unknown dataset 'mine'" in bench("run", *options, "--dataset", "mine", home=tmp_path).mistake
    (tmp_path / "data").mkdir()
    store(tmp_path / "data" / "mine.npz", **grey)
    done = bench("run", *options, "--dataset", "mine", home=tmp_path)
    assert done.code == 0, done
    assert Path(done.out.strip()).name.startswith("mine_digits-cnn_natural_demo")
    assert bench("eval", "--suite", "fgsm", home=tmp_path).code == 0
