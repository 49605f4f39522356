"""Every architecture: its size, its layer names, where it runs, and what normalisation inside it means."""

from __future__ import annotations

import copy
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench import registry
from bench.errors import BenchError
from bench.models import build_model, split_spec
from bench.models.swish_wide_resnet import NormalisingSwishWideResNet, pad_same
from bench.models.wide_resnet import name_from_weights

SMALL = [
    "resnet18",
    "resnet20",
    "resnet20-option-a",
    "resnet56",
    "resnet56-option-a",
    "mobilenet_v2",
    "wrn-10-1",
    "wrn-10-1-swish",
    "preact-resnet18",
    "timm:resnet10t",
    "vit-tiny",
    "digits-cnn",
    "digits-mobile",
    "digits-teacher",
    "digits-vit",
]
IMAGENET = (
    torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
    torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet18", 10, 11_173_962),
        ("mobilenet_v2", 10, 2_296_922),
        ("resnet56", 10, 855_770),
        ("resnet56-option-a", 10, 853_018),
        ("wrn-34-10", 10, 46_160_474),
        ("resnet20", 10, 272_474),
        ("resnet20-option-a", 10, 269_722),
        ("wrn-22-6", 100, 9_693_108),
        ("wrn-22-6-swish", 100, 9_693_108),
        ("wrn-28-10-swish", 10, 36_479_194),
        ("wrn-94-16-swish", 10, 365_915_610),
        ("wrn-70-16", 100, 266_888_756),
        ("preact-resnet18-kuangliu", 10, 11_171_146),
        ("preact-resnet18-wong", 10, 11_171_146),
        ("preact-resnet18", 10, 11_172_170),
        # 5.7 and 22.1 million at 224x224: without the patches, positions and classes of those
        ("vit-tiny", 10, 5_362_762),
        ("vit-small", 10, 21_342_346),
    ],
)
def test_the_published_parameter_counts(name: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build_model(name, classes)) == parameters


def test_the_digit_networks_are_small() -> None:
    assert 10_000 < count(build_model("digits-cnn", 10, 1)) < 30_000
    assert 5_000 < count(build_model("digits-mobile", 10, 1)) < 15_000
    assert 60_000 < count(build_model("digits-teacher", 10, 1)) < 150_000
    assert 60_000 < count(build_model("digits-vit", 10, 1)) < 150_000


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 8)])
def test_images_of_other_sizes_and_one_channel_become_logits(name: str, channels: int, size: int) -> None:
    model = build_model(f"{name}@half", 7, channels).eval()
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "wrn-10-1", "digits-cnn"])
def test_images_of_64x64(name: str) -> None:
    assert build_model(name, 200).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 200)


