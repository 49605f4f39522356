"""Fast networks compute what the plain ones do: logits, gradients of images, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bench.compute.folding import fold, foldable
from bench.compute.speedups import SPEEDUPS, Fast, compute, enabled
from bench.defense import attacked, mode, move_towards
from bench.errors import BenchError
from bench.models import build_model
from bench.vocabulary import Precision

NETWORKS = {"resnet18": 3, "resnet56-option-a@cifar10": 3, "wrn-22-6": 3, "mobilenet_v2": 3, "digits-mobile": 1}


def network(name: str = "digits-cnn", channels: int = 1) -> nn.Module:
    """In float64, with statistics and scales as training leaves them, not as they begin."""
    torch.manual_seed(0)
    built = build_model(name, 10, channels).double()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    return built


def images(channels: int = 1, size: int = 8) -> Tensor:
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def logits_and_gradient(model: object, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = model(x)  # type: ignore[operator]
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0]


@pytest.mark.parametrize(("name", "channels"), NETWORKS.items())
def test_a_folded_network_is_the_same_function(name: str, channels: int) -> None:
    plain = network(name, channels).eval()
    folded = fold(copy.deepcopy(plain))
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (plain, folded)]
    # In a pre-activation network the normalisation before a block's first convolution has none before it.
    assert norms[1] == (norms[0] // 2 if name.startswith("wrn") else 0)
    x = images(channels, 8 if channels == 1 else 32)
    for found, expected in zip(logits_and_gradient(folded, x), logits_and_gradient(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


class Odd(nn.Module):
    """Every way in which a normalisation after a convolution may not be folded, in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.after_shared = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.read_twice, self.after_read = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.hooked, self.after_hooked = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.batch_only = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1, track_running_stats=False))
        self.fine = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2, affine=False), nn.Flatten())
        self.hooked.register_forward_hook(lambda module, inputs, output: 2 * output)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_shared(self.shared(self.shared(x)))
        y = self.read_twice(x)
        x = self.after_read(y) + y
        return self.fine(self.batch_only(self.after_hooked(self.hooked(x))))


class Undecided(nn.Module):
    """Cannot be traced: its path depends on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x if x.sum() > 0 else -x).flatten(1)


def test_only_what_may_be_folded_is() -> None:
    odd = Odd().eval()
    assert foldable(odd) == (("fine.0", "fine.1"),)
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(fold(copy.deepcopy(odd))(x), odd(x))
    assert foldable(Undecided().eval()) == ()


@pytest.mark.parametrize("off", [(), ("folding",), ("channels-last", "cast-once")])
@pytest.mark.parametrize("training", [False, True])
def test_a_view_computes_what_its_network_does(off: tuple[str, ...], training: bool) -> None:
    plain, x = network(), images()
    fast = Fast(copy.deepcopy(plain), speedups=enabled(off))
    plain.train(training)
    fast.train(training)
    for found, expected in zip(logits_and_gradient(attacked(fast), x), logits_and_gradient(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all(parameter.grad is None for parameter in fast.parameters())
    for name, value in plain.state_dict().items():  # in train mode both have seen the batch once
        torch.testing.assert_close(fast.network.state_dict()[name], value)


@pytest.mark.parametrize("fused", [False, True])
def test_a_view_follows_the_network_s_training(fused: bool) -> None:
    fast, x = Fast(network(), speedups=enabled()), images()
    optimizer = torch.optim.SGD(fast.parameters(), lr=0.1, momentum=0.9, fused=fused)
    for _ in range(3):
        fast.train()
        optimizer.zero_grad()
        fast(x).square().mean().backward()
        optimizer.step()
        with mode(fast, training=False):
            torch.testing.assert_close(attacked(fast)(x), fast.network(x), rtol=1e-9, atol=1e-9)


def test_a_frozen_teacher_that_is_loaded_anew_is_the_new_one() -> None:
    teacher, x = Fast(network().eval().requires_grad_(False), speedups=enabled()), images()
    before = teacher(x)
    teacher.network.load_state_dict({name: value + 1 for name, value in teacher.network.state_dict().items()})
    after = teacher(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, teacher.network(x))


def test_bfloat16_is_autocast_s_with_and_without_speedups() -> None:
    plain, x = network().float(), images().float()
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain.eval()(x).float()
    for off in ((), ("folding",), SPEEDUPS):
        fast = Fast(copy.deepcopy(plain), "bf16", enabled(off)).eval()
        for logits in (fast(x), attacked(fast)(x)):
            assert logits.dtype == torch.float32
            torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
        assert all(parameter.dtype == torch.float32 for parameter in fast.parameters())


def test_the_state_of_a_fast_network_is_the_network_s_alone() -> None:
    fast = Fast(network(), speedups=enabled()).eval()
    before = list(fast.state_dict())
    fast.for_attack()
    assert list(fast.state_dict()) == before
    assert len(list(fast.modules())) == 1 + len(list(fast.network.modules()))


def test_a_speedup_that_there_is_not_is_named() -> None:
    with pytest.raises(BenchError, match="channels-last"):
        enabled(["chanels-last"])


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_frozen_network_that_is_moved_is_seen_as_it_is_now(precision: Precision) -> None:
    """A teacher that is a moving average of the student: its view is made anew, statistics included."""
    student = Fast(network().float(), precision, SPEEDUPS)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    x = images().float()
    before = teacher(x)
    with torch.no_grad():
        for value in (*student.parameters(), *student.buffers()):
            value.mul_(2)
    move_towards(teacher, student, 0.5)
    rtol, atol = (1e-4, 1e-4) if precision == "32" else (0.1, 0.2)
    expected = compute(teacher.network, x, precision)
    torch.testing.assert_close(teacher(x), expected, rtol=rtol, atol=atol)
    assert (before - expected).abs().max() > 0.5
