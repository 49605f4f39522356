"""TensorBoard: event files in the run folder's `tensorboard/`; `tensorboard --logdir results/runs` shows all runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from bench.loggers import LoggedRun, Logger


class TensorBoard(Logger):
    """Scalars and the configuration, read by `tensorboard --logdir results/runs`."""

    needs: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def begin(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"))
        if "config" not in run.memory:
            run.memory["config"] = "written"
            self._writer.add_text("config", f"```\n{json.dumps(run.config, indent=1)}\n```")

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, finished: bool) -> None:
        self._writer.close()
