"""Runs and records for homes that tests report on."""

from __future__ import annotations

from typing import Any

import torch

from bench.jobs.session import Session
from bench.jobs.train import Request, configure
from bench.records.record import Record, content_digest
from bench.runs.config import DataRef, TeacherRef
from bench.runs.folder import RunFolder, Summary
from bench.system.console import Reporter
from bench.system.home import Home
from bench.system.signals import StopRequest

EXAMPLES = 12
"""Test images that the demo's report shows."""


def session_of(home: Home) -> Session:
    return Session(home, torch.device("cpu"), Reporter.silent(), StopRequest())


def keep(home: Home, record: Record) -> None:
    """Put a record into a home."""
    home.records.mkdir(parents=True, exist_ok=True)
    sealed = record.model_copy(update={"digest": content_digest(record.model_dump_json())})
    (home.records / f"{record.id}.json").write_text(sealed.model_dump_json(), encoding="utf-8")


def make_run(home: Home, method: str, seed: int = 0, **changes: Any) -> RunFolder:
    """A finished run with three epochs of made-up curves, the student from 10 to 30 % clean and 5 to 15 % robust."""
    data = DataRef(name="digits", spec="digits", fingerprint="f", n=100, classes=10, in_channels=1, eps=2 / 16)
    teachers = [
        TeacherRef(role=role, model="digits-teacher", source="s", checkpoint=role * 8, given=False)
        for role in ("robust", "clean")
    ]
    request = Request(method=method, student="digits-cnn", dataset="digits", recipe="demo", seed=seed)
    config = configure(request, data, teachers).model_copy(update=changes)
    folder = RunFolder.of(home, config.id)
    folder.create(config, {})
    for epoch in (1, 2, 3):
        accuracy = {"student": {"clean": 0.1 * epoch, "robust": 0.05 * epoch}}
        accuracy |= {f"{role} teacher": {"clean": 0.9, "robust": 0.6} for role in ("robust", "clean")}
        terms = {"loss": 1 / epoch, "<img src=x onerror=hacked()>": 0.5, "endless": float("inf")}
        terms |= {f"robust teacher's distillation, {i}": i / epoch for i in range(5)}
        folder.append_metrics({"kind": "epoch", "epoch": epoch, "step": 10, "terms": terms, "accuracy": accuracy})
    folder.finish(
        Summary(
            checkpoint="c",
            selected_epoch=2,
            selected_on="heldout",
            accuracy={"clean": 0.2, "robust": 0.1},
            seconds=90.0,
            finished="2026-01-01T00:00:00+00:00",
        )
    )
    return folder
