"""Several processes train as one: the definitions in float64, and whole runs started by torchrun."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.compute.ranks import Ranks
from bench.data import load_dataset
from bench.errors import BenchError
from bench.training.trainer import Trainer

from ..helpers.commands import Start
from ..helpers.homes import json_lines

SCRIPT = Path(__file__).with_name("script.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environments(size: int, **others: str) -> Iterator[dict[str, str]]:
    """What torchrun tells each of so many processes."""
    port = str(free_port())
    for rank in range(size):
        variables = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        yield {**os.environ, **(variables if size > 1 else {}), **others}


def results(warm: Start, folder: Path, size: int, *options: str) -> list[dict[str, dict[str, Any]]]:
    """What the script came to in each of so many processes."""
    folder.mkdir()
    processes = [warm(SCRIPT, folder, *options, env=environment) for environment in environments(size)]
    assert [process.wait(timeout=300) for process in processes] == [0] * size
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.mark.parametrize(
    ("options", "size"), [((), 3), (("--batch-norm",), 2)], ids=["plain", "synchronised-batch-norm"]
)
def test_several_processes_do_what_one_does_in_every_method(
    warm: Start, options: tuple[str, ...], size: int, tmp_path: Path
) -> None:
    (alone,) = results(warm, tmp_path / "1", 1, *options)
    for rank, found in enumerate(results(warm, tmp_path / str(size), size, *options)):  # 13 images: 4, 4 and 5; 6 and 7
        assert found.keys() == alone.keys()
        for method, tensors in alone.items():
            assert found[method].keys() == tensors.keys()
            for name, expected in tensors.items():
                torch.testing.assert_close(
                    found[method][name], expected, rtol=1e-9, atol=1e-12, msg=f"{method}, {name}, rank {rank}"
                )


PLAIN = '''
from torch import nn


def build(spec, classes, channels):
    """A small network without batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, classes),
    )
