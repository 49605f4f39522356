"""What all tests share: networks trained for seconds, records made to order, commands as users give them.

Most commands run in this process, through the same `main` that the installed `bench` calls: to import PyTorch anew for
each would take minutes. What is about processes (signals, locks, plug-ins, the import path) runs in processes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .helpers.commands import DIGITS, Bench, Mount, Process, Result, Start, run_here, users_environment
from .helpers.homes import Contents, Find, once_for_all
from .helpers.hub import Hub, running
from .helpers.networks import DigitsModel, fit
from .helpers.places import DEMO_RECORDS
from .helpers.records import RecordMaker
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


@pytest.fixture
def make_record() -> RecordMaker:
    """Makes records to order, each with a number of its own in its id."""
    return RecordMaker()


@pytest.fixture(scope="session")
def demo_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's records of the defenses of Tables 3 to 7, as if both students had trained as long."""
    from bench.records.files import read_records, write_record

    folder = tmp_path_factory.mktemp("demo-records")
    for record in read_records(DEMO_RECORDS):
        setting = re.sub("[58] epochs", "12 epochs", record.subject.setting)
        if "4 epochs" not in setting and "pgd-sat@1.5x" not in record.results:
            subject = record.subject.model_copy(update={"setting": setting})
            write_record(record.model_copy(update={"subject": subject}), folder)
    return folder


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> DigitsModel:
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
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on the loopback that `hf:` names are of, with downloads in a folder of their own."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra `hf` is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "downloads"))
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def quick_autoattack(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack with a tenth of its iterations and a fifth of its queries (test_library_attacks.py has them all)."""
    import pyautoattack

    real = pyautoattack.AutoAttack.__init__

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 10
        self.apgd.n_iter_orig = self.apgd_targeted.n_iter_orig = 10  # what L1 divides among its balls
        self.square.n_queries = 1000

    monkeypatch.setattr(pyautoattack.AutoAttack, "__init__", made)


@pytest.fixture(scope="session", autouse=True)
def _no_home_of_the_user_s() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("BENCH_HOME", raising=False)
        yield


@pytest.fixture(scope="session")
def bench() -> Bench:
    """bench("status", home=...): the command in this process; `home` is appended as --home."""
    return run_here


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
def process(start: Start) -> Process:
    """process("status", home=...): as `start`, waited for."""

    def run(*arguments: object, home: Path | None = None, **options: Any) -> Result:
        with start(*arguments, home=home, **options) as running:
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


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` to do with as a test likes."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


@pytest.fixture(scope="session")
def runs() -> Find:
    """runs(home, "sat"): the run folders of a home with that in their names."""

    def find(home: Path, kind: str = "") -> list[Path]:
        return sorted(path for path in (home / "results" / "runs").iterdir() if kind in path.name)

    return find


@pytest.fixture(scope="session")
def records() -> Find:
    """records(home, "sat"): the records of a home with that in their names; of last weights only where it is of these.

    `bench eval` makes one of a run's best and one of its last weights; a test that asks for no `-last` is of the best.
    """

    def find(home: Path, kind: str = "") -> list[Path]:
        named = (path for path in (home / "results" / "records").glob("*.json") if kind in path.name)
        return sorted(path for path in named if "-last" in kind or "-last-" not in path.name)

    return find


@pytest.fixture(scope="session")
def contents() -> Contents:
    """contents(folder): every file below it, when it was changed and its bytes."""

    def read(folder: Path) -> dict[str, tuple[int, bytes]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    return read
