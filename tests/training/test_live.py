"""What `bench run` shows while it trains: a live view on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios
from pathlib import Path

import pytest
from rich.console import Console

from bench.system.console import LOG_SECONDS, Lines, Reporter
from bench.training.live import LiveView

from ..helpers.commands import Bench, Start

RUN = (
    *("run", "--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "2", "--limit-train", "100", "--seed", "7"),
)


SHOWN = (
    *(r"CIARD on digits", r"epoch 2 of 2, step 2 of 2, [\d,]+ images/s", r"kl_adv \d"),
    r"accuracy, epoch 2",
    *(rf"{network} +\d+\.\d% +\d+\.\d%" for network in ("student", "robust teacher", "clean teacher")),
)
"""What the live view of the run has in it, in the end."""


def in_a_terminal(warm: Start, *arguments: object) -> str:
    """What a command writes to a terminal of 120 columns."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    environment |= {"TERM": "xterm-256color"}
    for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)
    with warm("bench", *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way to say that nobody writes there any more
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_a_terminal_shows_where_the_run_is_and_clears_it_away(warm: Start, home: Path) -> None:
    written = in_a_terminal(warm, *RUN, "--home", home)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    for shown in SHOWN:
        assert re.search(shown, plain), (shown, plain)
    assert "\x1b[2K" in written  # the view is erased, and the cursor shown again
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert plain.rstrip().splitlines()[-1].split("/")[-1].startswith("digits_digits-cnn_ciard_demo_s7_")


def test_elsewhere_there_are_lines_alone(bench: Bench, home: Path) -> None:
    result = bench(*RUN, home=home)
    assert result.code == 0, result
    assert "\x1b" not in result.out + result.err
    assert "\r" not in result.out + result.err
    for shown in SHOWN:
        assert not re.search(shown, result.err), (shown, result.err)
    number = r"\d[\d.,e-]*"
    lines = [line for line in result.err.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    # The recipe looks at every second epoch.
    assert re.fullmatch(rf"epoch 1/2: loss {number}, {number} images/s(, {number} s left)?", lines[0])
    assert re.fullmatch(rf"epoch 2/2: loss {number}, clean {number}%, robust {number}%, {number} images/s", lines[1])
    assert "Trained digits_digits-cnn_ciard_demo_s7_" in result.err


class Clock:
    """Stands in for the time that a view reads."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("bench.training.live.time", clock)
    return clock


def take(view: LiveView, clock: Clock, steps: int, seconds: float, images: int = 16) -> None:
    for _ in range(steps):
        clock.now += seconds
        view.step(images)


@pytest.fixture
def view(clock: Clock) -> LiveView:
    """A view of a run of 3 epochs with 4 steps, of which 6 are done, 3 in this sitting.

    Each step took a quarter of a second, but for the first two of this sitting.
    """
    found = LiveView("SAT on digits", 3, 4, 3)
    found.begin_epoch()
    take(found, clock, 2, 60)
    take(found, clock, 1, 0.25)
    return found


def test_speed_and_place(view: LiveView, clock: Clock) -> None:
    take(view, clock, 1, 0.25, images=8)  # a smaller last batch
    assert view.where() == f"epoch 2 of 3, step 3 of 4, {40 / 60.5:,.0f} images/s, 1 s left"
    assert view.speed == 40 / 60.5


def test_the_time_left_is_by_the_steps_after_the_first_two(view: LiveView, clock: Clock) -> None:
    assert view.seconds_left == 6 * 0.25
    clock.now += 10  # a look at the networks, which comes again
    assert view.seconds_left == 6 * 10.25


def test_a_line_of_an_epoch(view: LiveView, clock: Clock) -> None:
    view.begin_epoch()
    take(view, clock, 2, 0.5)
    view.end_epoch()
    clock.now += 100  # the look is not training
    accuracy = {"student": {"clean": 0.5, "robust": 0.25}, "clean teacher": {"clean": 0.9, "robust": 0.0}}
    line = {"epoch": 2, "terms": {"loss": 1.25, "kl": 0.5}, "accuracy": accuracy}
    assert view.epoch_line(line) == "epoch 2/3: loss 1.25, clean 50.0%, robust 25.0%, 32 images/s, 2 min left"
    assert view.epoch_line(line | {"accuracy": None}) == "epoch 2/3: loss 1.25, 32 images/s, 2 min left"


def test_a_line_amid_an_epoch_has_a_loss_of_this_epoch_alone(view: LiveView) -> None:
    view.line({"kind": "steps", "epoch": 2, "terms": {"loss": 1.25}})
    assert view.step_line().startswith("epoch 2/3, step 2/4: loss 1.25, ")
    view.begin_epoch()
    assert "loss" not in view.step_line()


def test_the_expected_time_is_said_once_and_where_it_is_long(clock: Clock) -> None:
    view = LiveView("SAT on digits", 300, 400, 0)
    said = []
    for _ in range(10):
        take(view, clock, 1, 0.5)
        said.append(view.expected())
    assert [text for text in said if text] == ["SAT on digits: 300 epochs of 400 steps, about 16.7 h to go."]
    assert said.index(view.title + ": 300 epochs of 400 steps, about 16.7 h to go.") == 6
    slow = LiveView("SAT", 300, 400, 0)
    take(slow, clock, 3, 100)  # one step tells, where a step takes minutes
    assert slow.expected() is not None
    short = LiveView("SAT", 3, 4, 0)
    take(short, clock, 7, 0.1)
    assert short.expected() is None


def test_a_device_is_waited_for_where_time_is_taken(clock: Clock) -> None:
    waits: list[int] = []
    watched = LiveView("SAT", 3, 400, 0, lambda: waits.append(watched.done))
    take(watched, clock, 50, 0.1)
    assert waits == [2, 7]


def test_nothing_is_made_up_before_the_first_step() -> None:
    assert LiveView("SAT", 3, 4, 0).where() == "epoch 1 of 3, step 0 of 4"


def test_an_epoch_of_hours_has_lines_in_between(bench: Bench, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.trainer._LINE_SECONDS", 0)
    result = bench(*RUN, "--method", "sat", home=home)
    for place in ("epoch 1/2, step 1/2: ", "epoch 1/2, step 2/2: ", "epoch 1/2: ", "epoch 2/2, step 1/2: "):
        assert [line for line in result.err.splitlines() if line.startswith(place)], (place, result.err)


def test_a_worker_of_a_sweep_writes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    monkeypatch.setattr("bench.system.console.time", clock)
    worker = Lines("[3]")
    worker.log("epoch 1/9")
    clock.now += LOG_SECONDS
    worker.log("epoch 2/9")
    worker.log("epoch 3/9")
    worker.say("Trained.")
    assert capsys.readouterr().err == "[3] epoch 2/9\n"
    assert worker.lines == ["Trained."]


def test_of_several_processes_one_writes(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter.silent().log("epoch 1/9")
    assert capsys.readouterr().err == ""


def test_names_are_not_read_as_markup(view: LiveView) -> None:
    stream = io.StringIO()
    view.title = "[red]SAT[/red] on parquet:[x]"
    view.line(
        {"kind": "epoch", "epoch": 1, "terms": {"[b]": 1.5}, "accuracy": {"student": {"clean": 0.5, "robust": 0}}}
    )
    Console(file=stream, width=200).print(view)
    assert "[red]SAT[/red] on parquet:[x]" in stream.getvalue()
    assert "[b] 1.5" in stream.getvalue()


def test_no_terminal_no_view(view: LiveView) -> None:
    stream = io.StringIO()
    with Reporter(Console(file=stream)).live(view):
        view.step(16)
    assert stream.getvalue() == ""
