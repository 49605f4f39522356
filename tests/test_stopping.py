"""A wish to stop is noted, heard wherever work takes long, and changes nothing else."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.data.dataset import Dataset
from bench.home import Home
from bench.reporting import Reporter
from bench.session import Session
from bench.stopping import SIGNALS, Interrupted, StopRequest, interruptible, stop_on_signals


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


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


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

    monkeypatch.setattr("bench.session.load_dataset", slow)
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
