"""timm's networks by name, with arguments of its own; the vision transformers that have timm's layers."""

from __future__ import annotations

import pytest
import timm
import torch

from bench.compute.folding import foldable
from bench.compute.speedups import Fast, enabled
from bench.cost.meters import Operations
from bench.data.dataset import Split
from bench.defense import attacked
from bench.errors import BenchError
from bench.models import build_model, try_out

TINY = "timm:vit_tiny_patch16_224"


def test_vit_tiny_is_timm_s() -> None:
    theirs = timm.create_model(TINY[5:], img_size=32, patch_size=4, num_classes=10).eval()
    ours = build_model("vit-tiny", 10).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-6)


def test_vit_small_has_the_layers_of_timm_s() -> None:
    with torch.device("meta"):
        theirs = timm.create_model("vit_small_patch16_224", img_size=32, patch_size=4, num_classes=10)
        ours = build_model("vit-small", 10)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [8, 64])
def test_positions_are_resampled_as_timm_s(size: int) -> None:
    theirs = timm.create_model(TINY[5:], img_size=32, patch_size=4, num_classes=10, dynamic_img_size=True).eval()
    ours = build_model("vit-tiny", 10).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, size, size)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-6)


def test_images_that_patches_do_not_divide_are_refused() -> None:
    images = Split(torch.zeros(1, 3, 30, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(BenchError, match="Images of 30x32 cannot be divided into patches of 4x4"):
        try_out(build_model("vit-tiny", 10), "vit-tiny", images, 10)


def test_the_size_of_images_is_an_argument_where_the_network_has_one() -> None:
    images = Split(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(BenchError, match=r"cannot take images of 3x32x32: .*\n.*timm:NAME\?img_size=32"):
        try_out(build_model("timm:deit_tiny_patch16_224", 10), "timm:deit_tiny_patch16_224", images, 10)


def test_a_transformer_begins_as_its_authors_have_it() -> None:
    torch.manual_seed(0)
    state = build_model("vit-tiny", 10).state_dict()
    for key, fans in (("attn.qkv", 192 + 576), ("attn.proj", 2 * 192), ("mlp.fc1", 192 + 768), ("mlp.fc2", 192 + 768)):
        assert state[f"blocks.3.{key}.weight"].std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.02)
        assert not state[f"blocks.3.{key}.bias"].any()
    assert state["pos_embed"].std().item() == pytest.approx(0.02, rel=0.05)


def test_arguments_reach_timm_as_what_they_are() -> None:
    network = build_model(
        f"{TINY}?patch_size=2&img_size=8&embed_dim=48&class_token=false&global_pool=avg@half",
        10,
        1,
    )
    state = network.state_dict()
    assert state["pos_embed"].shape == (1, 16, 48)
    assert "cls_token" not in state
    assert network.eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("img_siz=32", "no argument 'img_siz'. Did you mean 'img_size'?"),
        ("img_size", "'img_size' is no argument"),
        ("", "'' is no argument"),
        ("img_size=32&img_size=8", "gives img_size twice"),
        ("num_classes=5", "num_classes is not for a name to set: the dataset says"),
        ("pretrained=true", "weights come from training or from a checkpoint"),
        ("img_size=[32,32]", "img_size=[32,32] is no number"),
        ("mlp_ratio=NaN", "mlp_ratio=NaN is no number"),
        ("patch_size=small", "10 classes and 3 channels, patch_size=small"),
        ("&".join(f"depth{n}=1" for n in range(20)), "at most 120"),
    ],
)
def test_a_mistake_names_the_argument_and_the_cure(arguments: str, words: str) -> None:
    with pytest.raises(BenchError) as caught:
        build_model(f"{TINY}?{arguments}", 10)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_speedups_leave_a_transformer_what_it_is(precision: str) -> None:
    torch.manual_seed(0)
    network, x = build_model("digits-vit", 10, 1).eval(), torch.rand(4, 1, 8, 8)
    expected = network(x)
    assert foldable(network) == ()
    fast = Fast(network, precision, enabled()).eval()  # type: ignore[arg-type]
    close = 0.05 if precision == "bf16" else 1e-4
    for model in (fast, attacked(fast)):
        images = x.clone().requires_grad_()
        logits = model(images)
        torch.testing.assert_close(logits, expected, rtol=close, atol=close)
        (gradient,) = torch.autograd.grad(logits.square().sum(), images)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_operations_are_counted_attention_included() -> None:
    with torch.device("meta"):
        network, x = build_model("digits-vit", 10, 1), torch.rand(2, 1, 8, 8)
        with Operations() as counted:
            network(x)
    width, tokens, hidden = 64, 17, 256
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width
    expected = 2 * block + 16 * width * 4 + width * 10
    assert counted.total == 2 * 2 * expected  # two images, a multiply-add counted as two
