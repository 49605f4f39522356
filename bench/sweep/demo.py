"""`bench demo`: the whole way from training to tables on handwritten digits, in minutes."""

from __future__ import annotations

import os
from pathlib import Path

from bench.jobs.session import Session
from bench.records.index import home_records
from bench.sweep import run_in_processes
from bench.sweep.done import account
from bench.sweep.plan import expand
from bench.sweep.spec import load_sweep
from bench.tables import render_tables

_MOST_WORKERS = 4
"""Processes at a time: networks this small gain nothing from a second core, or a GPU from a second network."""


def run_demo(session: Session) -> list[Path]:
    """Do the sweep `demo`, render the tables; what is done already is left as it is. Returns the tables."""
    plan = expand(load_sweep("demo"), str)
    ledger = account(session, plan)
    workers = 1 if session.device.type == "cuda" else min(_MOST_WORKERS, os.cpu_count() or 1)
    run_in_processes.execute(session, ledger, workers)
    ledger.close()
    return render_tables(
        home_records(session.home),
        numbers=None,
        values="measured",
        formats=["markdown", "latex"],
        datasets=["digits"],
        out=session.home.tables,
        extra_specs=session.home.specs,
    )
