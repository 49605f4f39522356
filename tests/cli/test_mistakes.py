"""Every mistake of a user's ends in one or two lines that say what was wrong and what to do."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.system.files import cannot_write

from ..helpers.commands import Bench, Sit, Start
from ..helpers.homes import Contents, Find

RUN = "run --method sat --student digits-cnn --dataset digits --recipe demo"
LONG = "x" * 300


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("statsu", "Did you mean 'status'?"),
        ("teacher trian", "Did you mean 'train'?"),
        ("--hmoe x status", "No such option: --hmoe"),
        ("run --method sat", "Missing option '--student'"),
        ("run --methd sat --student x", "Did you mean --method?"),
        (f"{RUN} further", "unexpected extra argument"),
        ("run --method cird --student resnet18", "Did you mean 'ciard'?"),
        ("run --method [bold]x[/bold] --student resnet18", "Unknown method '[bold]x[/bold]'"),
        (f"{RUN} --student digits-cn", "Did you mean 'digits-cnn'?"),
        (f"{RUN} --student ../../etc", "Unknown model '../../etc'"),
        (f"{RUN} --student wrn-11-1", "The nearest is wrn-10-1"),
        (f"{RUN} --student timm:resnt18", "Did you mean 'timm:resnet18'?"),
        (f"{RUN} --student digits-cnn@cifr10", "Did you mean 'cifar10'?"),
        (f"{RUN} --student timm:vit_tiny_patch16_224", "cannot take images of 1x8x8"),
        (f"{RUN} --student resnet18 --batch-size 7 --limit-train 10", "Choose another --batch-size"),
        (f"{RUN} --dataset digit", "Did you mean 'digits'?"),
        (f"{RUN} --dataset parquet:", "names no folder"),
        (f"{RUN} --dataset parquet:/nowhere", "/nowhere is not a folder"),
        (f"{RUN} --dataset parquet:~nobody-here/x", "is not a folder"),
        (f"{RUN} --dataset parquet:{LONG}", "is not a folder"),
        (f"{RUN} --dataset imagefolder:.", "has no folder train"),
        (f"{RUN} --dataset tiny-imagenet", "Put the folder tiny-imagenet-200"),
        (f"{RUN} --recipe dmo", "Did you mean 'demo'?"),
        (f"{RUN} --recipe ../demo", "There is no file ../demo"),
        (f"{RUN} --epochs 0", "'--epochs'"),
        (f"{RUN} --seed -1", "'--seed'"),
        (f"{RUN} --limit-train 3", "'--limit-train'"),
        (f"{RUN} --precision 16", "'--precision'"),
        (f"{RUN} --set stpes=3", "Did you mean 'steps'?"),
        (f"{RUN} --set steps=three", "takes int"),
        (f"{RUN} --teacher robust=x.pt", "sat has no robust teacher"),
        (f"{RUN} --method ard --teacher rbust=x.pt", "write --teacher robust=FILE"),
        (f"{RUN} --method ard --teacher x.pt", "write --teacher robust=FILE"),
        (f"{RUN} --method ard --teacher robust=a --teacher robust=b", "given twice"),
        (f"{RUN} --method ard --teacher robust=/nowhere.pt", "There is no checkpoint /nowhere.pt"),
        (f"{RUN} --method ard --teacher robust=resnet18:/nowhere.pt", "There is no checkpoint /nowhere.pt"),
        (f"{RUN} --method ard --teacher robust=resnet18:", "[MODEL:]FILE"),
        (f"{RUN} --method ard --teacher robust=~nobody-here/x.pt", "There is no checkpoint"),
        (f"{RUN} --method ard --teacher robust={LONG}", "There is no checkpoint"),
        (f"{RUN} --method ard --teacher robust=.", "Give the path of a checkpoint file"),
        ("eval", "Missing option '--suite'"),
        ("eval --suite whitbox", "Did you mean 'whitebox'?"),
        ("eval --suite whitebox", "Train one first"),
        ("eval --suite whitebox --run ../x", "Unknown run '../x'"),
        ("eval --suite whitebox --student digits-cnn", "--student goes with --checkpoint"),
        ("eval --suite whitebox --run x --student y --checkpoint z", "exclude each other"),
        ("eval --suite whitebox --limit 0", "'--limit'"),
        ("eval --suite whitebox --protocol mine", "'official', 'paper'"),
        ("eval --suite whitebox --dataset digits --student digits-cnn --checkpoint /nowhere", "There is no checkpoint"),
        ("eval --suite blackbox --teacher clean=x", "Write --teacher robust=FILE"),
        ("tables --table 99", "Known: 0, 1, 2, 3"),
        ("tables --datasets cifar11", "Did you mean 'cifar10'?"),
        ("tables --format html", "'markdown', 'latex', 'csv', 'json'"),
        ("tables --audit --format csv", "--format json"),
        ("tables --audit --values compare", "--values measured or --values paper"),
        ("tables --audit --out elsewhere", "--out"),
        ("tables --audit --table 99", "Known: 0, 1, 2, 3"),
        ("tables --values guessed", "'measured', 'paper', 'compare'"),
        ("teacher train --dataset digits --recipe demo --method sta", "Did you mean 'sat'?"),
        ("teacher train --role strong", "'clean', 'robust', 'both'"),
        ("list method", "'methods'"),
        ("--home ~nobody-here status", "there is no user of that name"),
        (f"--home {LONG} status", "File name too long"),
    ],
)
def test_the_message_names_what_was_wrong(bench: Bench, tmp_path: Path, command: str, words: str) -> None:
    home = None if "--home" in command else tmp_path
    assert words in bench(*shlex.split(command), home=home).mistake
    assert not list(tmp_path.glob("results/runs/*/summary.json"))


def test_without_a_network_cifar10_says_where_to_put_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("bench.data.cifar.urlopen", unreachable)
    message = bench("run", "--method", "sat", "--student", "resnet18", home=tmp_path).mistake
    assert f"Put cifar-10-python.tar.gz or its unpacked folder cifar-10-batches-py into {tmp_path / 'data'}" in message


def test_a_gpu_that_is_not_there(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "Use --device cpu" in bench(*RUN.split(), "--device", "cuda", home=tmp_path).mistake


def test_a_commit_that_is_none_is_found_before_anything_is_trained(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_COMMIT", "main")
    assert "BENCH_COMMIT=main is no commit" in bench(*RUN.split(), home=tmp_path).mistake
    assert not list(tmp_path.glob("results/runs/*"))


def test_a_gpu_that_is_too_small(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has ...")

    monkeypatch.setattr("bench.training.trainer.Trainer.run", full)
    assert "Choose a smaller --batch-size" in bench(*RUN.split(), home=tmp_path).mistake


class TestAmongFinishedRuns:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("--dataset digit", "Did you mean 'digits'?"),
            ("--dataset parquet:digits", "Known: digits."),
            ("--run digits_digits-cnn_sta", "Did you mean 'digits_digits-cnn_sat_demo_s0_"),
            ("--run ..", "Unknown run '..'"),
            ("--teacher robust=/nowhere.pt", "There is no checkpoint"),
        ],
    )
    def test_eval(self, bench: Bench, trained: Path, options: str, words: str) -> None:
        assert words in bench("eval", "--suite", "blackbox", "--limit", 4, *options.split(), home=trained).mistake

    def test_a_run_on_another_dataset_than_the_one_asked_for(self, bench: Bench, trained: Path, runs: Find) -> None:
        run = runs(trained, "_sat_")[0].name
        message = bench("eval", "--suite", "whitebox", "--run", run, "--dataset", "cifar10", home=trained).mistake
        assert "'cifar10'" in message

    def test_an_unfinished_run(self, bench: Bench, home: Path, runs: Find) -> None:
        (sat,) = runs(home, "_sat_")
        (sat / "summary.json").unlink()
        assert "is not finished" in bench("eval", "--suite", "whitebox", "--run", sat.name, home=home).mistake

    def test_a_checkpoint_without_a_surrogate(self, bench: Bench, trained: Path, runs: Find) -> None:
        file = runs(trained, "_sat_")[0] / "best.safetensors"
        own = ("--checkpoint", file, "--student", "digits-cnn", "--dataset", "digits")
        assert "--teacher robust=FILE" in bench("eval", "--suite", "blackbox", *own, home=trained).mistake


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "Choose a folder you may write to"),
        (errno.EPERM, "Choose a folder you may write to"),
        (errno.EROFS, "Choose a folder you may write to"),
    ],
)
def test_what_to_do_about_a_file_that_cannot_be_written_follows_from_the_reason(number: int, advice: str) -> None:
    reason, advised = str(cannot_write(Path("a/b"), OSError(number, os.strerror(number)))).splitlines()
    assert reason == f"Cannot write a/b: {os.strerror(number)}."
    assert advised.startswith(advice)
    assert "--home DIR" in advised


class TestUnwritable:
    """Root may write anywhere, so these are places where nobody can."""

    @pytest.mark.parametrize(
        "command", [RUN, "tables", "teacher train --dataset digits --recipe demo", "demo", "sweep table7"]
    )
    @pytest.mark.parametrize("place", ["below a file", "/proc"])
    def test_a_home(self, bench: Bench, tmp_path: Path, command: str, place: str) -> None:
        (tmp_path / "file").write_text("mine")
        home = tmp_path / "file" / "home" if place == "below a file" else Path("/proc/home")
        assert "Cannot write" in bench(*command.split(), home=home).mistake
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_home_that_is_a_file(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        assert "is a file" in bench("status", home=tmp_path / "file").mistake

    def test_the_tables_folder(self, bench: Bench, trained: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        assert "--out DIR" in bench("tables", "--out", tmp_path / "file" / "x", home=trained).mistake

    def test_a_full_disk_leaves_what_was_there(self, sit: Sit, home: Path, contents: Contents) -> None:
        before = contents(home)
        arguments = (*RUN.split(), "--epochs", 2, "--limit-train", 100)
        code, _, said = sit(*arguments, home=home, largest_file=50_000)
        assert code == 2, said
        assert "Traceback" not in said
        assert "Cannot write" in said
        assert before.items() <= contents(home).items()
        assert not list(home.rglob("*.tmp"))

    def test_a_full_disk_under_the_output(self, start: Start) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        with Path("/dev/full").open("w") as full, start("list", "suites", stdout=full) as running:
            _, error = running.communicate(timeout=60)
        assert running.returncode == 2, error
        assert "No space left on device" in error
        assert "Traceback" not in error


def test_a_home_may_be_read_only_for_what_only_reads(
    bench: Bench, digits: tuple[str, ...], trained: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "home"))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert bench("status", home=copy).code == 0
        assert bench("eval", "--suite", "whitebox", "--limit", 16, home=copy).code == 0
        again = bench("run", "--method", "sat", "--student", "digits-cnn", *digits, home=copy)
        assert "Already trained" in again.err
    finally:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: torch.empty(10**14), "The memory is used up: 3.73e+05 GiB were asked for at once."),
        (lambda: np.empty(10**14), "The memory is used up: Unable to allocate 728. TiB for an array"),
    ],
)
def test_memory_that_runs_out_is_said_with_what_was_asked_for(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object], said: str
) -> None:
    monkeypatch.setattr("bench.jobs.session.load_dataset", lambda *_: ask())
    message = bench("run", "--method", "sat", "--student", "digits-cnn", "--dataset", "digits", home=tmp_path).mistake
    assert message.startswith(said)
    assert "Choose a smaller --batch-size" in message


def test_names_cannot_command_the_terminal(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "\x1b[31mred\x07\u202e"
    place.mkdir()
    (place / "a.yaml").write_text("[]")
    message = bench("sweep", place / "a.yaml", home=tmp_path).mistake
    assert "/?[31mred??/a.yaml" in message


def test_signs_that_the_terminal_lacks_are_no_error() -> None:
    """`tables --audit` has signs of mathematics; a name may hold anything."""
    program = (
        "import sys; from bench.cli import main; main.COMMANDS = {}; "
        "main._run = lambda stop: (print('\\u2212 \\udce9'), (2, 'Error: \\u2212'))[1]; main.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True
    )
    assert (found.returncode, found.stdout, found.stderr) == (2, b"\\u2212 \\udce9\n", b"Error: \\u2212\n")
