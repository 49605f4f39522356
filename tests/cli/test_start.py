"""How soon the command answers: what it imports before it knows what is asked, in processor time."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..helpers.places import DEMO_RECORDS


def processor_seconds(*arguments: str) -> float:
    """What a fresh interpreter takes, the best of three: waiting for other work is not in it, cold caches are."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("arguments", [("-c", "import bench"), ("-m", "bench", "--help")], ids=" ".join)
def test_it_answers_within_half_a_second(arguments: tuple[str, ...]) -> None:
    assert processor_seconds(*arguments) < 0.5


IMPORTED = """
import sys
from importlib import import_module
from pkgutil import iter_modules
for package in map(import_module, ("bench.analysis", "bench.records", "bench.stats", "bench.tables")):
    for module in iter_modules(package.__path__, package.__name__ + "."):
        import_module(module.name)
import bench.jobs.status
assert "torch" not in sys.modules
"""


def test_what_reads_results_imports_no_pytorch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOOKING = """
import sys
from pathlib import Path
from bench.cli.main import main
home, first, second = sys.argv[1:]
looks = (["status"], ["results", "list"], ["teacher", "list"], ["list", "recipes"], ["compare", first, second])
for command in (*looks, ["power", first, second], ["tables"], ["report", "--examples", "0"]):
    sys.argv = ["bench", *command, "--home", home]
    main()
    assert "torch" not in sys.modules, command
"""


def test_who_looks_at_results_waits_for_no_pytorch(tmp_path: Path) -> None:
    records = sorted(DEMO_RECORDS.glob("*_s0_*whitebox*"))[:3]
    (tmp_path / "results" / "records").mkdir(parents=True)
    for record in records:
        shutil.copy(record, tmp_path / "results" / "records")
    pair = [record.name.partition("__")[0] for record in records[:2]]
    done = subprocess.run([sys.executable, "-c", LOOKING, str(tmp_path), *pair], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
