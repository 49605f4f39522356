"""Weights on disk: what is written comes back, foreign files are understood, bad ones refused plainly."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from bench.data.dataset import Split, to_float
from bench.errors import BenchError
from bench.models import build_model
from bench.models.checkpoints import (
    choose_normalisation,
    load_and_normalise,
    load_model,
    read_state_dict,
    save_weights,
    weights_hash,
)
from bench.models.normalise import statistics
from bench.models.swish_wide_resnet import SwishWideResNet

from ..helpers.places import RESNET56, SHARED

METADATA = {"model_spec": "digits-cnn@half", "num_classes": "10", "in_channels": "1"}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("digits-cnn@half", 10, 1).eval()


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


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


class TestForeignFiles:
    @pytest.mark.parametrize("nest", ["state_dict", "model", "net", "model_state_dict"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
    def test_nests_and_prefixes(self, model: nn.Module, nest: str, prefix: str, tmp_path: Path) -> None:
        state = model.state_dict()
        nested = {
            "epoch": 3,
            nest: {prefix + key: value for key, value in state.items()},
            "optimizer": {"lr": 1},
        }
        read, metadata = read_state_dict(write(tmp_path / "a.pt", nested))
        assert same(read, state)
        assert metadata == {}

    def test_the_old_format_of_pytorch(self, model: nn.Module, tmp_path: Path) -> None:
        torch.save(model.state_dict(), tmp_path / "a.th", _use_new_zipfile_serialization=False)
        assert load_model(tmp_path / "a.th", None, 10, 1)[1] == "digits-cnn"

    def test_safetensors_under_any_name(self, model: nn.Module, tmp_path: Path) -> None:
        safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.bin", {"format": "pt"})
        assert load_model(tmp_path / "weights.bin", None, 10, 1)[1] == "digits-cnn"

    def test_the_unused_block_of_trades(self, tmp_path: Path) -> None:
        network = build_model("wrn-16-2", 10)
        state = network.state_dict()
        block = {f"sub_{key}": value for key, value in state.items() if key.startswith("block1.")}
        loaded, spec = load_model(write(tmp_path / "a.pt", state | block), None, 10, 3)
        assert spec == "wrn-16-2"
        assert same(loaded.state_dict(), state)

    @pytest.mark.parametrize(
        ("name", "channels"),
        [("resnet20", 3), ("resnet20-option-a", 3), ("mobilenet_v2", 1), ("wrn-10-3", 3)],
    )
    def test_the_architecture_follows_from_the_layers(self, name: str, channels: int, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model(name, 12, channels).state_dict())
        assert load_model(path, None, 12, channels)[1] == name

    def test_a_given_normalisation_is_kept(self, model: nn.Module, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", model.state_dict())
        images = torch.rand(2, 1, 8, 8)
        loaded, spec = load_model(path, "digits-cnn@half", 10, 1)
        assert spec == "digits-cnn@half"
        assert torch.equal(loaded(images), model(images))

    def test_saved_constants_must_be_the_network_s_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def build(name: str, num_classes: int, in_channels: int) -> nn.Module:
            return SwishWideResNet(1, 1, num_classes, in_channels)

        monkeypatch.setattr("bench.models.swish_wide_resnet.build_swish_wide_resnet", build)
        network = build("", 100, 3)
        mean, std = statistics("cifar100", 3)
        published = write(tmp_path / "a.pt", network.state_dict() | {"mean": mean, "std": std})
        assert same(load_model(published, "wrn-70-16", 100, 3)[0].state_dict(), network.state_dict())
        altered = write(tmp_path / "b.pt", network.state_dict() | {"mean": mean + 0.1, "std": std})
        with pytest.raises(BenchError, match="other values for its constant mean"):
            load_model(altered, "wrn-70-16", 100, 3)


def behind(prefix: str, state: dict[str, Tensor], **buffers: Tensor) -> dict[str, Tensor]:
    return buffers | {prefix + key: value for key, value in state.items()}


def as_torchvision(key: str) -> str:
    return key.replace(".shortcut.", ".downsample.").replace("linear.", "fc.")


def as_residual_function(key: str) -> str:
    places = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}
    stage = re.match(r"layer(\d)\.(\d+)\.(\w+)\.(.*)", key)
    if stage is not None:
        block, number, layer, rest = stage.groups()
        layer = f"residual_function.{places[layer]}" if layer in places else layer
        return f"conv{int(block) + 1}_x.{number}.{layer}.{rest}"
    key = key.replace("linear.", "fc.").replace("conv1.", "conv1.0.")
    return key if "0." in key else key.replace("bn1.", "conv1.1.")


def with_a_stem(key: str) -> str:
    return re.sub(r"^conv1\.", "stem.0.", re.sub(r"^bn1\.", "stem.1.", key)).replace("linear.", "classifier.")


def as_wide(key: str) -> str:
    return key.replace("convShortcut.", "shortcut.0.").replace("fc.", "linear.")


class TestLayoutsOfPublicCode:
    """Each file holds the weights of a network under other names; they have to land where they belong."""

    def network(self, name: str) -> nn.Module:
        torch.manual_seed(3)
        network = build_model(name, 10)
        for module in network.modules():  # so that no two layers are alike, batch-norm's included
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                    assert value is not None
                    value.uniform_(0.5, 1.5)
        return network.eval()

    @pytest.mark.parametrize(
        ("name", "rename"),
        [
            ("resnet56", as_torchvision),
            ("resnet20", as_torchvision),
            ("resnet20-option-a", as_torchvision),
            ("resnet20", as_residual_function),
            ("resnet20", with_a_stem),
            ("mobilenet_v2", lambda key: key.replace("linear.", "classifier.")),
            ("wrn-16-2", as_wide),
        ],
    )
    @pytest.mark.parametrize(("prefix", "named"), [("", False), ("module.basic_net.", True)])
    def test_other_names(
        self, name: str, rename: Callable[[str], str], prefix: str, named: bool, tmp_path: Path
    ) -> None:
        network = self.network(name)
        state = {rename(key): value for key, value in network.state_dict().items()}
        assert state.keys() != network.state_dict().keys()
        path = write(tmp_path / "a.pt", {"state_dict": behind(prefix, state)})
        loaded, spec = load_model(path, name if named else None, 10, 3)
        assert spec == name
        assert same(loaded.state_dict(), network.state_dict())
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(loaded(images), network(images))

    @pytest.mark.parametrize("prefix", ["model.", "net.", "module.model.", "basic_net.", "1.", "module.1."])
    def test_a_network_within_another(self, model: nn.Module, prefix: str, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", behind(prefix, model.state_dict()))
        loaded, spec = load_model(path, None, 10, 1)
        assert spec == "digits-cnn"
        assert same(loaded.state_dict(), model.state_dict())

    def test_the_unused_block_within_another(self, tmp_path: Path) -> None:
        state = build_model("wrn-10-1", 10).state_dict()
        unused = {f"sub_{key}": value for key, value in state.items() if key.startswith("block1.")}
        path = write(tmp_path / "a.pt", behind("model.", state | unused))
        assert same(load_model(path, None, 10, 3)[0].state_dict(), state)

    @pytest.mark.parametrize(
        ("mean", "std", "prefix"),
        [
            ("mean", "std", ""),
            ("mu", "sigma", ""),
            ("module.0.mean", "module.0.std", "module.1."),
            ("normalize.mean", "normalize.std", "model."),
        ],
    )
    def test_a_normalisation_in_the_file_is_the_model_s(self, mean: str, std: str, prefix: str, tmp_path: Path) -> None:
        network = build_model("digits-cnn@cifar100", 10).eval()
        values = dict(zip((mean, std), statistics("cifar100", 3), strict=True))
        path = write(tmp_path / "a.pt", behind(prefix, network.state_dict(), **values))
        images = torch.rand(2, 3, 8, 8)
        for spec in (None, "digits-cnn", "digits-cnn@cifar100"):
            loaded, found = load_model(path, spec, 10, 3)
            assert found == "digits-cnn@cifar100"
            assert torch.equal(loaded(images), network(images))
        with pytest.raises(BenchError, match="holds the normalisation cifar100, not half"):
            load_model(path, "digits-cnn@half", 10, 3)

    def test_a_normalisation_that_none_here_is_is_refused(self, tmp_path: Path) -> None:
        state = build_model("digits-cnn", 10).state_dict()
        values = {"mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.ones(3)}
        path = write(tmp_path / "a.pt", state | values)
        with pytest.raises(BenchError, match=r"by mean \[0.1, 0.2, 0.3\] and standard deviation \[1.0, 1.0, 1.0\]"):
            load_model(path, None, 10, 3)

    def test_the_layout_is_told(self, tmp_path: Path) -> None:
        state = {as_torchvision(key): value for key, value in build_model("resnet20", 10).state_dict().items()}
        path = write(tmp_path / "a.pt", state)
        images = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
        assert load_and_normalise(path, "resnet20@none", 10, 3, images).layout == "torchvision's ResNets"
        plain = write(tmp_path / "b.pt", build_model("resnet20", 10).state_dict())
        assert load_and_normalise(plain, "resnet20@none", 10, 3, images).layout == ""

    def test_a_file_of_another_number_of_classes_still_says_so(self, tmp_path: Path) -> None:
        state = {as_torchvision(key): value for key, value in build_model("resnet20", 100).state_dict().items()}
        with pytest.raises(BenchError, match="holds a resnet20, but the file has 100 classes, the dataset 10"):
            load_model(write(tmp_path / "a.pt", state), None, 10, 3)


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
            "epoch only": write(tmp_path / "epoch.pt", {"epoch": 3, "weights": state}),
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
            ("epoch only", "entries epoch, weights"),
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


class Threshold(nn.Module):
    """Says 1 where an image's mean is above its threshold, 0 elsewhere."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x: Tensor) -> Tensor:
        score = x.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-score, score], dim=1)


