"""CUDA graphs as a view uses them, with a stand-in for PyTorch's capture that keeps its habits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.compute.speedups import View


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a real capture: a few passes to warm up, and then every replay's logits in the same memory."""

    def capture(function: Callable[[Tensor], Tensor], samples: tuple[Tensor]) -> Callable[[Tensor], Tensor]:
        for _ in range(3):
            place = function(*samples).detach().clone()

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                with torch.enable_grad():
                    ctx.x = x.detach().requires_grad_()
                    ctx.logits = function(ctx.x)
                return place.copy_(ctx.logits.detach()).detach()

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                return torch.autograd.grad([ctx.logits], [ctx.x], gradients)[0]

        return lambda x: Replay.apply(x)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)


def _network(training: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers).train(training)


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_before_the_capture_still_finds_its_way_back(training: bool) -> None:
    network, x = _network(training), torch.rand(4, 1, 4, 4)
    loss = network(x).sum()
    view = View(network, "32", ["graphs"], training)
    view._replay(x.requires_grad_())
    loss.backward()


def test_logits_are_not_those_of_the_next_replay() -> None:
    view = View(_network(False), "32", ["graphs"], False)
    first, second = (torch.rand(4, 1, 4, 4).requires_grad_() for _ in range(2))
    logits = view._replay(first)
    view._replay(second)
    assert torch.allclose(logits, view._eager(first))


def test_a_capture_in_train_mode_leaves_no_trace_in_the_statistics() -> None:
    network, untouched = _network(True), _network(True)
    x = torch.rand(4, 1, 4, 4).requires_grad_()
    View(network, "32", ["graphs"], True)._replay(x)
    untouched(x)
    for found, expected in zip(network.buffers(), untouched.buffers(), strict=True):
        assert torch.allclose(found, expected)
