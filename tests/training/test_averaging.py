"""Averages over training: definitions, what a run keeps of them, that a killed run ends the same, what is refused."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import BenchError
from bench.jobs import train
from bench.jobs.train import Request
from bench.recipes.training import Average
from bench.runs import resume
from bench.training import trainer
from bench.training.averaging import Averaged

from ..cli.test_exact_resume import assert_same, final_state
from ..helpers.commands import Bench
from ..helpers.homes import Find, logged


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)).double()


def images(count: int, seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.rand(6, 1, 5, 5, generator=source, dtype=torch.float64) for _ in range(count)]


def states(student: nn.Module, count: int) -> list[dict[str, Tensor]]:
    """Some states of a student, which is left in the last of them, one by one."""
    found = []
    for number in range(count):
        student.load_state_dict(network(number + 5).state_dict())
        student.train()(images(1, number)[0])
        found.append({name: value.clone() for name, value in student.state_dict().items()})
    return found


def test_an_exponential_average_is_its_recursion_statistics_included() -> None:
    student = network()
    averaged, expected = Averaged(student, Average(kind="ema", decay=0.9)), network().state_dict()
    assert averaged.begun
    for number in range(3):
        state = states(student, number + 1)[-1]
        averaged.after_step()
        averaged.after_epoch(number + 1)
        expected = {
            name: 0.9 * value + 0.1 * state[name] if value.is_floating_point() else state[name]
            for name, value in expected.items()
        }
        torch.testing.assert_close(dict(averaged.bare.state_dict()), expected, rtol=1e-12, atol=1e-14)
    assert not averaged.needs_statistics


def test_stochastic_weight_averaging_is_the_mean_of_the_epochs_with_statistics_of_its_own() -> None:
    student = network()
    averaged = Averaged(student, Average(kind="swa", from_epoch=2), first=2)
    seen = []
    for epoch in range(1, 5):
        seen.append(states(student, epoch)[-1])
        averaged.after_step()
        averaged.after_epoch(epoch)
        assert averaged.begun == (epoch > 1)
    for name, value in averaged.bare.named_parameters():
        torch.testing.assert_close(value, sum(each[name] for each in seen[1:]) / 3, rtol=1e-12, atol=1e-14)
    assert averaged.needs_statistics
    batches = images(4, seed=9)
    averaged.estimate(iter(batches))
    conv, norm = averaged.bare.get_submodule("0"), averaged.bare.get_submodule("1")
    outputs = [conv(x) for x in batches]
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_mean, sum(z.mean((0, 2, 3)) for z in outputs) / 4)
    torch.testing.assert_close(norm.running_var, sum(z.var((0, 2, 3)) for z in outputs) / 4)
    assert (norm.momentum, averaged.network.training, norm.training) == (0.1, False, False)
    assert not any(value.requires_grad for value in averaged.network.parameters())


class Killed(BaseException):
    """As a kill ends a process: nothing is saved after it."""


EMA = ("training.average.kind=ema", "training.average.decay=0.9")
SWA = ("training.average.kind=swa", "training.average.from_epoch=2")
CASES = {
    "ema-awp-adamw": ("sat", (*EMA, "training.awp.gamma=0.01", "training.awp.from_epoch=2", "steps=1",
                                 "training.optimizer.kind=adamw", "training.optimizer.lr=1e-3",
                                 "training.optimizer.clip=1.0", "training.schedule.warmup=1")),
    "swa": ("natural", (*SWA, "training.selection.keep=best")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_keeps_average_and_plain_network_and_ends_the_same_when_killed(
    case: str, bench: Bench, tmp_path: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, settings = CASES[case]
    options: tuple[object, ...] = ("--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo", "--epochs", 3)
    options += (
        "--limit-train",
        60,
        "--batch-size",
        12,
        "--set",
        "training.selection.every=1",
        "--set",
        "training.selection.steps=1",
    )
    command = ("run", "--method", method, *options, *(part for each in settings for part in ("--set", each)))
    real_step, real_finish = trainer.Trainer._step, trainer.Trainer._finish

    def finish(self: trainer.Trainer) -> Any:
        self._save()
        shutil.copy(self.folder.path / resume.LAST, self.folder.path / "final.pt")
        return real_finish(self)

    left = 10**9

    def step(self: trainer.Trainer, x: Tensor, y: Tensor) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real_step(self, x, y)

    monkeypatch.setattr(trainer, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer.Trainer, "_finish", finish)
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert bench(*command, home=whole).code == 0
    draw = random.Random(case)
    for _ in range(3):
        left = draw.randint(1, 4)
        with pytest.raises(Killed):
            bench(*command, home=killed)
    left = 10**9
    continued = bench(*command, home=killed)
    assert continued.code == 0, continued
    assert "Continuing" in continued.err
    (one,), (other,) = runs(whole), runs(killed)
    assert_same(final_state(one), final_state(other))
    assert logged(one) == logged(other)
    kept = {path.stem: path for path in one.glob("*.safetensors")}
    assert kept.keys() == {"best", "last", "best-plain", "last-plain"}
    for name, path in kept.items():
        assert path.read_bytes() == (other / path.name).read_bytes()
        with safe_open(path, framework="pt") as file:
            assert ("average" in file.metadata()) == ("plain" not in name)
    final = final_state(one)
    torch.testing.assert_close(load_file(kept["last-plain"]), dict(final["student"]), rtol=0, atol=0)
    average = {name.removeprefix("network."): value for name, value in final["average"]["network"].items()}
    torch.testing.assert_close(load_file(kept["last"]), average, rtol=0, atol=0)
    plain = load_file(kept["last-plain"])
    assert any(not torch.equal(value, plain[name]) for name, value in load_file(kept["last"]).items())


@pytest.mark.parametrize(
    ("settings", "epochs", "words"),
    [
        (EMA, 1, "of one epoch is none"),
        (SWA, 1, "of one epoch is none"),
        (["training.average.kind=ema", "training.average.decay=1"], 3, "decay: Input should be less than 1"),
        (["training.average.kind=ema", "training.average.decay=-0.1"], 3, "decay: Input should be greater than 0"),
        (["training.average.kind=ema", "training.average.from_epoch=3"], 3, "and no from_epoch"),
        (["training.average.kind=swa"], 3, "swa has a from_epoch"),
        (["training.average.kind=swa", "training.average.from_epoch=12"], 3, "there is nothing to average"),
        (["training.average.kind=mean"], 3, "training.average.kind: Input should be 'ema' or 'swa'"),
        (["training.average.decay=0.9"], 3, "training.average.kind: Field required"),
        (["training.awp.gamma=0"], 3, "training.awp.gamma: Input should be greater than 0"),
        (["training.awp.from_epoch=13"], 3, "training.awp.from_epoch: 13, and the schedule has 12 epochs"),
    ],
)
def test_what_cannot_be_averaged_or_perturbed_is_refused(settings: Any, epochs: int, words: str) -> None:
    with pytest.raises(BenchError) as caught:
        train.check(Request("sat", "digits-cnn", "digits", "demo", epochs=epochs, settings=tuple(settings)))
    assert words in str(caught.value)
