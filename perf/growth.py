"""What the commands that read all of a home take when it has grown: `python -m perf.growth`.

The home is made up: valid runs and records of no real network.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.attack import Protocol
from bench.evaluation.suites import SUITES, Suite
from bench.jobs.train import Request, configure
from bench.records.outcomes import pack
from bench.records.record import AttackResult, Data, Record, content_digest
from bench.records.subjects import record_id
from bench.registry import attack_class
from bench.runs.config import DataRef, RunConfig, TeacherRef
from bench.runs.folder import RunFolder, Summary
from bench.runs.subject import run_subject
from bench.stats import wilson_interval
from bench.system import provenance
from bench.system.home import Home

COMMANDS = {
    "status": ("status",),
    "tables": ("tables",),
    "compare": ("compare", "RUN", "RUN"),
    "validate": ("results", "validate"),
    "merge": ("results", "merge", "RECORD"),
    "report": ("report", "--examples", "0"),
}
"""By name; each `RUN` stands for another run, and `RECORD` for one that is taken out of the home before."""
_NEED_RECORDS = ("compare", "validate", "merge")
"""They do not run in an empty home."""
_LAUNCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""
"""Starts a command from a small process: the memory a command is charged with is at least that of who started it."""
METHODS = ("sat", "trades", "ard", "rslad", "score", "fair-ard", "absld", "mtard", "b-mtard", "ciard")
STUDENTS = ("resnet18", "mobilenet_v2")
DATASETS = {"cifar10": 10, "cifar100": 100}
PROTOCOLS: tuple[Protocol, ...] = ("official", "paper")
_SUITES = ("whitebox", "blackbox", "autoattack", "dard", "full")
_CREATED = "2026-01-01T00:00:00+00:00"
_SURROGATE = "ab" * 32
_TEACHER = TeacherRef(role="robust", model="wrn-34-10", source="teacher", checkpoint=_SURROGATE, given=False)


@dataclass(frozen=True)
class _Samples:
    """The first n test images of a dataset: labels, and how hard each is to get right, 0 to 1."""

    labels: np.ndarray
    hardness: np.ndarray

    @classmethod
    def of(cls, n: int, classes: int) -> _Samples:
        draw = np.random.default_rng(classes)
        return cls(draw.integers(0, classes, n), draw.random(n))


def make_home(root: Path, runs: int, records: int, n: int) -> None:
    """Fill a home with finished runs, evenly over methods, students, datasets and then seeds, and their records.

    Args:
        records: of all runs together; each has those of a suite and a protocol, at most ten a run.
        n: images in each record.
    """
    home = Home(root)
    home.records.mkdir(parents=True)
    suites = list(itertools.product((SUITES[name] for name in _SUITES), PROTOCOLS))
    samples = {name: _Samples.of(n, classes) for name, classes in DATASETS.items()}
    left = records
    for number, config in enumerate(itertools.islice(_configs(), runs)):
        folder = RunFolder.of(home, config.id)
        _write_run(folder, config)
        for suite, protocol in suites[: -(-left // (runs - number))]:
            record = _record(folder, suite, protocol, samples[config.data.name], number)
            sealed = record.model_copy(update={"digest": content_digest(record.model_dump_json())})
            (home.records / f"{record.id}.json").write_text(sealed.model_dump_json(indent=1) + "\n", encoding="utf-8")
            left -= 1


def _configs() -> Iterator[RunConfig]:
    for seed in itertools.count():
        for dataset, student, method in itertools.product(DATASETS, STUDENTS, METHODS):
            data = DataRef(
                name=dataset,
                spec=dataset,
                fingerprint="f" * 64,
                n=50_000,
                classes=DATASETS[dataset],
                in_channels=3,
                eps=8 / 255,
            )
            yield configure(Request(method=method, student=student, dataset=dataset, seed=seed), data, [_TEACHER])


def _write_run(folder: RunFolder, config: RunConfig) -> None:
    folder.path.mkdir(parents=True)
    summary = Summary(
        checkpoint=hashlib.sha256(config.id.encode()).hexdigest(),
        selected_epoch=1,
        selected_on="test",
        accuracy={"clean": 0.8, "robust": 0.5},
        seconds=36_000.0,
        finished=_CREATED,
    )
    (folder.path / "config.json").write_text(config.model_dump_json(indent=1), encoding="utf-8")
    (folder.path / "environment.json").write_text(json.dumps({"hardware": "a made-up GPU"}), encoding="utf-8")
    (folder.path / "summary.json").write_text(summary.model_dump_json(indent=1), encoding="utf-8")


def _record(folder: RunFolder, suite: Suite, protocol: Protocol, samples: _Samples, number: int) -> Record:
    subject, config, n = run_subject(folder), folder.config(), len(samples.labels)
    data = Data(
        name=config.data.name,
        split="test",
        n=n,
        total=10_000,
        classes=config.data.classes,
        eps=config.data.eps,
        fingerprint="e" * 64,
        class_counts=np.bincount(samples.labels, minlength=config.data.classes).tolist(),
    )
    results = {"clean": _result("clean", protocol, 0.85, samples, number)}
    for position, entry in enumerate(suite.entries):
        results[entry.result] = _result(entry.result, protocol, 0.6 - 0.02 * position, samples, number)
    return Record(
        id=record_id(subject, config.data.name, suite.name, protocol, n, config.data.threat),
        subject=subject,
        suite=suite.name,
        protocol=protocol,
        data=data,
        seed=0,
        results=results,
        flags=["transfer:pgd-trades breaks more than pgd-trades"] if number % 50 == 0 else [],
        environment=provenance.describe(torch.device("cpu")) | {"git": "0" * 40},
        created=_CREATED,
        seconds=60.0,
    )


def _result(name: str, protocol: Protocol, strength: float, samples: _Samples, number: int) -> AttackResult:
    """A model that gets right what is easy: the defense decides where that ends, chance by how much."""
    n, classes = len(samples.labels), len(np.bincount(samples.labels))
    noise = np.random.default_rng((number, len(name))).normal(0, 0.05, n)
    right = samples.hardness + noise < strength + 0.003 * (number % len(METHODS))
    worst = None if name in ("clean", "square", "autoattack") else right & (noise < 0.1) & (samples.hardness < 0.6)
    of_class = [right[samples.labels == label] for label in range(classes)]
    correct = int(right.sum())
    return AttackResult(
        parameters=_parameters(name, protocol),
        surrogate=_SURROGATE if name.startswith("transfer:") else None,
        final=pack(right),
        worst=None if worst is None else pack(worst),
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None if worst is None else float(worst.mean()),
        class_accuracy=[float(each.mean()) if len(each) else None for each in of_class],
        batch_size=250,
        seconds=10.0,
    )


@cache
def _parameters(name: str, protocol: Protocol) -> dict[str, Any]:
    if name == "clean":
        return {}
    return attack_class(name.removeprefix("transfer:")).for_protocol(protocol, 8 / 255).parameters()


@dataclass(frozen=True)
class Took:
    """What a command took: wall time in seconds, and the most memory in megabytes that it had at once."""

    seconds: float
    megabytes: float


def took(command: str, home: Path) -> Took:
    """A command in a process of its own, from its start to its end."""
    runs = iter(sorted(path.name for path in (home / "results" / "runs").glob("*")))
    with tempfile.TemporaryDirectory() as elsewhere:
        named = {"RUN": lambda: next(runs), "RECORD": lambda: _taken_out(home, Path(elsewhere))}
        arguments = [named[word]() if word in named else word for word in COMMANDS[command]]
        bench = [sys.executable, "-m", "bench", *arguments, "--home", str(home)]
        launched = subprocess.run([sys.executable, "-c", _LAUNCH, *bench], stdout=subprocess.PIPE, check=True)
    seconds, memory, code = json.loads(launched.stdout)
    if code:
        raise click.ClickException(f"bench {' '.join(arguments)} ended with exit code {code}.")
    return Took(seconds, memory / (2**20 if sys.platform == "darwin" else 1024))


def _taken_out(home: Path, folder: Path) -> str:
    """A record of the home, moved into a folder."""
    record = next((home / "results" / "records").glob("*.json"))
    return str(shutil.move(record, folder / record.name))


def measure(command: str, home: Path, empty: Path, repeats: int) -> dict[str, Any]:
    """A command in an empty home, the first time after so many new records, and later."""
    shutil.rmtree(home / "results" / "kept", ignore_errors=True)
    alone = took(command, empty).seconds if command not in _NEED_RECORDS else None
    first, later = took(command, home), [took(command, home) for _ in range(repeats)]
    return {
        "empty": alone,
        "first": first.seconds,
        "later": [each.seconds for each in later],
        "megabytes": max(each.megabytes for each in (first, *later)),
    }


@click.command()
@click.option("--runs", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--records", type=click.IntRange(min=1), default=10_000, show_default=True, help="At most ten a run.")
@click.option("--images", type=click.IntRange(min=100), default=1000, show_default=True, help="In each record.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--home", "kept", type=click.Path(path_type=Path), help="Made there and kept, or as made there before.")
@click.option("--command", "commands", type=click.Choice(list(COMMANDS)), multiple=True, help="Default: all.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: seconds of the first call and of the later ones.")
def main(
    runs: int, records: int, images: int, repeats: int, kept: Path | None, commands: tuple[str, ...], as_json: bool
) -> None:
    """Make up a home and measure the commands that read all of it."""
    with tempfile.TemporaryDirectory() as folder:
        home, empty = kept or Path(folder, "grown"), Path(folder, "empty")
        empty.mkdir()
        if not home.exists():
            make_home(home, runs, records, images)
        there = len(list((home / "results" / "records").iterdir()))
        found = {command: measure(command, home, empty, repeats) for command in commands or COMMANDS}
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{runs} runs, {there} records of {images} images; {provenance.hardware(torch.device('cpu'))}.")
    for command, each in found.items():
        alone = "" if each["empty"] is None else f"; in an empty home {each['empty']:.2f} s"
        click.echo(
            f"bench {' '.join(COMMANDS[command])}: first {each['first']:.2f} s, later "
            f"{statistics.median(each['later']):.2f} s (median of {repeats}), {each['megabytes']:.0f} MB{alone}"
        )


if __name__ == "__main__":
    main()
