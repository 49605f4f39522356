"""What all tests share: networks trained for seconds, records made to order, commands as users give them.

Most commands run in this process, through the same `main` that the installed `bench` calls: to import PyTorch anew for
each would take minutes. What is about processes (signals, locks, plug-ins, the import path) runs in processes.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from itertools import count
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cli.main import main
from bench.records.record import AttackResult, Data, Record, Subject, TrainingCost, pack
from bench.stats import wilson_interval

from .warm import Warm, serving

# Tests run beside each other and beside other work; their networks are too small to gain from a second thread. What is
# said here goes for the processes that tests start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds (leave it out with -m 'not slow')")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: begun last, one test would have all workers but its own wait."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


RecordMaker = Callable[..., Record]

WHITEBOX = {"clean": 80, "fgsm": 60, "pgd-sat": 50, "pgd-trades": 50, "cw-inf": 40}
BLACKBOX = {"clean": 80, "transfer:pgd-trades": 70, "transfer:cw-inf": 65, "square": 75}
SURROGATE = "ab" * 32


def _result(
    outcome: int | np.ndarray,
    n: int,
    surrogate: str | None,
    parameters: dict[str, Any],
    labels: np.ndarray | None,
) -> AttackResult:
    right = np.arange(n) < outcome if isinstance(outcome, int) else np.asarray(outcome, bool)
    correct = int(right.sum())
    by_class = [None] * 10 if labels is None else [right[labels == label] for label in range(10)]
    return AttackResult(
        parameters=parameters,
        surrogate=surrogate,
        final=pack(right),
        worst=None,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None,
        class_accuracy=[None if each is None or not len(each) else float(each.mean()) for each in by_class],
        batch_size=100,
        seconds=1.0,
    )


@pytest.fixture
def make_record() -> RecordMaker:
    """Makes records of a ResNet-18 on CIFAR-10; its arguments are what is to be different.

    `correct` holds for each attack how many samples (the first ones) are right, or the outcome of each; `labels`, the
    samples' classes, makes the accuracies of classes, and `hours` and `device` the cost of training.
    """
    numbers = count()

    def make(
        correct: Mapping[str, int | np.ndarray] | None = None,
        *,
        method: str = "sat",
        label: str | None = None,
        kind: str = "student",
        overrides: dict[str, Any] | None = None,
        role: str | None = None,
        model: str = "resnet18",
        seed: int | None = 0,
        recipe: str | None = "official",
        setting: str = "official, 300 epochs",
        selection: str = "heldout",
        checkpoint: str = "c0" * 32,
        dataset: str = "cifar10",
        split: str = "test",
        n: int = 100,
        total: int = 10_000,
        eps: float = 8 / 255,
        fingerprint: str = "f" * 64,
        protocol: str = "official",
        surrogate: str = SURROGATE,
        parameters: dict[str, Any] | None = None,
        flags: list[str] | None = None,
        environment: dict[str, Any] | None = None,
        minute: int | None = None,
        run: str | None = None,
        teachers: dict[str, str] | None = None,
        labels: np.ndarray | None = None,
        hours: float | None = None,
        device: str = "GPU A",
    ) -> Record:
        number = next(numbers)
        counts = None if labels is None else np.bincount(labels, minlength=10).tolist()
        return Record(
            id=f"record-{number:03d}",
            subject=Subject(
                kind=kind,
                run=None if kind == "checkpoint" else run or f"run-{number}",
                method=method,
                label=label or method.upper(),
                overrides=overrides or {},
                role=role,
                model=model,
                seed=seed,
                recipe=recipe,
                setting=setting,
                selection=selection,
                checkpoint=checkpoint,
                teachers=teachers or {},
                training=None if hours is None else TrainingCost(seconds=3600 * hours, device=device),
            ),
            suite="whitebox",
            protocol=protocol,
            data=Data(
                name=dataset,
                split=split,
                n=n,
                total=total,
                classes=10,
                eps=eps,
                fingerprint=fingerprint,
                class_counts=counts,
            ),
            seed=0,
            results={
                name: _result(
                    right, n, surrogate if name.startswith("transfer:") else None, parameters or {"steps": 20}, labels
                )
                for name, right in (correct or WHITEBOX).items()
            },
            flags=flags or [],
            environment=environment or {"bench": "0.1.0", "device": "cpu"},
            created=f"2026-01-01T00:{number if minute is None else minute:02d}:00+00:00",
            seconds=5.0,
        )

    return make


def fit(network: nn.Module, x: Tensor, y: Tensor, epochs: int, eps: float = 0.0) -> nn.Module:
    """Train a network for some seconds by SGD, for eps > 0 on PGD-5's images; it comes back in eval mode."""
    from attacks.pgd import PGD

    order = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(y) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=order).split(128):
            images = x[batch]
            if eps:
                attack = PGD(eps=eps, step_size=eps / 3, steps=5)
                images = attack(network.eval(), images, y[batch], generator=order)
            optimizer.zero_grad()
            F.cross_entropy(network.train()(images), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def once_for_all(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills: once for all of pytest's workers, the first that asks for it; each gets a copy."""
    mine = factory.getbasetemp()
    common = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    made = common / f"{name}-made"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(common / f"{name}-making", ignore_errors=True)
            (common / f"{name}-making").mkdir()
            make(common / f"{name}-making")
            (common / f"{name}-making").rename(made)
    return Path(shutil.copytree(made, factory.mktemp(name) / name))


@pytest.fixture(scope="session", name="fit")
def _fit() -> Callable[..., nn.Module]:
    return fit


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nn.Module]:
    """digits_model("natural"), digits_model("sat"): a small network trained on the digits; each call a copy."""
    from bench.models import build_model

    def train(method: str, folder: Path) -> None:
        from bench.data import load_dataset
        from bench.data.dataset import to_float

        digits = load_dataset("digits", Path("data"))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build_model("digits-cnn", digits.num_classes, digits.in_channels)
        eps = {"natural": 0.0, "sat": digits.eps}[method]
        fit(network, to_float(digits.train.images), digits.train.labels, epochs=4, eps=eps)
        torch.save(network.state_dict(), folder / "network.pt")

    @cache
    def weights(method: str) -> dict[str, Tensor]:
        folder = once_for_all(tmp_path_factory, f"digits-{method}", lambda folder: train(method, folder))
        state: dict[str, Tensor] = torch.load(folder / "network.pt", weights_only=True)
        return state

    def copy(method: str) -> nn.Module:
        network = build_model("digits-cnn", 10, 1)
        network.load_state_dict(weights(method))
        return network.eval()

    return copy


Mount = Callable[..., AbstractContextManager[Path]]


@pytest.fixture
def mounted(tmp_path: Path) -> Mount:
    """`with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs") as place`: a file system; skips where none may be."""

    @contextmanager
    def at(*arguments: object) -> Iterator[Path]:
        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("only root may mount a file system")
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *map(str, arguments), place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", place], check=True)

    return at


@pytest.fixture
def quick_autoattack(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack with a tenth of its iterations and a fifth of its queries (test_library_attacks.py has them all)."""
    import pyautoattack

    real = pyautoattack.AutoAttack.__init__

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 10
        self.square.n_queries = 1000

    monkeypatch.setattr(pyautoattack.AutoAttack, "__init__", made)


DIGITS = ("--dataset", "digits", "--recipe", "demo", "--epochs", "1", "--limit-train", "100")


class Result(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The message of a user's mistake: one or two lines, exit code 2, no traceback."""
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        _, message = re.split(r"^Error: ", self.err, flags=re.MULTILINE)
        assert len(message.splitlines()) <= 2, message
        return str(message)


Bench = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def _no_home_of_the_user_s() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("BENCH_HOME", raising=False)
        yield


@pytest.fixture(scope="session")
def bench() -> Bench:
    """bench("status", home=...): the command in this process; `home` is appended as --home."""

    def call(*arguments: object, home: Path | None = None) -> Result:
        argv = ["bench", *map(str, arguments), *([] if home is None else ["--home", str(home)])]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        return Result(code, out.getvalue(), err.getvalue())

    return call


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[], str]]:
    """server(): the socket of what starts processes warm (see warm.py), begun when the first test asks."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(serving()))


@pytest.fixture(scope="session")
def warm(server: Callable[[], str]) -> Start:
    """warm("bench", "status"), warm("script.py"), warm("-c", "..."): a process that starts with all loaded, a Popen."""

    def popen(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        return Warm(server(), *arguments, **{"env": users_environment(), **options})

    return popen


def users_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BENCH_"))}


@pytest.fixture(scope="session")
def start(warm: Start) -> Start:
    """start("run", ..., home=...): the command in a process of its own; `cwd` is the process's.

    It starts warm, unless the test is about how it starts: `cold=True` starts the command as it is installed, and
    `module=True` `python -m bench`; `path` is such a one's PYTHONPATH.
    """
    script = Path(sys.executable).with_name("bench")

    def popen(
        *arguments: object,
        home: Path | None = None,
        path: Path | str | None = None,
        module: bool = False,
        cold: bool = False,
        **options: Any,
    ) -> subprocess.Popen[str]:
        arguments += () if home is None else ("--home", home)
        options = {"stdout": PIPE, "stderr": PIPE, **options}
        if not (cold or module or path):
            return warm("bench", *arguments, **options)
        command = [sys.executable, "-m", "bench"] if module or not script.exists() else [str(script)]
        environment = users_environment() | ({} if path is None else {"PYTHONPATH": str(path)})
        return subprocess.Popen([*command, *map(str, arguments)], env=environment, text=True, **options)

    return popen


@pytest.fixture(scope="session")
def process(start: Start) -> Bench:
    """process("status", home=...): as `start`, waited for."""

    def run(*arguments: object, **options: object) -> Result:
        with start(*arguments, **options) as running:
            out, err = running.communicate(timeout=120)
        return Result(running.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def trained(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with SAT and CIARD on a hundred digits, CIARD's two teachers, and both students under `whitebox`."""

    def make(home: Path) -> None:
        for method in ("sat", "ciard"):
            result = bench("run", "--method", method, "--student", "digits-cnn", *DIGITS, home=home)
            assert result.code == 0, result
        result = bench("eval", "--suite", "whitebox", "--limit", 16, home=home)
        assert result.code == 0, result

    return once_for_all(tmp_path_factory, "trained", make)


@pytest.fixture(scope="session")
def digits() -> tuple[str, ...]:
    """Options of a run of about a second."""
    return DIGITS
