"""Executes a plan in this process, one task after the other."""

from __future__ import annotations

from bench.jobs.session import Session
from bench.sweep.ledger import Ledger
from bench.sweep.perform import Failure, perform


def execute(session: Session, ledger: Ledger) -> None:
    """Do all that is not done yet.

    Raises:
        Interrupted: a signal asked to stop; all is saved.
    """
    while ready := ledger.ready():
        session.stop.check()
        task = ready[0]
        ledger.begin(task)
        try:
            perform(session, task)
        except Failure as failure:
            ledger.fail(task, str(failure))
        else:
            ledger.finish(task)
