"""Weights on disk: what is written comes back, foreign files are understood, bad ones refused plainly."""

from __future__ import annotations

import argparse
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from bench.data.dataset import Split, to_float
from bench.errors import BenchError
from bench.models import build_model
from bench.models.checkpoints import (
    load_and_normalise,
    load_model,
    read_state_dict,
    save_weights,
    weights_hash,
)

from ..helpers.places import RESNET56, SHARED
from .weights import METADATA, same, write


class TestOwnFiles:
    def test_what_is_saved_comes_back(self, model: nn.Module, tmp_path: Path) -> None:
        path = tmp_path / "run" / "model.safetensors"
        save_weights(path, model, METADATA | {"epoch": "3"})
        state, metadata = read_state_dict(path)
        assert same(state, model.state_dict())
        assert metadata == METADATA | {"epoch": "3", "digest": weights_hash(model)}
        assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]

    @pytest.mark.parametrize("spec", [None, "digits-cnn", "digits-cnn@half"])
    def test_the_metadata_names_model_and_normalisation(
        self, model: nn.Module, spec: str | None, tmp_path: Path
    ) -> None:
        path = tmp_path / "model.safetensors"
        save_weights(path, model, METADATA)
        loaded, resolved = load_model(path, spec, 10, 1)
        images = torch.rand(3, 1, 8, 8)
        assert resolved == "digits-cnn@half"
        assert torch.equal(loaded(images), model(images))
        assert not loaded.training
        assert all(parameter.requires_grad for parameter in loaded.parameters())

    @pytest.mark.parametrize("spec", ["digits-teacher", "digits-cnn@none", "digits-cnn@imagenet"])
    def test_another_spec_than_the_metadata_s_is_refused(self, model: nn.Module, spec: str, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save_weights(path, model, METADATA)
        with pytest.raises(BenchError, match=f"holds a digits-cnn@half, not a {spec}"):
            load_model(path, spec, 10, 1)

    def test_a_plug_in_s_layers_may_be_called_module(self, tmp_path: Path) -> None:
        wrapped = nn.ModuleDict({"module": nn.Linear(2, 2)})
        save_weights(tmp_path / "a.safetensors", wrapped, METADATA)
        assert same(read_state_dict(tmp_path / "a.safetensors")[0], wrapped.state_dict())

    def test_metadata_without_the_spec_is_the_caller_s_mistake(self, model: nn.Module, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="model_spec"):
            save_weights(tmp_path / "a.safetensors", model, {"num_classes": "10", "in_channels": "1"})

    def test_tied_and_transposed_weights_are_saved(self, tmp_path: Path) -> None:
        tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        tied[1].weight = tied[0].weight
        tied[0].bias = nn.Parameter(torch.arange(6.0)[::2])
        save_weights(tmp_path / "a.safetensors", tied, METADATA)
        assert same(read_state_dict(tmp_path / "a.safetensors")[0], tied.state_dict())

    def test_loading_leaves_the_random_generator_alone(self, model: nn.Module, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", model.state_dict())
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        load_model(path, None, 10, 1)
        assert torch.equal(torch.rand(3), expected)

    def test_equal_weights_and_metadata_give_equal_files(self, model: nn.Module, tmp_path: Path) -> None:
        more = {f"key {number}": 'plain, "quoted", \u00e9, \u2028, \x01' for number in range(6)}
        contents = set()
        for number, keys in enumerate((list(more), list(reversed(more)))):
            path = tmp_path / f"{number}.safetensors"
            save_weights(path, model, METADATA | {key: more[key] for key in keys})
            contents.add(path.read_bytes())
        assert len(contents) == 1
        state, metadata = read_state_dict(path)
        assert same(state, model.state_dict())
        assert metadata.items() >= (METADATA | more).items()
        start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert start % 8 == 0

    def test_a_changed_weight_is_noticed(self, model: nn.Module, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        save_weights(path, model, METADATA)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(BenchError, match="is damaged: its weights are not those that were written") as caught:
            load_model(path, None, 10, 1)
        assert str(path) in str(caught.value)

    def test_a_file_of_an_earlier_version_has_no_digest_and_is_read(self, model: nn.Module, tmp_path: Path) -> None:
        safetensors.torch.save_file(model.state_dict(), tmp_path / "a.safetensors", METADATA)
        assert load_model(tmp_path / "a.safetensors", None, 10, 1)[1] == "digits-cnn@half"


class TestHash:
    def test_it_does_not_depend_on_format_order_or_layout(self, model: nn.Module, tmp_path: Path) -> None:
        state = model.state_dict()
        save_weights(tmp_path / "a.safetensors", model, METADATA)
        write(tmp_path / "a.pt", state)
        turned = {
            key: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
            for key, value in reversed(state.items())
        }
        hashes = [weights_hash(read_state_dict(tmp_path / name)[0]) for name in ("a.safetensors", "a.pt")]
        assert {*hashes, weights_hash(turned), weights_hash(state)} == {weights_hash(model)}

    def test_any_difference_changes_it(self) -> None:
        base = {"a": torch.zeros(2, 3)}
        others = [
            {"b": torch.zeros(2, 3)},
            {"a": torch.zeros(3, 2)},
            {"a": torch.zeros(2, 3, dtype=torch.int32)},
            {"a": torch.full((2, 3), 1e-45)},
            {"a": torch.zeros(2, 3), "c": torch.tensor(0)},
        ]
        assert len({weights_hash(state) for state in [base, *others]}) == 6

    def test_every_dtype(self) -> None:
        weights_hash({"a": torch.ones((), dtype=torch.bfloat16), "b": torch.ones(0), "c": torch.tensor(True)})


class TestMisfits:
    @pytest.fixture
    def path(self, model: nn.Module, tmp_path: Path) -> Path:
        return write(tmp_path / "a.pt", model.state_dict())

    @pytest.mark.parametrize("spec", [None, "digits-cnn"])
    def test_another_number_of_classes(self, path: Path, spec: str | None) -> None:
        with pytest.raises(BenchError, match="the file has 10 classes, the dataset 100"):
            load_model(path, spec, 100, 1)

    @pytest.mark.parametrize("spec", [None, "digits-cnn"])
    def test_another_number_of_channels(self, path: Path, spec: str | None) -> None:
        with pytest.raises(BenchError, match="the file is for images of 1 channels, the dataset's have 3"):
            load_model(path, spec, 10, 3)

    def test_classes_and_channels(self, path: Path) -> None:
        with pytest.raises(BenchError, match=r"holds a digits-cnn, .* 10 classes, .* images of 1 channels"):
            load_model(path, None, 100, 3)

    @pytest.mark.parametrize("spec", ["digits-teacher", "resnet20", "wrn-16-2", "timm:resnet10t"])
    def test_another_architecture_is_named(self, path: Path, spec: str) -> None:
        with pytest.raises(BenchError, match="It holds a digits-cnn: name the model so"):
            load_model(path, spec, 10, 1)

    def test_the_same_layers_in_other_widths(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("wrn-16-2", 10).state_dict())
        with pytest.raises(BenchError, match=r"(?s)has the shape \[.*It holds a wrn-16-2"):
            load_model(path, "wrn-16-3", 10, 3)

    def test_no_known_architecture(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", nn.Linear(2, 2).state_dict())
        with pytest.raises(BenchError, match="fits no registered model"):
            load_model(path, None, 10, 1)


class Trap:
    """Its pickle calls `print` when it is read with a trusting reader."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this code must not run",)


def cut(source: Path, target: Path) -> Path:
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])
    return target


class TestBadFiles:
    @pytest.fixture
    def bad(self, model: nn.Module, tmp_path: Path) -> dict[str, Path]:
        state = model.state_dict()
        old = tmp_path / "old.th"
        torch.save(state, old, _use_new_zipfile_serialization=False)
        save_weights(tmp_path / "own.safetensors", model, METADATA)
        files = {
            "missing": tmp_path / "missing.pt",
            "folder": tmp_path,
            "cut": cut(write(tmp_path / "a.pt", state), tmp_path / "cut.pt"),
            "cut old": cut(old, tmp_path / "cut.th"),
            "cut safetensors": cut(tmp_path / "own.safetensors", tmp_path / "cut.safetensors"),
            "cut nameless": cut(tmp_path / "own.safetensors", tmp_path / "cut.bin"),
            "trap": write(tmp_path / "trap.pt", {"state_dict": state, "extra": Trap()}),
            "model": write(tmp_path / "model.pt", model),
            "arguments": write(tmp_path / "args.pt", {"net": state, "args": argparse.Namespace(lr=1)}),
            "which of two": write(tmp_path / "epoch.pt", {"epoch": 3, "first": state, "second": state}),
            "a number": write(tmp_path / "number.pt", 3),
            "no weights": write(tmp_path / "none.pt", {}),
        }
        contents = {
            "empty": b"",
            "text": b"hello\n",
            "page": b"<html>404</html>",
            "pickle": pickle.dumps(Trap()),
            "image": b"\x89PNG\r\n\x1a\n" + bytes(64),
        }
        for name, content in contents.items():
            files[name] = tmp_path / f"{name}.pt"
            files[name].write_bytes(content)
        return files

    @pytest.mark.parametrize(
        ("case", "words"),
        [
            ("missing", "no checkpoint"),
            ("folder", "directory"),
            ("cut", "truncated"),
            ("cut old", "truncated"),
            ("cut safetensors", "truncated"),
            ("cut nameless", "truncated"),
            ("trap", "print"),
            ("model", "model.state_dict()"),
            ("arguments", "argparse.Namespace"),
            ("which of two", "entries epoch, first, second"),
            ("a number", "a int"),
            ("no weights", "no state dict"),
            ("empty", "no PyTorch checkpoint"),
            ("text", "no PyTorch checkpoint"),
            ("page", "no PyTorch checkpoint"),
            ("pickle", "no PyTorch checkpoint"),
            ("image", "no PyTorch checkpoint"),
        ],
    )
    def test_the_message_names_the_file_and_what_to_do(
        self, bad: dict[str, Path], case: str, words: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(BenchError) as caught:
            load_model(bad[case], None, 10, 1)
        message = str(caught.value)
        assert str(bad[case]) in message
        assert words.lower() in message.lower()
        assert message.count("\n") == 1
        assert "must not run" not in capfd.readouterr().out


@pytest.mark.skipif(not RESNET56.is_file(), reason="the shared development data is not beside this repository")
class TestPublishedResNet56:
    def split(self, name: str, n: int) -> Split:
        table = pq.read_table(SHARED / f"cifar10-subset/{name}-00000-of-00001.parquet").slice(0, n)
        pictures = [Image.open(io.BytesIO(cell["bytes"])) for cell in table["img"].to_pylist()]
        images = torch.from_numpy(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
        return Split(images.permute(0, 3, 1, 2).contiguous(), torch.tensor(table["label"].to_pylist()))

    def test_it_loads_without_help_and_reaches_its_accuracy(self) -> None:
        model, spec, accuracies, _ = load_and_normalise(RESNET56, None, 10, 3, self.split("train", 256))
        assert spec == "resnet56-option-a@imagenet"
        assert accuracies["imagenet"] > 0.99
        assert accuracies["none"] < 0.7
        test = self.split("test", 1017)
        with torch.no_grad():
            logits = torch.cat([model(batch) for batch in to_float(test.images).split(128)])
        assert (logits.argmax(dim=1) == test.labels).double().mean().item() == pytest.approx(0.927, abs=0.002)

    def test_the_hundred_class_dataset_is_refused(self) -> None:
        with pytest.raises(BenchError, match="the file has 10 classes, the dataset 100"):
            load_model(RESNET56, None, 100, 3)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pt")
    with pytest.raises(BenchError, match=r"Cannot read .*weights\.pt: it is a pipe"):
        read_state_dict(tmp_path / "weights.pt")
