"""Reads the pages as a reader does: writes the files they show, runs the commands and the Python.

commands.yaml says what is run in place of a command that takes long, and what is not run at all, and why.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from ..helpers.commands import Bench, Process, Start
from ..helpers.places import DEMO_RECORDS, ROOT

SWEEP = """\
description: One student of a few digits.
runs:
  - {methods: [sat], students: [digits-cnn], datasets: [digits], recipes: [demo], epochs: 1, limit_train: 60}
"""
PROGRAMS = {"torchrun": ("-m", "torch.distributed.run"), "pip": ("-m", "pip"), "python": ()}
INERT = {"text", "toml", "yaml", "{toctree}", "{eval-rst}"}

_FENCE = re.compile(
    r"^(?:`(?P<file>[\w./-]+)`:\n\n)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)

_OUTPUT_TAKEN = re.compile(r"^(?:eval \"\$\()?(bench completion \w+)(?:\)\"| \| source)", re.MULTILINE)
"""Lines by which a shell takes in what a command prints: it is the command that is run."""

Command = tuple[str, ...]


class Block(NamedTuple):
    """A fenced block of a page; `file` is the name the page gives it, alone on the line above, or None."""

    file: str | None
    language: str
    text: str

    @property
    def commands(self) -> list[Command]:
        """What the block has a reader type, word by word; comments left away."""
        if self.language not in ("", "bash"):
            return []
        text = _OUTPUT_TAKEN.sub(r"\1", self.text.replace("\\\n", " "))
        lines = (shlex.split(line, comments=True) for line in text.splitlines())
        return [tuple(words) for words in lines if words]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(*match.group("file", "language", "text")) for match in _FENCE.finditer(text)]
    assert 2 * len(found) == len(re.findall(r"^\s*```", text, re.MULTILINE)), f"{page.name}: a block that is not read"
    return found


class Instead(NamedTuple):
    """commands.yaml: `small` is what is run in place of a command, `not_run` the reason why one is not."""

    small: dict[Command, Command]
    not_run: dict[Command, str]


class Done(NamedTuple):
    """What a command of a page came to."""

    command: Command
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """campaign(name): a home in results/, with its records where git has them in an archive."""
    results, unpacked = ROOT / "results", tmp_path_factory.mktemp("campaigns") / "results"

    @cache
    def home(name: str) -> Path:
        archive = results / name / "records.tar.gz"
        if not archive.exists():
            return results / name
        with tarfile.open(archive) as file:
            file.extractall(unpacked / name, filter="data")
        return unpacked / name

    return home


@pytest.fixture(scope="session")
def instead() -> Instead:
    content = yaml.safe_load(Path(__file__).with_name("commands.yaml").read_text(encoding="utf-8"))
    small = {tuple(shlex.split(key)): tuple(shlex.split(value)) for key, value in content["small"].items()}
    not_run = {tuple(shlex.split(key)): reason for reason, keys in content["not run"].items() for key in keys}
    return Instead(small, not_run)


@pytest.fixture(scope="session")
def read() -> Callable[[Path], list[Block]]:
    """read(page): its fenced blocks."""
    return blocks


@pytest.fixture
def reader(trained: Path, tmp_path: Path) -> Path:
    """A reader's folder: trained students, the demo's records but one, which a colleague has, checkpoints, a sweep."""
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(trained, tmp_path / "reader"))
    shutil.copytree(DEMO_RECORDS, folder / "results" / "records", dirs_exist_ok=True)
    theirs = next((folder / "results" / "records").glob("digits_digits-mobile_ard_*whitebox*.json"))
    with zipfile.ZipFile(folder / "colleague.zip", "w") as archive:
        archive.write(theirs, theirs.name)
    theirs.unlink()
    for name, kind in (("my.pt", "digits-cnn_sat"), ("robust.pt", "robust-teacher")):
        weights = next((folder / "results" / "runs").glob(f"*{kind}*/best.safetensors"))
        torch.save(load_file(weights), folder / name)
    (folder / "small.yaml").write_text(SWEEP, encoding="utf-8")
    np.savez(folder / "more.npz", image=np.zeros((9, 8, 8, 1), np.uint8), label=np.arange(9))
    (folder / "recipes").mkdir()
    (folder / "recipes" / "mine.yaml").write_text("extends: demo\n", encoding="utf-8")
    return folder


Follow = Callable[[Path, Path], list[Done]]


@pytest.fixture
def follow(
    bench: Bench,
    process: Process,
    warm: Start,
    instead: Instead,
    monkeypatch: pytest.MonkeyPatch,
) -> Follow:
    """follow(page, folder): does in a folder what a page shows, in its order; what its commands came to.

    Once a page has installed a package (into `installed`), all that follows runs in processes that find it there; the
    first is `python -m bench` from its start, in whose way the folder could come.
    """
    started: set[Path] = set()

    def run(words: Command, folder: Path) -> Any:
        installed = folder / "installed"
        if words[0] != "bench":
            assert words[0] in PROGRAMS, f"no way to run {words[0]}: add {shlex.join(words)} to commands.yaml"
            return _python(*PROGRAMS[words[0]], *words[1:], folder=folder)
        if not installed.exists():
            return bench(*words[1:])
        if folder in started:
            return in_warmth(*words, folder=folder)
        started.add(folder)
        return process(*words[1:], path=installed, cwd=folder, module=True)

    def in_warmth(*arguments: str, folder: Path) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(folder / "installed")}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with warm(*arguments, cwd=folder, env=environment, **pipes) as running:
            out, err = running.communicate(timeout=240)
        return _Result(running.returncode, out, err)

    def perform(block: Block, folder: Path, names: dict[str, Any]) -> Iterator[Done]:
        if block.file is not None:
            _write(block, folder)
        elif block.language == "python" and (folder / "installed").exists():
            yield Done(("python",), *in_warmth("-c", block.text, folder=folder))
        elif block.language == "python":
            exec(compile(block.text, "a page", "exec"), names)
        else:
            assert block.commands or block.language in INERT, f"a block of {block.language!r} is nothing known"
            for command in block.commands:
                if command not in instead.not_run:
                    result = run(_with_a_run(instead.small.get(command, command), folder), folder)
                    yield Done(command, result.code, result.out, result.err)

    def follow(page: Path, folder: Path) -> list[Done]:
        monkeypatch.chdir(folder)
        names: dict[str, Any] = {}
        done = []
        for block in blocks(page):
            for each in perform(block, folder, names):
                assert each.code == 0, f"{page.name}: {shlex.join(each.command)}\n{each.out}{each.err}"
                done.append(each)
        return done

    return follow


def _with_a_run(words: Command, folder: Path) -> Command:
    """A command with the id of a student of the folder where a page has RUN."""
    if "RUN" not in words:
        return words
    student = next((folder / "results" / "runs").glob("digits_digits-cnn_sat_*")).name
    return tuple(student if word == "RUN" else word for word in words)


class _Result(NamedTuple):
    code: int
    out: str
    err: str


def _python(*arguments: str, folder: Path) -> _Result:
    """Python in a process of its own, which finds a package that the page has installed."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "installed")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    return _Result(done.returncode, done.stdout, done.stderr)


def _write(block: Block, folder: Path) -> None:
    """Write a file that a page shows; a script has to be one for the shell too."""
    assert block.file is not None
    path = folder / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if block.language == "bash":
        subprocess.run(["bash", "-n", str(path)], check=True)
