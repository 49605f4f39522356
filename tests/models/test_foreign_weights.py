"""Weights that others saved: names, nests and layouts of public code are understood."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from bench.data.dataset import Split
from bench.errors import BenchError
from bench.models import build_model
from bench.models.checkpoints import (
    load_and_normalise,
    load_model,
    read_state_dict,
)
from bench.models.normalise import statistics
from bench.models.swish_wide_resnet import NormalisingSwishWideResNet

from .weights import same, write


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

    @pytest.mark.parametrize("names", [("weights", "epoch"), ("last", "best")])
    def test_a_nest_of_another_name(self, model: nn.Module, names: tuple[str, str], tmp_path: Path) -> None:
        """The only state dict that there is; and the last one, as RobustBench takes it, of best and last."""
        other = {"epoch": 3, "best": {key: value + 1 for key, value in model.state_dict().items()}}[names[1]]
        content = {names[1]: other, names[0]: model.state_dict(), "optimizer": {"state": {}, "lr": 1}}
        assert same(read_state_dict(write(tmp_path / "a.pt", content))[0], model.state_dict())

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
            return NormalisingSwishWideResNet(1, 1, num_classes, in_channels)

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
            ("preact-resnet18", as_torchvision),
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

    @pytest.mark.parametrize("prefix", ["model.", "module.model.", "1.", "ema_model.module.wrn."])
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

    def test_a_robust_network_of_generated_images_with_its_statistics(self, tmp_path: Path) -> None:
        """RobustBench's network has them among its buffers; MTARD's for CIFAR-100 are CIFAR-10's, and in no file."""
        network = build_model("wrn-16-1-swish@cifar10", 100).eval()
        mean, std = statistics("cifar10", 3)
        path = write(
            tmp_path / "a.pt",
            {"model_state_dict": behind("module.", network.state_dict(), **{"module.mean": mean, "module.std": std})},
        )
        loaded, spec = load_model(path, None, 100, 3)
        images = torch.rand(2, 3, 16, 16)
        assert spec == "wrn-16-1-swish@cifar10"
        assert torch.equal(loaded(images), network(images))
        assert load_model(write(tmp_path / "b.pt", network.state_dict()), None, 100, 3)[1] == "wrn-16-1-swish"

    def test_two_forms_with_the_same_layers_have_to_be_told_apart(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", build_model("preact-resnet18-wong", 10).state_dict())
        with pytest.raises(BenchError, match="Name one of them: preact-resnet18-kuangliu or preact-resnet18-wong"):
            load_model(path, None, 10, 3)

    def test_a_transformer_of_timm_s(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", {"model": build_model("digits-vit", 10, 1).state_dict()})
        assert load_model(path, None, 10, 1)[1] == "digits-vit"

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
