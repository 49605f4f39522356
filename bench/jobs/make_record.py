"""One evaluation, whoever asks for it: found where it was made before, else made once, under a lock, and recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import nn

from bench.attack import Protocol
from bench.data.dataset import Dataset, Split
from bench.errors import BenchError
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import Suite, suite_named
from bench.evaluation.transfers import Surrogate
from bench.jobs.session import Session
from bench.records.files import read_record, write_record
from bench.records.intake import settle
from bench.records.parameters import changed, parameters_of
from bench.records.record import Record, Subject, conduct
from bench.records.subjects import record_id
from bench.registry import attack_class
from bench.system import locks
from bench.threat import Threat
from bench.vocabulary import Checkpoint


@dataclass(frozen=True)
class Asked:
    """All that decides the numbers of a record.

    Attributes:
        limit: how many test images, from the first; None: all.
        seed: of the attacks' start noise.
        surrogate: SHA-256 of what attacks have to be transferred from; None: from any.
        worst_case, precision, checks, attack_set: see `Evaluator`.
    """

    subject: Subject
    dataset: Dataset
    suite: Suite
    limit: int | None = None
    protocol: Protocol = "official"
    seed: int = 0
    worst_case: bool = False
    precision: Literal["32", "tf32"] = "32"
    surrogate: str | None = None
    checks: bool = True
    attack_set: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def samples(self) -> Split:
        """Those to attack."""
        return self.dataset.test.first(self.limit)

    @property
    def id(self) -> str:
        """The record's."""
        return self._id(self.dataset.threat, self.checks)

    def _id(self, threat: Threat | None, checks: bool = True) -> str:
        words = [f"s{self.seed}"] * bool(self.seed) + ["unchecked"] * (not checks)
        how = ", ".join([conduct(self.protocol, self.worst_case, self.precision, self.attack_set), *words])
        return record_id(self.subject, self.dataset.name, self.suite.name, how, len(self.samples), threat)

    def find(self, folder: Path) -> Record | None:
        """The record, if the same was measured before; whoever wants no checks may have one with them.

        Earlier versions left the eps out of every name, and knew L-infinity alone.

        Raises:
            BenchError: the record of this name cannot be read, or is of something else; the message says of what.
        """
        for path, record in self._called_so(folder):
            different = next(self._differences(record), None)
            if different is None:
                return record
            raise BenchError(
                f"The record {path} is of {different}.\nDelete it (records are never changed) and evaluate again."
            )
        return None

    def find_of(self, which: Checkpoint, folder: Path) -> Record | None:
        """The same of another network of the run, if that has these very weights and was measured before.

        Raises:
            BenchError: the record of that name cannot be read.
        """
        other = replace(self, subject=self.subject.model_copy(update={"checkpoint_of": which}))
        same = (record for _, record in other._called_so(folder) if next(other._differences(record), None) is None)
        return next(same, None)

    def of_same_weights(self, record: Record) -> Record:
        """The record from that of another network, which `find_of` has found: with other names, as it was measured."""
        checks = record.checks is None or record.checks.made
        return record.model_copy(update={"id": replace(self, checks=checks).id, "subject": self.subject})

    def _called_so(self, folder: Path) -> Iterator[tuple[Path, Record]]:
        """The records by the names that this one has or had."""
        settle(folder)
        own = (self._id(self.dataset.threat), self.id)
        for name in dict.fromkeys((*own, self._id(None))):
            path = folder / f"{name}.json"
            record = read_record(path) if path.exists() else None
            if record is not None and (name in own or record.data.threat == self.dataset.threat):
                yield path, record

    def _differences(self, record: Record) -> Iterator[str]:
        """What a record of this name is of instead."""
        data, threat = record.data, self.dataset.threat
        surrogates = {result.surrogate for result in record.results.values() if result.surrogate is not None}
        if record.subject.checkpoint != self.subject.checkpoint:
            yield "other weights: the run was trained again since"
        if data.fingerprint != self.samples.fingerprint:
            yield f"other images: another dataset is called {data.name} too"
        if data.threat != threat:
            yield f"the threat {data.threat}, and {threat} is asked for"
        if self.surrogate is not None and surrogates - {self.surrogate}:
            yield "images from another surrogate"
        if record.seed != self.seed:
            yield f"start noise of the seed {record.seed}, and {self.seed} is asked for"
        if record.attack_set != dict(self.attack_set):
            yield f"attacks with {record.attack_set}, and {dict(self.attack_set)} is asked for"
        for entry in (each.on(self.dataset.threat) for each in self.suite.entries):
            if entry.result not in record.results:
                yield f"another suite of this name: it has no {entry.result}"
                continue
            now = parameters_of(entry.attack, self.protocol, entry.under(self.dataset.threat), self.attack_set)
            then = record.results[entry.result].parameters
            for key in changed(now, then):
                yield f"{entry.result} with {key} = {then[key]!r}, and {now[key]!r} is asked for"


def evaluator_for(session: Session, protocol: Protocol, **how: Any) -> Evaluator:
    """An evaluator with all that a session has: device, speed-ups, the wish to stop, a folder for what is kept.

    Args:
        how: of the rest of `Evaluator` what is not as it says there.
    """
    return Evaluator(
        session.device,
        protocol,
        session.reporter,
        session.stop,
        kept=session.home.kept,
        speedups=session.speedups,
        **how,
    )


def begun_by(asked: Asked, records: Path) -> Record | None:
    """The record of an attack that one of the suite begins as, if there is one; whether it fits, the evaluator sees."""
    for entry in (each.on(asked.dataset.threat) for each in asked.suite.entries):
        first = getattr(attack_class(entry.attack), "begins_as", None)
        with suppress(BenchError):  # of something else, or damaged: nothing to begin from
            found = first and replace(asked, suite=suite_named(replace(entry, attack=first).result)).find(records)
            if found:
                return found
    return None


def measure(
    session: Session, evaluator: Evaluator, asked: Asked, network: nn.Module, surrogate: Surrogate | None = None
) -> tuple[Record, bool]:
    """The record of an evaluation, and whether it was made now; what a signal stops is kept for the next time.

    Raises:
        locks.Busy: another process is making it.
        Interrupted: a signal asked to stop.
        BenchError: as `Asked.find` and `Evaluator.evaluate`.
    """
    records, identity = session.home.records, asked.id
    with _alone(session, asked):
        found = asked.find(records)
        if found is not None:  # of another process, since we looked
            return found, False
        network = network.to(session.device)
        begun = begun_by(asked, records)
        record = evaluator.evaluate(
            network, asked.dataset, asked.subject, asked.suite, asked.limit, identity, surrogate, begun
        )
        write_record(record, records)
        evaluator.forget(identity)
    return record, True


def repeat(session: Session, asked: Asked, record: Record) -> tuple[Record, bool]:
    """The record of a network with the weights of another one, from that one's: nothing is attacked again.

    Args:
        record: as `Asked.find_of` finds it.

    Returns:
        It, and whether it was made now.

    Raises:
        locks.Busy: another process is making it.
    """
    record = asked.of_same_weights(record)
    with _alone(session, asked):
        found = asked.find(session.home.records)
        if found is not None:
            return found, False
        write_record(record, session.home.records)
    return record, True


def _alone(session: Session, asked: Asked) -> AbstractContextManager[object]:
    """Holds the lock of an evaluation; `locks.Busy` where another process is making it."""
    lock = session.home.kept / "unfinished" / f"{asked.id}.lock"
    return locks.held(lock, f"{asked.id} is being evaluated", session.stop.pause)
