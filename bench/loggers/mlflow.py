"""MLflow: one run there for a run here, whatever the number of sittings.

Where it is kept is MLflow's to say (MLFLOW_TRACKING_URI); the experiment is MLFLOW_EXPERIMENT_NAME, else `ard-bench`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import ClassVar

from bench.loggers import LoggedRun, Logger

_LONGEST_VALUE = 500


class MLflow(Logger):
    """A run in MLflow's tracking store."""

    needs: ClassVar[tuple[str, ...]] = ("mlflow",)
    install: ClassVar[str] = "Install it beside: pip install mlflow (docs/monitoring.md)"

    def begin(self, run: LoggedRun) -> None:
        # A server that is away must not hold up the training for the hour that MLflow's own defaults come to.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        if "id" in run.memory:
            self._client.update_run(run.memory["id"], status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ard-bench")
            experiment = self._client.get_experiment_by_name(name)
            where = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
            run.memory["id"] = self._client.create_run(where, run_name=run.id).info.run_id
            parameters = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in run.config.items()]
            self._client.log_batch(run.memory["id"], params=parameters)
        self._id = run.memory["id"]

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def end(self, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")
