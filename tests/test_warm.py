"""A process that starts warm is one like any other: a child of ours, with its own folder, environment and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from .helpers.commands import Bench, Start
from .warm import bench_for_shells

TELL = """
import os, signal, sys
print(sys.argv, os.getpid(), os.getppid(), os.getcwd(), os.environ["OWN"], "HOME" in os.environ, sep="\\n")
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
assert len(os.listdir("/proc/self/fd")) == 4  # its streams, and what lists them
import torch
print(torch.get_num_threads())
"""


def test_it_is_what_was_asked_for(warm: Start, tmp_path: Path) -> None:
    environment = {"OWN": "x", "OMP_NUM_THREADS": "2"}
    with warm("-c", TELL, "a b", cwd=tmp_path, env=environment, stdout=PIPE, stderr=PIPE) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines() == [
        "['-c', 'a b']", str(process.pid), str(os.getpid()), str(tmp_path.resolve()), "x", "False", "2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "ends", "says"),
    [
        ("print('out'); raise SystemExit", 0, ""),
        ("import atexit; atexit.register(print, 'out'); raise SystemExit(3)", 3, ""),
        ("import threading; threading.Timer(0.05, print, ['out']).start(); raise SystemExit('words')", 1, "words"),
        ("print('out'); 1 / 0", 1, "ZeroDivisionError"),
        ("import os; print('out', flush=True); os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("import os; print('out'); os.kill(os.getpid(), 2)", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_it_ends_as_an_interpreter_does(warm: Start, code: str, ends: int, says: str) -> None:
    cold = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    with warm("-c", code, stdout=PIPE, stderr=PIPE) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (cold.returncode, cold.stdout) == (ends, "out\n")
    assert says in err
    assert bool(err) == bool(cold.stderr)


def test_it_gets_signals(warm: Start) -> None:
    with warm("-c", "print('there', flush=True); import time; time.sleep(60)", stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert process.poll() is None
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_shell_s_bench_ends_as_the_command_and_hands_it_signals(
    server: Callable[[], str], tmp_path: Path, bench: Bench
) -> None:
    bench_for_shells(tmp_path, server())
    options: dict[str, Any] = {"env": os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, "text": True}
    done = subprocess.run(["bash", "-c", "exec bench list methods --json"], capture_output=True, **options)
    assert (done.returncode, done.stdout) == (0, bench("list", "methods", "--json").out)
    assert subprocess.run(["bash", "-c", "bench lits"], capture_output=True, **options).returncode == 2
    run = f"exec bench run --method sat --student digits-cnn --dataset digits --recipe demo --home {tmp_path}"
    with subprocess.Popen(["bash", "-c", run], stdout=PIPE, stderr=PIPE, **options) as process:
        while not list(tmp_path.glob("results/runs/*/lock")):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Stopped" in err
