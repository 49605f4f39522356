"""TensorBoard: event files in the run folder's `tensorboard/`; `tensorboard --logdir results/runs` shows all runs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from bench.loggers import LoggedRun, Logger

_FORMAT = "brain.Event:2"
"""The version of event files that TensorBoard reads; their first event says it."""


class TensorBoard(Logger):
    """Scalars and the configuration, read by `tensorboard --logdir results/runs`.

    Written in place, and not by a `SummaryWriter`: its thread would hold lines back that a kill then loses, and answer
    a full disk with a traceback of its own.
    """

    needs: ClassVar[tuple[str, ...]] = ("tensorboard",)
    install: ClassVar[str] = "Install the extra: pip install 'ard-bench[tensorboard]'"

    def begin(self, run: LoggedRun) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import text

        folder = run.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._write(file_version=_FORMAT)
        if "config" not in run.memory:
            run.memory["config"] = "written"
            self._write(summary=text("config", f"```\n{json.dumps(run.config, indent=1)}\n```"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=points))

    def end(self, finished: bool) -> None:
        self._writer.close()

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()
