"""Executes a plan several tasks at a time: what processes of this machine and Ray have in common.

A task whose process died is begun again, a few times, and continues from its last checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from bench.sweep.ledger import Ledger
from bench.sweep.perform import Report
from bench.sweep.plan import Task

RETRIES = 3
"""How often a task is begun again after its process died."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at whether a signal came."""

Begun = tuple[Callable[[], Report], Callable[[], object]]
"""Of a task in a process of its own: waits for its report, in a thread; has it finish its step and save."""


class Died(Exception):
    """The process of a task ended without a report; the text says what is known of why."""


def execute(ledger: Ledger, start: Callable[[Task], Begun], most: int | None, stopped: Callable[[], bool]) -> None:
    """Do all that is not done yet, until `stopped`; then all have saved what they had.

    Args:
        start: begins a task; it and the wait for the report raise `Died`.
        most: tasks at a time; None: as many as are ready.
    """
    busy: dict[Future[Report], tuple[Task, Callable[[], object]]] = {}
    deaths: Counter[int] = Counter()

    def take(task: Task, report: Callable[[], Report]) -> None:
        try:
            ledger.take(task, report())
        except Died as death:
            deaths[task.number] += 1
            if deaths[task.number] <= RETRIES:
                ledger.reopen(task)
                return
            why = f": {death}" if str(death) else ", perhaps because the memory is used up."
            ledger.fail(task, f"Its process died {RETRIES + 1} times{why}")

    with ThreadPoolExecutor(len(ledger.plan)) as threads:
        try:
            while not stopped():
                for task in ledger.ready()[: most and max(0, most - len(busy))]:
                    ledger.begin(task)
                    report, stop = start(task)
                    busy[threads.submit(report)] = task, stop
                if not busy:
                    return
                for future in wait(busy, _LOOK_EVERY, FIRST_COMPLETED).done:
                    take(busy.pop(future)[0], future.result)
        finally:
            for _, stop in busy.values():
                stop()
        for future, (task, _) in busy.items():
            take(task, future.result)
