"""CUDA graphs as training uses them, with a stand-in for PyTorch's capture that keeps its habits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import registry
from bench.compute import graphs
from bench.compute.graphs import Graphs
from bench.compute.speedups import Fast, View
from bench.defense import Batch
from bench.errors import BenchError
from bench.recipes.hyperparameters import method_class
from bench.recipes.training import Average
from bench.training.averaging import Averaged
from bench.training.step import TrainingStep

from .script import COMPANIONS

EVERY = [(method, variant) for method in registry.names("methods") for variant in method_class(method).variants]


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As a real capture: a few passes to warm up; then every replay works in the same memory, forwards and back.

    Gives how many tensors each capture was given.
    """
    made: list[int] = []

    def capture(
        function: Callable[..., Tensor], samples: tuple[Tensor, ...], allow_unused_input: bool = False
    ) -> Callable[..., Tensor]:
        for _ in range(3):
            place = function(*samples).detach().clone()
        made.append(len(samples))
        memory: dict[str, Any] = {}

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *given: Tensor) -> Tensor:
                assert given[0].shape == samples[0].shape
                with torch.enable_grad():
                    samples[0].data.copy_(given[0])
                    memory["logits"] = function(*samples)
                return place.copy_(memory["logits"].detach()).detach()

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Any:
                wanted = [sample for sample in samples if sample.requires_grad]
                found = iter(
                    torch.autograd.grad([memory["logits"]], wanted, gradients, allow_unused=allow_unused_input)
                )
                return tuple(next(found) if sample.requires_grad else None for sample in samples)

        return lambda *given: Replay.apply(*given)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(graphs, "on_gpu", lambda x: True)
    return made


def _network(training: bool, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers).to(dtype).train(training)


def _images(*, gradient: bool = False) -> Tensor:
    return torch.rand(4, 1, 4, 4).requires_grad_(gradient)


@pytest.mark.parametrize("training", [False, True])
def test_a_pass_before_the_capture_still_finds_its_way_back(training: bool) -> None:
    network, x = _network(training), _images()
    loss = network(x).sum()
    View(network, "32", ["graphs"], training)(x.requires_grad_())
    loss.backward()


def test_logits_are_not_those_of_the_next_replay() -> None:
    network = _network(False)
    view = View(network, "32", ["graphs"], False)
    first, second = _images(gradient=True), _images(gradient=True)
    logits = view(first)
    view(second)
    assert torch.allclose(logits, network(first))


@pytest.mark.parametrize("gradient", [False, True])
def test_a_capture_in_train_mode_leaves_no_trace_in_the_statistics(gradient: bool) -> None:
    network, untouched = _network(True), _network(True)
    x = _images(gradient=gradient)
    View(network, "32", ["graphs"], True)(x)
    untouched(x)
    for found, expected in zip(network.buffers(), untouched.buffers(), strict=True):
        assert torch.allclose(found, expected)


def test_passes_that_wait_for_their_way_back_do_not_share_memory(captures: list[int]) -> None:
    network = _network(True)
    fast, plain = Fast(network, "32", ["graphs"]), copy.deepcopy(network)
    first, second = _images(), _images()
    for called in (fast, plain):
        (called(first).square().sum() + called(second).sum()).backward()
    for found, expected in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
        assert found.grad is not None
    assert captures == [1 + 5, 1 + 5]  # images, and the five parameters


def test_a_pass_that_was_overwritten_has_no_gradient_rather_than_a_wrong_one() -> None:
    view = View(_network(False), "32", ["graphs"], False)
    x = _images(gradient=True)
    first = view(x)
    view(x)
    with pytest.raises(BenchError, match=r"after the network was called again.*\n.*--off graphs"):
        first.sum().backward()
    again = view(x).sum()
    again.backward(retain_graph=True)
    with pytest.raises(BenchError, match="a second time"):
        again.backward()


@pytest.mark.parametrize("fused", [False, True])
def test_once_weights_have_moved_the_first_graph_serves_again(captures: list[int], fused: bool) -> None:
    fast = Fast(_network(True), "32", ["graphs"])
    optimizer = torch.optim.SGD(fast.parameters(), lr=0.1, fused=fused)
    batch = Batch(_images(), torch.arange(4), 1, 0)
    for _ in range(3):
        batch.minimise(fast(batch.x).sum(), fast, optimizer)
    assert len(captures) == 1


def test_so_many_waiting_passes_and_no_more(captures: list[int]) -> None:
    fast = Fast(_network(True), "32", ["graphs"])
    for _ in range(6):
        fast(_images())
    assert len(captures) == 4


