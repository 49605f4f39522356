"""A wish to stop is noted, heard wherever work takes long, and changes nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from torch import nn

from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.jobs.session import Session
from bench.system.console import Reporter
from bench.system.home import Home
from bench.system.signals import SIGNALS, Interrupted, StopRequest, interruptible, stop_on_signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_nothing_ends(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with stop_on_signals() as stop:
        assert not stop
        stop.check()
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(Interrupted, match="Run the same command again") as caught:
            stop.check()
    assert caught.value.exit_code == 128 + number
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_batch_systems_send_their_signals_several_times(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        for each in (number, number, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), each)
        assert stop


DEAF = """
import hashlib
from bench.system.signals import stop_on_signals
with stop_on_signals():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call of minutes, which looks at no signal
"""


def test_a_second_ctrl_c_ends_it_at_once_even_where_the_main_thread_is_deaf() -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=PIPE, stderr=PIPE, text=True) as process:
        ended = threading.Timer(20, process.kill)
        ended.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
        ended.cancel()
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert error.split("\n") == ["", "Stopped at once; what was saved is kept.", ""]


def test_work_in_one_call_of_minutes_is_ended_a_few_seconds_after_the_signal() -> None:
    program = DEAF.replace("with stop_on_signals():", "with stop_on_signals() as stop, stop.at_once():")
    program = program.replace("with", "from bench.system import signals\nsignals._REMIND = 0.1\nwith", 1)
    with subprocess.Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE, text=True) as process:
        ended = threading.Timer(20, process.kill)
        ended.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.terminate()
        _, error = process.communicate()
        ended.cancel()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in error


def test_a_forked_process_hears_its_own_signals_alone() -> None:
    with stop_on_signals() as stop:
        child = os.fork()
        if child == 0:
            for number in SIGNALS:
                signal.signal(number, lambda *_: None)
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.05)
        assert not stop


def test_the_first_signal_is_the_one_that_is_named() -> None:
    with stop_on_signals() as stop:
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.interrupt("").exit_code == 128 + signal.SIGUSR1


def test_work_that_ends_soon_after_a_signal_is_not_broken_off() -> None:
    with stop_on_signals() as stop:
        with stop.within(60):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        assert stop


def test_work_that_outlasts_its_time_is_broken_off_where_it_is() -> None:
    def work(stop: StopRequest) -> None:
        with stop.within(0.2, "That is lost."):
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                sum(range(1000))  # no call of ours, no pass through a network

    started = time.monotonic()
    with stop_on_signals() as stop, pytest.raises(Interrupted, match=r"That is lost\."):
        work(stop)
    assert 0.2 <= time.monotonic() - started < 10


def test_work_that_swallows_what_breaks_it_off_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.system.signals._REMIND", 0.1)

    def work(stop: StopRequest) -> None:
        with stop.at_once():
            with suppress(Exception):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)

    started = time.monotonic()
    with stop_on_signals() as stop, pytest.raises(Interrupted):
        work(stop)
    assert time.monotonic() - started < 15


def test_an_import_that_a_signal_broke_is_no_broken_file() -> None:
    def load(stop: StopRequest) -> None:
        with stop.at_once():
            try:
                stop.note(signal.SIGTERM)
            except Exception as error:  # as whoever loads a plug-in's code does
                raise BenchError("The plug-in is broken.") from error

    with pytest.raises(Interrupted) as caught:
        load(StopRequest())
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_where_there_is_nothing_to_save_a_signal_stops_at_once() -> None:
    def slow_work(stop: StopRequest) -> None:
        with stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            pytest.fail("it went on")

    with stop_on_signals() as stop, pytest.raises(Interrupted):
        slow_work(stop)


def test_a_signal_that_something_swallowed_is_heard_afterwards() -> None:
    def work(stop: StopRequest) -> None:
        with stop.at_once(), suppress(Interrupted):
            stop.note(signal.SIGTERM)

    with pytest.raises(Interrupted):
        work(StopRequest())


def test_a_signal_of_before_is_heard_at_the_beginning() -> None:
    def work(stop: StopRequest) -> None:
        with stop.at_once():
            pytest.fail("it began")

    stop = StopRequest()
    stop.note(signal.SIGTERM)
    with pytest.raises(Interrupted):
        work(stop)


def test_waiting_ends_with_the_signal() -> None:
    started = time.monotonic()
    with stop_on_signals() as stop:
        stop.pause(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted):
            stop.pause(60)
    assert time.monotonic() - started < 5


def test_loading_a_dataset_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()

    def slow(spec: str, root: Path) -> Dataset:
        stop.note(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setattr("bench.jobs.session.load_dataset", slow)
    with pytest.raises(Interrupted):
        Session(Home(tmp_path), torch.device("cpu"), Reporter(), stop).dataset("digits")


def test_a_network_is_interruptible_within_the_block_alone() -> None:
    network, stop = nn.Linear(2, 2), StopRequest()
    with interruptible(network, stop.check):
        network(torch.zeros(1, 2))
        stop.note(signal.SIGTERM)
        with pytest.raises(Interrupted):
            network(torch.zeros(1, 2))
    network(torch.zeros(1, 2))


def test_signals_that_others_listen_to_are_not_ours() -> None:
    """A DataLoader, say, has a handler for SIGCHLD."""
    heard: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: heard.append(number))
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGCHLD)
            time.sleep(0.2)
            assert heard == [signal.SIGCHLD]
            assert not stop
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_end_of_the_block_does_not_wait_for_a_forked_process() -> None:
    with stop_on_signals():
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_what_nobody_answered_within_is_heard_around_it() -> None:
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner
            assert not outer
        assert outer.signal_number == signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "Stopping after this step; Ctrl-C again: at once."),
        (signal.SIGTERM, "SIGTERM: stopping after this step."),
    ],
)
def test_a_signal_is_answered_once_where_work_goes_on(number: signal.Signals, said: str) -> None:
    heard: list[str] = []
    with stop_on_signals() as stop:
        stop.tell = heard.append
        for each in (number, signal.SIGUSR1):
            os.kill(os.getpid(), each)
        until = time.monotonic() + 20
        while not heard and time.monotonic() < until:
            time.sleep(0.01)
    assert heard == [said]


def test_what_ends_at_once_gives_no_other_answer() -> None:
    heard: list[str] = []

    def work(stop: StopRequest) -> None:
        stop.tell = heard.append
        with stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(Interrupted), stop_on_signals() as stop:
        work(stop)
    assert heard == []