class TestChoosingANormalisation:
    def images(self, boundary: float, channels: int = 3) -> Split:
        """Grey images of one brightness each, labelled by whether it is above the boundary."""
        levels = torch.arange(0, 250, 5)
        images = levels.view(-1, 1, 1, 1).expand(-1, channels, 2, 2).to(torch.uint8)
        return Split(images, (levels / 255 > boundary).long())

    def test_the_most_accurate_one_wins(self) -> None:
        chosen, accuracies = choose_normalisation(Threshold(0.0), self.images(0.5))
        assert chosen == "half"
        assert accuracies["half"] == 1
        assert accuracies.keys() == {"none", "cifar10", "cifar100", "imagenet", "half"}

    def test_none_wins_unless_another_is_clearly_better(self) -> None:
        everything_above = self.images(-0.1)
        chosen, accuracies = choose_normalisation(Threshold(-10.0), everything_above)
        assert chosen == "none"
        assert set(accuracies.values()) == {1.0}

    def test_a_foreign_file_gets_one(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        images = torch.randint(0, 256, (200, 3, 8, 8), dtype=torch.uint8)
        model = build_model("digits-cnn@half", 10).eval()
        split = Split(images, model(to_float(images)).argmax(dim=1))
        path = write(tmp_path / "a.pt", model.state_dict())
        loaded = load_and_normalise(path, None, 10, 3, split)
        assert loaded.accuracies["half"] == 1
        expected = "digits-cnn@half" if loaded.accuracies["none"] < 0.99 else "digits-cnn@none"
        assert loaded.spec == expected

    def test_images_without_statistics_are_left_as_they_are(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("digits-cnn", 10, 4).state_dict())
        split = Split(torch.zeros(8, 4, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
        assert load_and_normalise(path, None, 10, 4, split).spec == "digits-cnn@none"

    @pytest.mark.parametrize("spec", ["digits-cnn@imagenet", "digits-cnn@none"])
    def test_an_explicit_one_is_not_measured(self, spec: str, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("digits-cnn", 10).state_dict())
        loaded = load_and_normalise(path, spec, 10, 3, self.images(0.5))
        assert (loaded.spec, loaded.accuracies) == (spec, {})

    def test_nor_is_one_that_the_file_names(self, model: nn.Module, tmp_path: Path) -> None:
        save_weights(tmp_path / "a.safetensors", model, METADATA)
        loaded = load_and_normalise(tmp_path / "a.safetensors", None, 10, 1, self.images(0.5, channels=1))
        assert (loaded.spec, loaded.accuracies) == ("digits-cnn@half", {})


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