@pytest.mark.parametrize("name", SMALL)
def test_float64_runs_and_agrees_with_float32(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(f"{name}@imagenet", 10).eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = model(images.float())
    assert torch.allclose(model.double()(images).float(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_decides_the_weights(name: str) -> None:
    torch.manual_seed(5)
    first = build_model(name, 10).state_dict()
    torch.manual_seed(5)
    second = build_model(name, 10).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_every_registered_model_can_be_built() -> None:
    with torch.device("meta"):
        for name in registry.names("models"):
            concrete = (
                name.replace("*-*", "16-2").replace("timm:*", "timm:resnet18").replace("strides-*", "strides-1122")
            )
            assert isinstance(build_model(concrete, 10), nn.Module)


def test_he_initialisation_of_the_wide_resnet() -> None:
    torch.manual_seed(0)
    weight = build_model("wrn-16-4", 10).get_parameter("block3.layer.1.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (9 * weight.shape[0])) ** 0.5, rel=0.02)


class TestLayerNames:
    """What the published checkpoints call their tensors."""

    def test_resnet18(self) -> None:
        state = build_model("resnet18", 10).state_dict()
        assert state["conv1.weight"].shape == (64, 3, 3, 3)
        assert state["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
        assert state["layer2.0.shortcut.0.weight"].shape == (128, 64, 1, 1)
        assert state["layer2.0.shortcut.1.running_mean"].shape == (128,)
        assert state["linear.weight"].shape == (10, 512)

    def test_resnet18_of_other_strides(self) -> None:
        """LBGAT's guide: the same weights, and maps of 32, 32, 16 and 8 pixels where resnet18 has 32, 16, 8 and 4."""
        plain, other = build_model("resnet18", 10), build_model("resnet18-strides-1122", 10)
        shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (plain, other)]
        assert shapes[0] == shapes[1]
        sizes = []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            other.get_submodule(name).register_forward_hook(lambda module, x, maps: sizes.append(maps.shape[-1]))
        other(torch.zeros(1, 3, 32, 32))
        assert sizes == [32, 32, 16, 8]
        for wrong in ("resnet18-strides-", "resnet18-strides-112", "resnet18-strides-1132", "resnet18-strides-x"):
            with pytest.raises(BenchError, match="Name a 1 or a 2 for each"):
                build_model(wrong, 10)

    def test_option_a_has_no_shortcut_parameters(self) -> None:
        state = build_model("resnet56-option-a", 10).state_dict()
        assert not [key for key in state if "shortcut" in key]
        assert "layer3.8.bn2.weight" in state

    def test_mobilenet_v2(self) -> None:
        state = build_model("mobilenet_v2", 10).state_dict()
        assert state["layers.1.conv2.weight"].shape == (96, 1, 3, 3)
        assert state["layers.0.shortcut.0.weight"].shape == (16, 32, 1, 1)
        assert state["layers.16.bn3.weight"].shape == (320,)
        assert state["conv2.weight"].shape == (1280, 320, 1, 1)

    def test_wide_resnet(self) -> None:
        state = build_model("wrn-16-2", 10).state_dict()
        assert state["block1.layer.0.convShortcut.weight"].shape == (32, 16, 1, 1)
        assert state["block3.layer.1.bn2.running_var"].shape == (128,)
        assert "block1.layer.1.convShortcut.weight" not in state
        assert {key.split(".")[0] for key in state} == {"conv1", "block1", "block2", "block3", "bn1", "fc"}

    def test_swish_wide_resnet(self) -> None:
        with torch.device("meta"):
            state = build_model("wrn-70-16", 100).state_dict()
        assert {key.split(".")[0] for key in state} == {"init_conv", "layer", "batchnorm", "logits"}
        assert state["layer.0.block.0.shortcut.weight"].shape == (256, 16, 1, 1)
        assert state["layer.2.block.10.conv_1.weight"].shape == (1024, 1024, 3, 3)
        assert state["layer.1.block.0.batchnorm_0.running_mean"].shape == (256,)

    def test_preact_resnet18(self) -> None:
        with torch.device("meta"):
            state, bare = (build_model(name, 10).state_dict() for name in ("preact-resnet18", "preact-resnet18-wong"))
        assert {key.split(".")[0] for key in state} == {"conv1", *(f"layer{n}" for n in range(1, 5)), "bn", "linear"}
        assert {key for key in state if key not in bare} == {key for key in state if key.startswith("bn.")}
        assert state["layer2.0.bn1.running_mean"].shape == (64,)
        assert state["layer2.0.shortcut.0.weight"].shape == (128, 64, 1, 1)
        assert "layer2.0.shortcut.1.weight" not in state

    def test_the_name_of_a_wide_resnet_follows_from_its_weights(self) -> None:
        assert name_from_weights(build_model("wrn-22-3", 10).state_dict()) == "wrn-22-3"
        assert name_from_weights(build_model("wrn-16-2-swish", 10).state_dict()) == "wrn-16-2-swish"
        assert name_from_weights(build_model("resnet20", 10).state_dict()) is None


class TestNormalisation:
    def test_it_equals_normalising_by_hand(self) -> None:
        bare = build_model("digits-cnn", 10).eval()
        inside = build_model("digits-cnn@imagenet", 10).eval()
        inside.load_state_dict(bare.state_dict())
        images = torch.rand(4, 3, 16, 16)
        mean, std = IMAGENET
        assert torch.allclose(inside(images), bare((images - mean) / std), atol=1e-6)

    def test_grey_images_take_the_mean_of_the_colours(self) -> None:
        bare = build_model("digits-cnn@none", 10, 1).eval()
        inside = build_model("digits-cnn@imagenet", 10, 1).eval()
        inside.load_state_dict(bare.state_dict())
        images = torch.rand(4, 1, 8, 8)
        mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
        assert torch.allclose(inside(images), bare((images - mean) / std), atol=1e-5)

    def test_names_of_weights_stay_those_of_the_bare_network(self) -> None:
        bare, inside = build_model("resnet20", 10), build_model("resnet20@cifar10", 10)
        assert list(bare.state_dict()) == list(inside.state_dict())
        assert dict(bare.named_parameters()).keys() == dict(inside.named_parameters()).keys()

    def test_copies_and_casts_keep_it(self) -> None:
        model = build_model("digits-cnn@half", 10).eval()
        images = torch.rand(2, 3, 8, 8)
        twin = copy.deepcopy(model).double().float()
        assert torch.equal(twin(images), model(images))
        assert not torch.equal(twin(images), twin(2 * images - 1))  # it would be normalised twice

    def test_gradients_reach_the_image(self) -> None:
        images = torch.rand(2, 3, 8, 8, requires_grad=True)
        build_model("digits-cnn@cifar100", 10)(images).sum().backward()
        assert images.grad is not None
        assert images.grad.abs().sum() > 0

    def test_only_the_last_at_sign_counts(self) -> None:
        assert split_spec("timm:a@b@half") == ("timm:a@b", "half")
        assert split_spec("resnet18") == ("resnet18", "none")


class TestSwish:
    def test_it_normalises_by_the_statistics_of_its_dataset(self) -> None:
        assert NormalisingSwishWideResNet(1, 1, 10, 3).mean.flatten().tolist() == pytest.approx(
            [0.4914, 0.4822, 0.4465]
        )
        assert NormalisingSwishWideResNet(1, 1, 100, 3).std.flatten().tolist() == pytest.approx(
            [0.2673, 0.2564, 0.2762]
        )

    def test_under_its_name_any_normalisation_may_stand_in_front(self) -> None:
        """MTARD's networks for CIFAR-100 have CIFAR-10's."""
        torch.manual_seed(0)
        inside = NormalisingSwishWideResNet(2, 1, 10, 3).double().eval()
        named = build_model("wrn-16-1-swish@cifar10", 10).double().eval()
        named.load_state_dict(inside.state_dict())
        x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
        torch.testing.assert_close(named(x), inside(x))

    @pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 30), (1, 8)])
    def test_it_runs_in_float64_on_any_size(self, channels: int, size: int) -> None:
        model = NormalisingSwishWideResNet(2, 1, 5, channels).double().eval()
        assert model(torch.rand(2, channels, size, size, dtype=torch.float64)).shape == (2, 5)

    def test_padding_as_tensorflow_does_it(self) -> None:
        image = torch.ones(1, 1, 4, 4)
        weight = torch.ones(1, 1, 3, 3)
        assert F.conv2d(pad_same(image, 2), weight, stride=2).flatten().tolist() == [9, 6, 6, 4]
        assert pad_same(image, 1).shape == (1, 1, 6, 6)
        assert F.conv2d(pad_same(torch.ones(1, 1, 5, 5), 2), weight, stride=2).shape == (1, 1, 3, 3)


class TestErrors:
    @pytest.mark.parametrize(
        ("spec", "channels", "words"),
        [
            ("resnet81", 3, "resnet18"),
            ("resnet18@cifar", 3, "cifar10"),
            ("wrn-33-10", 3, "wrn-34-10"),
            ("wrn-28", 3, "Unknown model"),
            ("wrn-a-b", 3, "wrn-DEPTH-WIDTH"),
            ("wrn-33-10-swish", 3, "wrn-34-10-swish"),
            ("wrn-28-0", 3, "wrn-28-1"),
            ("timm:resnet1", 3, "Did you mean 'timm:resnet1"),
            ("wrn-70-16@half", 3, "normalises its images itself"),
            ("digits-cnn@half", 4, "1 or 3 channels"),
        ],
    )
    def test_the_message_says_what_to_do(self, spec: str, channels: int, words: str) -> None:
        with torch.device("meta"), pytest.raises(BenchError) as caught:
            build_model(spec, 10, channels)
        assert words in str(caught.value)
        assert str(caught.value).count("\n") == 1

    @pytest.mark.parametrize(
        ("body", "words"),
        [("return 'no network'", "returned a str"), ("raise KeyError('x')", "failed: KeyError: 'x'")],
    )
    def test_a_plug_in_that_builds_no_network_is_named(
        self, body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = f"stranger_that_{body.split()[0]}s"
        (tmp_path / f"{module}.py").write_text(f"def build(name, num_classes, in_channels):\n    {body}\n")
        monkeypatch.syspath_prepend(tmp_path)
        entries: dict[str, Any] = {"strange": [EntryPoint("strange", f"{module}:build", "bench.models")]}
        monkeypatch.setattr(registry, "_entries", lambda kind: entries)
        with pytest.raises(BenchError, match=words) as caught:
            build_model("strange", 10)
        assert "'strange'" in str(caught.value)
