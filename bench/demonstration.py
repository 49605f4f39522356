"""`bench demo`: the whole way from training to tables on handwritten digits, in minutes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch

from bench import registry, teachers
from bench.config import Role
from bench.errors import BenchError
from bench.evaluating import Evaluation
from bench.home import Home
from bench.known_records import home_records
from bench.reporting import Lines
from bench.running import Request, check, train
from bench.session import Session
from bench.stopping import Interrupted, stop_on_signals
from bench.suites import suite_named
from bench.tabulate import render_tables

DATASET, RECIPE = "digits", "demo"
STUDENTS = ("digits-cnn", "digits-mobile")
"""In ResNet-18's and MobileNet-V2's places: Tables 3, 5, 7 and Tables 4, 6."""
ABLATIONS = (("push=false", "itt=false"), ("push=false",))
"""The rows of Table 7 besides CIARD itself."""
SUITES = (("whitebox", None), ("blackbox", None))
"""Suites every student is attacked with, and the number of test images (None: all)."""
AUTOATTACK = ("autoattack", 50)
"""What the students of Table 3 are attacked with besides; it takes its time."""
_MOST_WORKERS = 4
_ROLES: tuple[Role, ...] = ("robust", "clean")


def requests() -> Iterator[Request]:
    """Every training run of the demo, those of Table 3 first."""
    for student in STUDENTS:
        for method in built_in_methods():
            yield Request(method=method, student=student, dataset=DATASET, recipe=RECIPE)
        for settings in ABLATIONS if student == STUDENTS[0] else ():
            yield Request(method="ciard", student=student, dataset=DATASET, recipe=RECIPE, settings=settings)


def built_in_methods() -> list[str]:
    """The methods this package brings, natural training first; plug-ins of others stay out of the demo."""
    own = registry.origin(registry.find("methods", "natural"))
    names = [name for name in registry.names("methods") if registry.origin(registry.find("methods", name)) == own]
    return sorted(names, key=lambda name: name != "natural")


def run_demo(session: Session) -> list[Path]:
    """Train all, attack all, render Tables 0 and 3 to 7; what is done already is left as it is. Returns the tables."""
    todo = list(requests())
    for request in todo:
        check(request)
    place = (session.home.root, session.device.type)
    with _workers(session) as pool:
        # The teachers first: afterwards no two workers want to train the same one.
        _work_off(session, "Teachers", [pool.submit(_train_teacher, *place, role) for role in _ROLES])
        jobs = [pool.submit(_train_and_attack, *place, request) for request in todo]
        _work_off(session, "Students trained and attacked", jobs)
    return render_tables(
        home_records(session.home),
        numbers=None,
        values="measured",
        formats=["markdown", "latex"],
        datasets=[DATASET],
        out=session.home.tables,
        extra_specs=session.home.specs,
    )


@contextmanager
def _workers(session: Session) -> Iterator[ProcessPoolExecutor]:
    """One process a core, each with one thread: networks this small gain nothing from a second one."""
    workers = 1 if session.device.type == "cuda" else min(_MOST_WORKERS, os.cpu_count() or 1)
    context: multiprocessing.context.BaseContext = multiprocessing.get_context("spawn")
    if "forkserver" in multiprocessing.get_all_start_methods():
        # The workers are forked from one process that has imported everything, and share its memory.
        forkserver = multiprocessing.get_context("forkserver")
        forkserver.set_forkserver_preload(["bench.demonstration", "torchattacks", "sklearn.datasets"])
        context = forkserver
    pool = ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _work_off(session: Session, description: str, jobs: Iterable[Future[list[str]]]) -> None:
    """Wait for jobs and repeat what they say; a wish to stop is heard within half a second."""
    pending = set(jobs)
    with session.reporter.task(description, len(pending)) as advance:
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            if session.stop:
                for worker in multiprocessing.active_children():  # who may not have got the signal themselves
                    worker.terminate()
                session.stop.check()
            for future in done:
                for line in _result(future):
                    session.reporter.say(line)
                advance(1)


def _result(job: Future[list[str]]) -> list[str]:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise BenchError(
            "A worker process was killed, perhaps because the memory is used up.\n"
            "Run the same command again to continue."
        ) from error


@contextmanager
def _worker(root: Path, device: str) -> Iterator[tuple[Session, list[str]]]:
    """A session in a worker process, and the lines it has said; the process ends when a signal stops its job.

    It must not wait for another one: nobody would send it any.
    """
    reporter = Lines()
    with stop_on_signals() as stop:
        try:
            yield Session(Home(root), torch.device(device), reporter, stop), reporter.lines
        except Interrupted as error:
            os._exit(error.exit_code)


def _train_teacher(root: Path, device: str, role: Role) -> list[str]:
    """One teacher from nothing to its record, in a process of its own; what it has to say."""
    with _worker(root, device) as (session, lines):
        request = Request(method="ciard", student=STUDENTS[0], dataset=DATASET, recipe=RECIPE)
        teachers.evaluate_once(session, request, teachers.find(session, request, role))
    return lines


def _train_and_attack(root: Path, device: str, request: Request) -> list[str]:
    """One student from nothing to its records, in a process of its own; what it has to say."""
    with _worker(root, device) as (session, lines):
        folder = train(session, request, teachers.gather(session, request))
        in_table_3 = request.student == STUDENTS[0] and not request.settings
        for name, limit in (*SUITES, AUTOATTACK) if in_table_3 else SUITES:
            Evaluation(session, suite_named(name), "official", limit).run(folder)
    return lines
