"""Processes of one run that end, stop or wait: said with their numbers, and never waited for without end."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch.distributed as dist

from bench.compute import peers
from bench.compute.peers import Peers
from bench.system.signals import StopRequest

from .test_ranks import Start, environments

LOOP = """
import sys, torch
from bench.compute import peers
from bench.cli import main
from bench.compute.ranks import joined, ranks

peers._BEAT, peers._SILENCE = 0.2, 2.0

def work(stop):
    from bench.errors import BenchError
    try:
        with joined(torch.device("cpu"), step_timeout=float(sys.argv[1])) as own, own.in_step():
            print("ready", flush=True)
            while True:
                ranks().agree(False)
    except BenchError as error:
        return 2, f"Error: {error}"

main._run = work
main.main()
"""


def two(warm: Start, timeout: float) -> list[subprocess.Popen[str]]:
    """Two processes that make steps together until something happens."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    found = [warm("-c", LOOP, timeout, env=each, **pipes) for each in environments(2)]
    for process in found:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_gone_is_named_and_the_others_end(warm: Start, number: signal.Signals) -> None:
    first, second = two(warm, 600 if number == signal.SIGKILL else 4)
    try:
        time.sleep(0.5)
        second.send_signal(number)
        _, error = first.communicate(timeout=60)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    assert first.returncode == 2, error
    said = [line for line in error.splitlines() if "number 1 (counted from 0)" in line]
    assert len(said) == 1, error
    assert error.splitlines()[-1] == peers.GO_ON
    assert "Traceback" not in error


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Peers, Peers]:
    """Two processes' watches on one store, which look often and are patient: the machine may have other work."""
    for name, seconds in (("_BEAT", 0.02), ("_SILENCE", 10.0), ("_SAID_EVERY", 10.0)):
        monkeypatch.setattr(peers, name, seconds)
    store = dist.HashStore()
    return Peers(store, 0, 2, 600, StopRequest()), Peers(store, 1, 2, 600, StopRequest())


def soon(holds: Callable[[], object]) -> bool:
    """Whether something comes to hold before long."""
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(holds())


def test_who_lives_is_not_missing_and_who_has_ended_is(pair: tuple[Peers, Peers]) -> None:
    first, second = pair
    with first.watched():
        with second.watched():
            assert soon(lambda: len(first.seen) == len(second.seen) == 2)
            assert first.missing() == second.missing() == []
        assert soon(lambda: first.missing() == [1])


def test_a_wait_is_said_and_outside_training_it_may_last(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_SAID_EVERY", 0.1)
    first, second = pair
    said: list[str] = []
    monkeypatch.setattr(first, "_say", said.append)
    with first.watched(), second.watched():
        time.sleep(0.3)
        assert not said
        with first.in_step():
            assert soon(lambda: said)
    assert "the run ends after 600 (--step-timeout)" in said[0]


def test_steps_keep_it_quiet(pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = pair
    said: list[str] = []
    monkeypatch.setattr(first, "_say", said.append)
    with first.in_step():
        assert first.stepped_at is not None
        monkeypatch.setattr(peers, "_SAID_EVERY", -1.0)
        first._judge()
        assert len(said) == 1
        first.stepped_at -= 100
        monkeypatch.setattr(peers, "_SAID_EVERY", 60.0)
        first.stepped()
        first._judge()
        assert len(said) == 1


def test_who_follows_another_is_not_taken_for_the_one_that_ended(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    with first.watched():
        with second.watched():
            monkeypatch.setattr(peers, "_SILENCE", 0.1)  # what `gone` waits for
            second.gone()
        assert first.seen[1][0] != "ended"


@pytest.mark.parametrize("training", [True, False])
def test_a_process_that_waits_inside_pytorch_ends_some_time_after_a_signal(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], training: bool
) -> None:
    monkeypatch.setattr(peers, "_STOP_SECONDS", 0.2)
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    _, second = pair
    with second.watched(), second.in_step() if training else nullcontext():
        time.sleep(0.4)
        assert not ended
        second.stop.note(signal.SIGTERM)
        assert soon(lambda: ended)
        assert second.stop.age > 0.2
    assert ended[0] == 128 + signal.SIGTERM
    assert "Stopped" in capsys.readouterr().err


def test_the_first_process_may_finish_what_it_does_for_all(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_STOP_SECONDS", 0.1)
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    first, _ = pair
    with first.watched():
        first.stop.note(signal.SIGTERM)
        time.sleep(0.4)
    assert not ended
