"""Executes a plan on Ray: several tasks at a time, on this machine or on a cluster that shares the home's folder.

If a task's worker dies, Ray starts the task again, and it continues from its last checkpoint.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.jobs.session import Session
from bench.sweep.ledger import Ledger
from bench.sweep.perform import RETRIES, Report, report_of
from bench.sweep.plan import Task
from bench.system.signals import stop_on_signals

_LOCAL = "local"
_OBJECT_STORE = 80 * 2**20
"""Bytes for what tasks send each other, which is nothing but lines of text; about Ray's least."""
_ANSWER_SECONDS = 10.0
_LOOK_EVERY = 0.5
"""Seconds between two looks at whether a signal came."""


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs.

    Attributes:
        workers: tasks at a time; None: as many as there are processors, or room on the cluster.
        address: of a cluster that runs already; `local`: a Ray of our own on this machine.
        gpus_per_task: a share of a GPU, or several. device: for the workers: "auto", "cpu" or "cuda".
    """

    workers: int | None
    address: str
    gpus_per_task: float
    device: str


def execute(session: Session, ledger: Ledger, cluster: Cluster) -> None:
    """Do all that is not done yet.

    Raises:
        Interrupted: a signal asked to stop; all workers have saved what they had.
        BenchError: Ray is not installed, or cannot be reached.
    """
    with _ray(cluster) as ray, stop_on_signals() as stop:  # Ray's start puts a handler of its own in place of ours
        work = ray.remote(max_retries=RETRIES, num_cpus=1, num_gpus=cluster.gpus_per_task)(report_of)
        surroundings = (session.home.root.resolve(), Path.cwd(), cluster.device)
        pending: dict[Any, Task] = {}
        while not (stop or session.stop):
            for task in ledger.ready()[: cluster.workers and max(0, cluster.workers - len(pending))]:
                ledger.begin(task)
                pending[work.remote(*surroundings, task)] = task
            if not pending:
                return
            for ref in ray.wait(list(pending), timeout=_LOOK_EVERY)[0]:
                _take(ray, ledger, pending.pop(ref), ref)
        for ref in pending:
            ray.cancel(ref)  # comes as a SIGINT: the worker finishes its step and saves
        for ref, task in pending.items():
            _take(ray, ledger, task, ref)
    (stop if stop else session.stop).check()


def _take(ray: Any, ledger: Ledger, task: Task, ref: Any) -> None:
    """Enter a task that has ended into the account; one that was stopped is open again."""
    try:
        report: Report = ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        ledger.reopen(task)
        return
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())
        ledger.fail(task, f"Its worker died {RETRIES + 1} times: {reason}")
        return
    ledger.take(task, report)


@contextmanager
def _ray(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; what was started for it ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise BenchError(
            "--address needs Ray, which is not installed.\n"
            "Install it (pip install ray), or give --workers N without --address: processes of this machine."
        ) from error
    if cluster.address != _LOCAL:
        _check_address(cluster.address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "address": cluster.address}
    if cluster.address == _LOCAL:
        options |= {"num_cpus": cluster.workers, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    try:
        ray.init(**options)
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreachable(cluster.address, error) from error
    try:
        _check_gpus(ray, cluster)
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try it for ever."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> BenchError:
    where = "start Ray" if address == _LOCAL else f"reach Ray at {address}"
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return BenchError(f"Cannot {where}: {reason}.\nStart it with `ray start`, or give --workers N without --address.")


def _check_gpus(ray: Any, cluster: Cluster) -> None:
    """Refuse what would wait for ever; a cluster may still grow the GPUs it lacks."""
    there = ray.cluster_resources().get("GPU", 0)
    if cluster.address == _LOCAL and there < cluster.gpus_per_task:
        raise BenchError(
            f"--gpus-per-task {cluster.gpus_per_task:g}: Ray sees {there:g} GPUs here.\n"
            "Give a smaller share, 0 for none, or the --address of a cluster that has some."
        )