def test_what_asks_for_both_gradients_or_has_another_shape_is_computed_as_it_is(captures: list[int]) -> None:
    fast = Fast(_network(True), "32", ["graphs"])
    fast(_images(gradient=True))
    assert not captures
    with torch.no_grad():
        fast(_images())
        fast(_images()[:2])
    assert captures == [1]


def test_a_run_that_goes_on_with_the_last_part_of_an_epoch_replays_whole_batches_after_it(captures: list[int]) -> None:
    network = _network(False)
    fast = Fast(copy.deepcopy(network), "32", ["graphs"]).eval()
    with torch.no_grad():
        for x in (_images()[:2], _images(), _images()[:2], _images()):
            torch.testing.assert_close(fast(x), network(x))
    assert captures == [1, 1]


def test_a_copy_is_of_its_own_weights() -> None:
    fast = Fast(_network(False).requires_grad_(False), "32", ["graphs"]).eval()
    x = _images()
    before = fast(x)
    copied = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert not copied(x).any()
    assert torch.equal(fast(x), before)


def test_nothing_is_captured_where_batches_are_counted_on_the_host(captures: list[int]) -> None:
    """So an average estimates its statistics."""
    average = Averaged(Fast(_network(True), "32", ["graphs"]), Average(kind="swa", from_epoch=1), 1)
    average.after_epoch(1)
    average.estimate([_images(), _images()])
    assert not captures
    average.network(_images())
    assert captures == [1]


def test_a_replay_counts_as_a_change_of_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their versions views of the network notice it."""
    monkeypatch.setattr(
        torch.cuda, "make_graphed_callables", lambda function, sample, **_: lambda *_: torch.zeros(4, 3)
    )
    network = _network(True)
    passes, x = Graphs(network, lambda called, images: called(images)), _images()
    passes(x)
    count = network[1].num_batches_tracked
    before = count._version
    passes(x)
    assert count._version > before


def test_frozen_layers_are_graphs_of_their_own(captures: list[int]) -> None:
    network, x = _network(True), _images()
    fast = Fast(network, "32", ["graphs"])
    plain = copy.deepcopy(network)
    for training in (True, False, True):
        network[1].train(training)
        plain[1].train(training)
        with torch.no_grad():
            torch.testing.assert_close(fast(x), plain(x))
    assert len(captures) == 2


def test_first_used_amid_a_perturbation_graphs_are_used_after_it(captures: list[int]) -> None:
    network, x = _network(True), _images()
    fast = Fast(network, "32", ["graphs"])
    norm = network[1]
    own = dict(norm._buffers)
    norm._buffers.update({name: None if value is None else value.clone() for name, value in own.items()})
    fast(x)
    assert not captures
    norm._buffers.update(own)
    fast(x)
    assert captures


def test_statistics_that_are_put_aside_stay_as_they_are() -> None:
    network, x = _network(True), _images()
    passes = Graphs(network, lambda called, images: called(images))
    assert passes(x) is not None
    own, norm = dict(network[1]._buffers), network[1]
    norm._buffers.update({name: None if value is None else value.clone() for name, value in own.items()})
    assert passes(x) is None
    norm._buffers.update(own)
    assert passes(x) is not None


@pytest.mark.parametrize("awp", [False, True])
@pytest.mark.parametrize(("method", "variant"), EVERY)
def test_every_defense_trains_to_the_same_weights(method: str, variant: str, awp: bool) -> None:
    if awp and not method_class(method).is_split():
        return
    replayed, plain = (_trained(method, variant, speedups, awp) for speedups in (["graphs"], []))
    for found, expected in zip(replayed, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def _trained(method: str, variant: str, speedups: list[str], awp: bool) -> list[Tensor]:
    """The student and its teachers after two steps of each part of a run."""
    cls = method_class(method)
    names = ["student", *cls.roles, *COMPANIONS.get(method, ())]
    networks = {name: Fast(_network(False, torch.float64), "32", speedups) for name in names}
    for number, network in enumerate(networks.values()):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * number)
    step = TrainingStep.from_recipe(
        method,
        networks["student"],
        {role: networks[role] for role in cls.roles},
        companions={name: networks[name] for name in COMPANIONS.get(method, ())},
        variant=variant,
        fused=True,
        settings=({} if method == "natural" else {"steps": 2}) | ({"training.awp.gamma": 0.01} if awp else {}),
    )
    torch.manual_seed(1)
    for epoch, _ in step.phase_shares().values():
        for number in range(2):
            x, y = torch.rand(4, 1, 4, 4, dtype=torch.float64), torch.arange(4) % 3
            step(x, y, epoch=epoch, step=number, steps=2, generator=torch.Generator().manual_seed(number))
    return [value for network in networks.values() for value in network.state_dict().values()]
