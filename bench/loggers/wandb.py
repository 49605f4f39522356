"""Weights & Biases: one run there for a run here, whatever the number of sittings.

What wandb reads from its environment holds: WANDB_PROJECT (else `ard-bench`), WANDB_ENTITY, WANDB_MODE=offline.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import ClassVar

from bench.loggers import LoggedRun, Logger


class WandB(Logger):
    """A run at Weights & Biases, or files for `wandb sync` with WANDB_MODE=offline."""

    needs: ClassVar[tuple[str, ...]] = ("wandb",)
    install: ClassVar[str] = "Install the extra: pip install 'ard-bench[wandb]'"

    def begin(self, run: LoggedRun) -> None:
        import wandb

        # Of its own and not the run's id: a run that is restarted is another one there.
        identity = run.memory.setdefault("id", secrets.token_hex(6))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ard-bench"),
            id=identity,
            name=run.id,
            config=dict(run.config),
            dir=str(run.folder),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )
        # wandb's own step takes one line a step; ours has two where an epoch ends.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({"step": step, **values})

    def end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
