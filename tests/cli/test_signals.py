"""A signal, whenever it comes: the step in hand is finished, all is saved, and the last line says how to go on."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ..helpers.commands import Bench, Sit
from ..helpers.homes import Find, logged, measured

ALLOWED = 10
"""Seconds that a batch system is sure to leave."""
RUN = (
    *("run", "--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
    *("--epochs", "4", "--limit-train", "100", "--batch-size", "5"),
)


@pytest.fixture(scope="module")
def whole(sit: Sit, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nothing stopped."""
    home = Path(shutil.copytree(trained, tmp_path_factory.mktemp("whole") / "home"))
    code, _, said = sit(*RUN, home=home)
    assert code == 0, said
    return Path(said.splitlines()[-1])


@pytest.mark.parametrize(
    ("number", "event", "count", "where"),
    [
        (signal.SIGTERM, "step", 21, "epoch 2 of 4, step "),
        (signal.SIGINT, "step", 1, "epoch 1 of 4, step "),
        (signal.SIGUSR1, "look", 1, "epoch 2 of 4, step 16 of 16"),
        (signal.SIGTERM, "look", 2, "epoch 4 of 4, step 16 of 16"),
        (signal.SIGUSR1, "flush", 8, "step "),
    ],
)
def test_training(
    sit: Sit, home: Path, whole: Path, number: signal.Signals, event: str, count: int, where: str
) -> None:
    code, seconds, said = sit(*RUN, home=home, event=event, count=count, number=number, save_seconds=0.0)
    assert code == 128 + number, said
    assert seconds < ALLOWED
    first, last = said.splitlines()[-2:]
    assert first.startswith("Stopped digits_digits-cnn_ciard_demo_s0_")
    assert where in first
    assert last == "Run the same command again to continue."
    ends_as(whole, sit(*RUN, home=home))


def ends_as(whole: Path, sitting: tuple[int, float, str]) -> None:
    """A run that was continued is the run that nothing stopped."""
    code, _, said = sitting
    assert code == 0, said
    assert "Continuing" in said
    run = Path(said.splitlines()[-1])
    for name in ("best.safetensors", "last.safetensors", "robust-teacher.safetensors"):
        ours, theirs = load_file(run / name), load_file(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert logged(run) == logged(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_does_not_end_is_lost_and_nothing_else(
    sit: Sit, home: Path, whole: Path, number: signal.Signals
) -> None:
    stuck: dict[str, Any] = {"event": "attack step", "count": 207, "step_seconds": 0.3}  # amid the 21st step's attack
    code, seconds, said = sit(*RUN, home=home, save_seconds=0.0, number=number, **stuck)
    assert code == 128 + number, said
    assert 0.3 <= seconds < 0.3 + ALLOWED
    first, last = said.splitlines()[-2:]
    assert first.startswith("Stopped digits_digits-cnn_ciard_demo_s0_")
    found = re.search(r" in step (\d+) of epoch (\d+), which took too long: that step is lost\.$", first)
    assert found is not None, first
    assert last.startswith(f"The state of epoch {found[2]}, step {int(found[1]) - 1} is saved in ")
    ends_as(whole, sit(*RUN, home=home))


def test_ctrl_c_is_answered_at_once_and_a_second_one_followed_at_once(sit: Sit, home: Path, whole: Path) -> None:
    """Amid a step that would have a minute to end."""
    answer = "Stopping after this step; Ctrl-C again: at once.\n"
    stuck: dict[str, Any] = {"event": "attack step", "count": 207, "step_seconds": 60.0, "save_seconds": 0.0}
    code, seconds, said = sit(*RUN, home=home, number=signal.SIGINT, again=answer, **stuck)
    assert code == 128 + signal.SIGINT, said
    assert seconds < ALLOWED
    assert said.endswith(answer + "\nStopped at once; what was saved is kept.\n")
    ends_as(whole, sit(*RUN, home=home))


def test_a_first_step_that_does_not_end_leaves_nothing_and_says_so(sit: Sit, home: Path, runs: Find) -> None:
    endless = (*RUN, "--set", "steps=1000000000000")
    code, seconds, said = sit(*endless, home=home, event="step", delay=0.1, number=signal.SIGTERM, step_seconds=0.3)
    assert code == 128 + signal.SIGTERM, said
    assert seconds < ALLOWED
    first, last = said.splitlines()[-2:]
    assert " in step 1 of epoch 1, which took too long" in first
    assert last.startswith("No state was saved in ")


@pytest.mark.parametrize(
    ("argv", "event", "number"),
    [
        (("profile", "--methods", "sat", "--student", "digits-cnn", "--device", "cpu"), "profile", signal.SIGINT),
        (("report", "--examples", "0"), "page", signal.SIGTERM),
        (("export", "RUN", "--format", "safetensors"), "export", signal.SIGTERM),
        (("tables",), "command", signal.SIGINT),
        (RUN, "import", signal.SIGUSR1),
    ],
)
def test_where_there_is_nothing_to_save_a_command_ends_within_two_seconds(
    sit: Sit, home: Path, runs: Find, argv: tuple[str, ...], event: str, number: signal.Signals
) -> None:
    """As one that was ended by the signal: not as one that has done its work, nor one that found a file broken."""
    name = runs(home, "_sat_")[0].name
    given = [name if word == "RUN" else word for word in argv]
    code, seconds, said = sit(*given, home=home, event=event, number=number)
    assert code == 128 + number, said
    assert seconds < 4  # two, and as much for other work on the machine
    assert "Traceback" not in said
    assert "Stopped" in said
    assert "after this step" not in said
    assert "Error" not in said
    assert not list(home.rglob("*.tmp"))


def test_in_the_midst_of_an_attack(sit: Sit, bench: Bench, home: Path, runs: Find, records: Find) -> None:
    """Not between two batches: there is only one. (AutoAttack's own: test_evaluation_commands.py.)"""
    (sat,) = runs(home, "_sat_")
    arguments = ("eval", "--suite", "whitebox", "--limit", 20, "--run", sat.name)
    other = Path(shutil.copytree(home, home.parent / "other"))
    code, seconds, said = sit(*arguments, home=home, event="pass", count=30, number=signal.SIGUSR1)
    assert code == 128 + signal.SIGUSR1, said
    assert seconds < ALLOWED
    assert "Run the same command again" in said.splitlines()[-1]
    assert not records(home, "whitebox-official-n20")
    for place in (home, other):
        assert bench(*arguments, home=place).code == 0
    ours, theirs = (records(place, "whitebox-official-n20") for place in (home, other))
    found, expected = ([measured(record) | {"environment": {}} for record in each] for each in (ours, theirs))
    assert found == expected
    assert len(ours) == 1
