"""What `bench run` shows while it trains: a live view on a terminal, lines alone elsewhere."""

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

from bench.system.console import Reporter
from bench.training import live
from bench.training.live import LiveView

from ..helpers.commands import Bench, Start

RUN = (
    *("run", "--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "2", "--limit-train", "100", "--seed", "7"),
)


SHOWN = (
    *(r"CIARD on digits", r"epoch 2 of 2, step 2 of 2", r"[\d,]+ images/s", r"\d+ (?:s|min) left", r"kl_adv \d"),
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
    assert "Trained digits_digits-cnn_ciard_demo_s7_" in result.err


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> LiveView:
    """A view of a run of 3 epochs with 4 steps, of which 5 are done; each step took a quarter of a second."""
    clock = iter(range(100))
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock) / 4)
    found = LiveView("SAT on digits", 3, 4, 3, lambda: 90.0)
    for _ in range(2):
        found.step(16)
    return found


def test_speed_and_place(view: LiveView) -> None:
    assert view.where() == "epoch 2 of 3, step 1 of 4, 64 images/s, 2 min left"
    view.step(8)  # a smaller last batch
    assert view.speed == 24 / 0.5


def test_nothing_is_made_up_before_the_first_step() -> None:
    assert LiveView("SAT", 3, 4, 0, lambda: None).where() == "epoch 1 of 3, step 0 of 4"


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
