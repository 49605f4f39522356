"""Executes a plan in processes of this machine, several tasks at a time.

A task whose process died is started again and continues from its last checkpoint.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.jobs.session import Session
from bench.sweep.ledger import Ledger
from bench.sweep.perform import RETRIES, Report, report_of
from bench.sweep.plan import Task

_PRELOADED = ["bench.sweep.perform", "torch._dynamo", "torchattacks", "sklearn.datasets"]
"""What most tasks import: the processes are forked from one that has done so, and share its memory."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at whether a signal came."""


@dataclass(frozen=True)
class _Worker:
    """A process that does one task, and where its report arrives."""

    task: Task
    process: BaseProcess
    answer: Connection

    @classmethod
    def start(cls, context: ForkServerContext | SpawnContext, session: Session, task: Task) -> _Worker:
        answer, theirs = context.Pipe(duplex=False)
        where = (session.home.root.resolve(), Path.cwd(), session.device.type)
        process = context.Process(target=_work, args=(theirs, *where, task))
        process.start()
        theirs.close()  # so that the end of the process is the end of what arrives
        return cls(task, process, answer)

    def report(self) -> Report | None:
        """What came of the task, waited for; None where the process died."""
        try:
            report: Report = self.answer.recv()
        except (EOFError, OSError):
            return None
        else:
            return report
        finally:
            self.process.join()
            self.answer.close()


def execute(session: Session, ledger: Ledger, workers: int) -> None:
    """Do all that is not done yet, each task with one thread of the CPU; a GPU they share.

    Args:
        workers: tasks at a time.

    Raises:
        Interrupted: a signal asked to stop; all workers have saved what they had.
    """
    context = _context()
    busy: list[_Worker] = []
    deaths: Counter[int] = Counter()
    try:
        while not session.stop:
            for task in ledger.ready()[: workers - len(busy)]:
                ledger.begin(task)
                try:
                    busy.append(_Worker.start(context, session, task))
                except (EOFError, OSError):  # what forks the processes died, and starts again with the next one
                    _begin_again(ledger, task, deaths)
            if not busy and not ledger.ready():
                return
            answered = wait([worker.answer for worker in busy], timeout=_LOOK_EVERY)
            for worker in [worker for worker in busy if worker.answer in answered]:
                busy.remove(worker)
                _take(ledger, worker, deaths)
        for worker in busy:
            worker.process.terminate()  # it may not have got the signal itself
        while busy:
            _take(ledger, busy.pop(), deaths)
    finally:
        for worker in busy:
            worker.process.kill()
    session.stop.check()


def _take(ledger: Ledger, worker: _Worker, deaths: Counter[int]) -> None:
    """Enter a task that has ended into the account."""
    task, report = worker.task, worker.report()
    if report is None:
        _begin_again(ledger, task, deaths)
    else:
        ledger.take(task, report)


def _begin_again(ledger: Ledger, task: Task, deaths: Counter[int]) -> None:
    """A task whose process died is open again, a few times."""
    deaths[task.number] += 1
    if deaths[task.number] > RETRIES:
        ledger.fail(task, f"Its process died {RETRIES + 1} times, perhaps because the memory is used up.")
    else:
        ledger.reopen(task)


def _context() -> ForkServerContext | SpawnContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _work(answer: Connection, root: Path, cwd: Path, device: str, task: Task) -> None:
    """One task, in a process of its own."""
    answer.send(report_of(root, cwd, device, task))
