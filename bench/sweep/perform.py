"""Does one task, exactly as the command that the plan shows for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.compute.device import name_memory_errors
from bench.errors import BenchError
from bench.evaluation.suites import suites_named
from bench.jobs import teachers, train
from bench.jobs.evaluate import Evaluation
from bench.jobs.session import Session, opened
from bench.runs.folder import RunFolder
from bench.sweep.plan import Task
from bench.system.console import Lines
from bench.system.home import Home
from bench.system.signals import Interrupted


@dataclass(frozen=True)
class Report:
    """What a process sends home of a task.

    Attributes:
        lines: what was said. failure: why it could not be done. stopped: whether a signal ended it.
    """

    lines: list[str]
    failure: str | None = None
    stopped: bool = False


class Failure(Exception):
    """A task that could not be done; its text says why."""


def perform(session: Session, task: Task) -> None:
    """Do a task; what is done already is left as it is.

    Raises:
        Interrupted: a signal asked to stop; all is saved.
        Failure: anything else that was wrong, so that the tasks that need nothing of it can go on.
    """
    try:
        with name_memory_errors():
            _perform(session, task)
    except Interrupted:
        raise
    except BenchError as error:
        raise Failure(str(error)) from error
    except Exception as error:  # a plug-in's code, or a library's, may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Failure(f"{reason}\nTo see where, run the command alone: {task.command}") from error


def report_of(root: Path, cwd: Path, device: str, task: Task) -> Report:
    """Do a task in a process of its own, with one thread.

    Args:
        root: of the home. cwd: the folder that names of files are relative to. device: "auto", "cpu" or "cuda".
    """
    os.chdir(cwd)
    torch.set_num_threads(1)
    reporter = Lines(f"[{task.number}]")
    try:
        with opened(Home(root), device, reporter=reporter) as session:
            perform(session, task)
    except Interrupted as stop:
        return Report([*reporter.lines, str(stop).splitlines()[0]], stopped=True)
    except (Failure, BenchError, OSError) as error:
        return Report(reporter.lines, failure=str(error))
    return Report(reporter.lines)


def _perform(session: Session, task: Task) -> None:
    if task.kind == "teacher":
        teachers.prepare(session, task.request)
        return
    evaluation = task.evaluation
    if evaluation is None:
        train.train(session, task.request, teachers.gather(session, task.request))
        return
    gathered = teachers.gather(session, task.request)
    dataset = train.limited(session, task.request)
    config = train.resolve(task.request, dataset, gathered, train.additional(session, task.request, dataset))
    measured_by = Evaluation(
        session,
        suites_named(evaluation.suite.split(",")),
        evaluation.protocol,
        evaluation.limit,
        evaluation.surrogate,
        threat=evaluation.threats[0],
        checkpoint_of=evaluation.checkpoint_of,
    )
    measured_by.run(RunFolder.of(session.home, config.id))
