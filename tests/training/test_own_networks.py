"""Networks of a method's own, a run of which is killed: it ends the same, and keeps them beside the student."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from bench.recipes import hyperparameters
from bench.runs import resume
from bench.training import trainer

from ..cli.test_exact_resume import assert_same, final_state
from ..helpers.commands import Bench
from ..helpers.homes import Find, logged
from .test_averaging import EMA, command_of


class Killed(BaseException):
    """As a kill ends a process: nothing is saved after it."""


CASES = {
    "peer": ("peeraid", (*EMA, "training.awp.gamma=0.01", "training.optimizer.clip=1.0", "steps=1")),
    "guide": ("lbgat", ("guide=digits-mobile", "steps=1")),
    "mean-teacher": ("adr", ("steps=1",)),
}  # fmt: skip


def _own(method: str) -> list[str]:
    """Networks of a method's own."""
    return list(hyperparameters.make(method, {}).companions())


@pytest.mark.parametrize("case", CASES)
def test_a_run_keeps_average_and_plain_network_and_ends_the_same_when_killed(
    case: str, bench: Bench, tmp_path: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, settings = CASES[case]
    command = command_of(method, *settings)
    real_step, real_finish = trainer.Trainer._step, trainer.Trainer._finish

    def finish(self: trainer.Trainer) -> Any:
        self._save()
        shutil.copy(self.folder.path / resume.LAST, self.folder.path / "final.pt")
        return real_finish(self)

    left = 10**9

    def step(self: trainer.Trainer, x: Tensor, y: Tensor) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real_step(self, x, y)

    monkeypatch.setattr(trainer, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer.Trainer, "_finish", finish)
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert bench(*command, home=whole).code == 0
    draw = random.Random(case)
    for _ in range(3):
        left = draw.randint(1, 4)
        with pytest.raises(Killed):
            bench(*command, home=killed)
    left = 10**9
    continued = bench(*command, home=killed)
    assert continued.code == 0, continued
    assert "Continuing" in continued.err
    (one,), (other,) = runs(whole), runs(killed)
    assert_same(final_state(one), final_state(other))
    assert logged(one) == logged(other)
    files = {path.stem: path for path in one.glob("*.safetensors")}
    final = final_state(one)
    assert ("companions" in final) == (case in _own(method))
    assert files.keys() - {case} == {"best", "last", *(("best-plain", "last-plain") if "average" in final else ())}
    for name, path in files.items():
        assert path.read_bytes() == (other / path.name).read_bytes()
        with safe_open(path, framework="pt") as file:
            assert ("average" in file.metadata()) == (name in ("best", "last") and "average" in final)
    for name in _own(method):
        torch.testing.assert_close(load_file(files[name]), dict(final["companions"][name]), rtol=0, atol=0)
        assert all("running" not in key or value.abs().max() > 0 for key, value in final["companions"][name].items())
    if "average" not in final:
        torch.testing.assert_close(load_file(files["last"]), dict(final["student"]), rtol=0, atol=0)
        return
    torch.testing.assert_close(load_file(files["last-plain"]), dict(final["student"]), rtol=0, atol=0)
    average = {name.removeprefix("network."): value for name, value in final["average"]["network"].items()}
    torch.testing.assert_close(load_file(files["last"]), average, rtol=0, atol=0)
    plain = load_file(files["last-plain"])
    assert any(not torch.equal(value, plain[name]) for name, value in load_file(files["last"]).items())
