"""Executes a plan in processes of this machine, several tasks at a time."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.jobs.session import Session
from bench.sweep import at_once
from bench.sweep.ledger import Ledger
from bench.sweep.perform import Report, report_of
from bench.sweep.plan import Task

_PRELOADED = ["bench.sweep.perform", "torch._dynamo", "torchattacks", "sklearn.datasets"]
"""What most tasks import: the processes are forked from one that has done so, and share its memory."""


def execute(session: Session, ledger: Ledger, workers: int) -> None:
    """Do all that is not done yet, each task with one thread of the CPU; a GPU they share.

    Args:
        workers: tasks at a time.

    Raises:
        Interrupted: a signal asked to stop; all workers have saved what they had.
    """
    context = _context()
    where = (session.home.root.resolve(), Path.cwd(), session.device.type)

    def start(task: Task) -> at_once.Begun:
        answer, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, *where, task))
        try:
            process.start()
        except (EOFError, OSError):  # what forks the processes died, and starts again with the next one
            return lambda: _report(None, answer), lambda: None
        finally:
            theirs.close()  # so that the end of the process is the end of what arrives
        return lambda: _report(process, answer), process.terminate  # it may not have got the signal itself

    at_once.execute(ledger, start, workers, lambda: bool(session.stop))
    session.stop.check()


def _report(process: BaseProcess | None, answer: Connection) -> Report:
    """What came of the task, waited for."""
    try:
        report: Report = answer.recv()
    except (EOFError, OSError) as error:
        raise at_once.Died from error
    else:
        return report
    finally:
        if process is not None:
            process.join()
        answer.close()


def _context() -> ForkServerContext | SpawnContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _work(answer: Connection, root: Path, cwd: Path, device: str, task: Task) -> None:
    """One task, in a process of its own."""
    answer.send(report_of(root, cwd, device, task))
