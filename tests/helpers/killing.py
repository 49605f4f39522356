"""A run that is killed again and again, beside one that is not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.runs import resume
from bench.training import trainer

from ..cli.test_exact_resume import assert_same, final_state
from .commands import Bench
from .homes import Find, logged


class Killed(BaseException):
    """As a kill ends a process: nothing is saved after it."""


def ended_the_same(
    command: Sequence[object], seed: str, bench: Bench, folder: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run that nothing stopped, after a check that one killed three times ends in the same files.

    Args:
        command: trains one run in steps that save. seed: of the steps at which it is killed.
    """
    real_step, real_finish = trainer.Trainer._step, trainer.Trainer._finish
    left = 10**9

    def finish(self: trainer.Trainer) -> Any:
        self._save()
        shutil.copy(self.folder.path / resume.LAST, self.folder.path / "final.pt")
        return real_finish(self)

    def step(self: trainer.Trainer, x: Tensor, y: Tensor) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real_step(self, x, y)

    monkeypatch.setattr(trainer, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer.Trainer, "_finish", finish)
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    whole, killed = folder / "whole", folder / "killed"
    done = bench(*command, home=whole)
    assert done.code == 0, done
    draw = random.Random(seed)
    for _ in range(3):
        left = draw.randint(1, 4)  # of twelve
        with pytest.raises(Killed):
            bench(*command, home=killed)
        torch.rand(1)  # a process that begins anew has another global state
    left = 10**9
    continued = bench(*command, home=killed)
    assert continued.code == 0, continued
    assert "Continuing" in continued.err
    (one,), (other,) = runs(whole), runs(killed)
    assert_same(final_state(one), final_state(other))
    assert logged(one) == logged(other)
    names = [{path.name for path in each.glob("*.safetensors")} for each in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    return one
