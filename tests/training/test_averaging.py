"""Averages over training: definitions, what is evaluated of them, what is refused (kept, resumed: test_options.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import BenchError
from bench.jobs import train
from bench.jobs.train import Request
from bench.recipes.training import Average
from bench.records.files import read_record
from bench.records.index import home_records
from bench.runs.folder import all_runs
from bench.runs.networks import kept, summary_of
from bench.system.home import Home
from bench.training.averaging import Averaged
from bench.vocabulary import Checkpoint

from ..cli.test_exact_resume import assert_same
from ..helpers.commands import Bench
from ..helpers.homes import Find


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


EMA = ("training.average.kind=ema", "training.average.decay=0.9")
SWA = ("training.average.kind=swa", "training.average.from_epoch=2")


def command_of(method: str, *settings: str) -> tuple[object, ...]:
    """Three epochs of four steps on the digits, each looked at by one step of PGD."""
    options = ("--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo")
    size = ("--epochs", "3", "--limit-train", "60", "--batch-size", "12")
    looked = ("training.selection.every=1", "training.selection.steps=1")
    sets = (part for each in (*looked, *settings) for part in ("--set", each))
    return ("run", "--method", method, *options, *size, *sets)


def test_average_plain_and_last_network_are_evaluated_in_one_go_and_records_tell_which(
    bench: Bench, tmp_path: Path, records: Find
) -> None:
    assert bench(*command_of("natural", *EMA, "training.selection.keep=best"), home=tmp_path).code == 0
    (folder,) = all_runs(Home(tmp_path))
    hashes = {which: summary_of(folder, which).checkpoint for which in kept(folder)}
    assert hashes["best"] != hashes["best-plain"]
    evaluated = bench("eval", "--suite", "fgsm", "--limit", 4, home=tmp_path)
    assert evaluated.code == 0, evaluated
    assert f"{len(set(hashes.values()))} evaluated, 0 had" in evaluated.err
    found = [read_record(path).subject for path in (*records(tmp_path), *records(tmp_path, "-last"))]
    assert {each.checkpoint_of: each.checkpoint for each in found} == hashes
    averages = {subject.checkpoint_of for subject in found if subject.average == "ema, decay 0.9"}
    assert averages == {"best", "last"}
    assert all(subject.selection == "last" for subject in found if "last" in subject.checkpoint_of)
    both: list[Checkpoint] = ["best", "best-plain"]
    for which in both:
        assert [each.subject.checkpoint_of for each in home_records(Home(tmp_path), which)] == [which]
    again = bench("eval", "--suite", "fgsm", "--limit", 4, "--checkpoint-of", "best", home=tmp_path)
    assert "0 evaluated, 2 had the suite already." in again.err
    shown: list[tuple[Checkpoint, str]] = [("best", "| ema, decay 0.9 |"), ("best-plain", hashes["best-plain"])]
    for which, words in shown:
        out = bench("export", folder.id, "--format", "safetensors", "--checkpoint-of", which, home=tmp_path).out.strip()
        assert words in (Path(out) / "README.md").read_text()
        assert_same(load_file(Path(out) / "model.safetensors"), load_file(folder.path / f"{which}.safetensors"))


def test_a_run_without_an_average_has_no_plain_network_beside_it(trained: Path, bench: Bench) -> None:
    run = next(folder for folder in all_runs(Home(trained)) if folder.config().method == "sat")
    assert kept(run) == ["best", "last"]
    refused = bench("export", run.id, "--checkpoint-of", "best-plain", home=trained)
    assert (refused.code, "has no best-plain network: it averages none" in refused.err) == (2, True)


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