'''


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A plug-in with a model that has no batch normalisation."""
    folder = tmp_path / "plain"
    metadata = folder / "plain-0.1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "plain_model.py").write_text(PLAIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plain\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("[bench.models]\nplain-cnn = plain_model:build\n")
    return folder


class Ended(NamedTuple):
    """What the processes of a run came to: whether all is well, and all that they wrote."""

    well: bool
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def bench_run(warm: Start, plain: Path) -> Run:
    """bench_run(home, 2, ...): `bench run` on digits, in so many processes."""

    def run(home: Path, size: int, *options: str) -> Ended:
        command = ("bench", "run", "--dataset", "digits", "--recipe", "demo", *options, "--home", home)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes = [warm(*command, env=each, **pipes) for each in environments(size, PYTHONPATH=str(plain))]
        said = [process.communicate(timeout=300) for process in processes]
        return Ended(not any(process.returncode for process in processes), *map("".join, zip(*said, strict=True)))

    return run


def torchrun(plain: Path, home: Path, *options: str) -> Ended:
    """`bench run` on digits in the two processes of a torchrun."""
    launch = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()))
    command: tuple[str, ...] = (*launch, "-m", "bench", "run", "--dataset", "digits", "--recipe", "demo", *options)
    command += ("--home", str(home))
    environment = {**os.environ, "PYTHONPATH": str(plain)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    return Ended(done.returncode == 0, done.stdout, done.stderr)


def metrics(home: Path, method: str) -> list[dict[str, Any]]:
    (path,) = home.glob(f"results/runs/*_{method}_*/metrics.jsonl")
    return json_lines(path)


@pytest.fixture
def teachers(tmp_path: Path) -> list[str]:
    """Options that name teachers without batch normalisation; what they know is of no matter here."""
    plugin: dict[str, Any] = {}
    exec(PLAIN, plugin)
    options = []
    for seed, role in enumerate(("robust", "clean")):
        torch.manual_seed(seed)
        torch.save(plugin["build"]("plain-cnn", 10, 1).state_dict(), tmp_path / f"{role}.pt")
        options += ["--teacher", f"{role}=plain-cnn@none:{tmp_path / role}.pt"]
    return options


@pytest.mark.slow
def test_torchrun_gives_the_metrics_of_one_process_without_batch_normalisation(
    bench_run: Run, plain: Path, teachers: list[str], tmp_path: Path
) -> None:
    """To 1e-4; CIARD's robust teacher learns from the first step on, half of a batch is additional, with averages."""
    digits = load_dataset("digits", tmp_path).test
    more: dict[str, Any] = {"x": digits.images.numpy(), "y": digits.labels.numpy()}
    np.savez(tmp_path / "more.npz", **more)
    options = ["--method", "ciard", "--student", "plain-cnn", "--epochs", "2", "--limit-train", "250", *teachers]
    options += ["--set", "freeze_epochs=0", "--set", "teacher_lr_decay=false"]
    options += ["--extra", f"npz:{tmp_path}/more.npz", "--extra-share", "0.5"]
    for each in ("augmentation.kind=trivial-augment", "average.kind=ema", "average.decay=0.9", "awp.gamma=0.01"):
        options += ["--set", f"training.{each}"]
    logs, weights = [], []
    homes = {processes: tmp_path / str(processes) for processes in (2, 1)}
    for processes, home in homes.items():
        if processes == 1:  # it need not judge the teachers again
            shutil.copytree(homes[2] / "results" / "records", home / "results" / "records")
        result = bench_run(home, 1, *options) if processes == 1 else torchrun(plain, home, *options)
        assert result.well, result
        folder = Path(result.out.strip())  # one line: the first process speaks for all
        assert result.err.count("epoch 2/2: loss ") == 1
        assert json.loads((folder / "environment.json").read_text())["processes"] == processes
        assert sorted(path.name for path in (home / "results" / "runs").iterdir()) == [folder.name]
        logs.append(metrics(home, "ciard"))
        weights.append({path.name: load_file(path) for path in folder.glob("*.safetensors")})
    assert logs[0][-1]["kind"] == "epoch"
    for mine, theirs in zip(logs[1], logs[0], strict=True):
        assert mine["terms"] == pytest.approx(theirs["terms"], abs=1e-4)
        assert mine.keys() == theirs.keys()
        assert [mine.get(key) for key in ("kind", "epoch", "step", "lr")] == [
            theirs.get(key) for key in ("kind", "epoch", "step", "lr")
        ]
    seen = [{name: kinds["clean"] for name, kinds in log[-1]["accuracy"].items()} for log in logs]
    assert seen[1] == pytest.approx(seen[0], abs=0.02)
    assert weights[0].keys() == weights[1].keys()
    assert {"robust-teacher.safetensors", "last.safetensors", "last-plain.safetensors"} <= weights[0].keys()
    for name, tensors in weights[0].items():
        for key, value in tensors.items():
            torch.testing.assert_close(weights[1][name][key], value, rtol=0.05, atol=0.01)


def test_with_batch_normalisation_processes_learn(bench_run: Run, tmp_path: Path) -> None:
    options = ("--method", "natural", "--student", "digits-cnn", "--epochs", "4", "--limit-train", "500")
    result = bench_run(tmp_path, 2, *options)
    assert result.well, result
    losses = [line["terms"]["loss"] for line in metrics(tmp_path, "natural") if line["kind"] == "epoch"]
    assert losses[-1] < losses[0] / 2


def test_with_synchronised_batch_normalisation_the_metrics_are_those_of_one_process(
    bench_run: Run, tmp_path: Path
) -> None:
    options = ("--method", "trades", "--student", "digits-cnn", "--epochs", "1", "--limit-train", "320")
    terms, statistics = [], []
    for processes, own in ((1, ()), (2, ("--sync-bn",)), (2, ())):
        home = tmp_path / f"{processes}{''.join(own)}"
        result = bench_run(home, processes, *options, *own)
        assert result.well, result
        folder = Path(result.out.strip())
        assert json.loads((folder / "environment.json").read_text())["sync_bn"] == bool(own)
        terms.append(metrics(home, "trades")[-1]["terms"])
        weights = load_file(folder / "last.safetensors")
        statistics.append(torch.cat([value for name, value in weights.items() if "running" in name]))
    assert terms[1] == pytest.approx(terms[0], abs=1e-3)
    torch.testing.assert_close(statistics[1], statistics[0], rtol=1e-2, atol=1e-3)
    # Without it, the processes' own statistics are another definition.
    assert (statistics[2] - statistics[0]).abs().max() > 5 * (statistics[1] - statistics[0]).abs().max()


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    trainer: Any = SimpleNamespace(ranks=Ranks(size=2))
    with pytest.raises(BenchError, match=r"The last batch of an epoch has 1 images for 2 processes\."):
        Trainer._check_last_batch(trainer, 1)
