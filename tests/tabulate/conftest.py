"""Evaluation records made to order: valid ones, with outcomes of every sample, but of no real network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest

from bench.records import AttackResult, Data, Record, Subject, pack
from bench.statistics import wilson_interval

RecordMaker = Callable[..., Record]

WHITEBOX = {"clean": 80, "fgsm": 60, "pgd-sat": 50, "pgd-trades": 50, "cw-inf": 40}
BLACKBOX = {"clean": 80, "transfer:pgd-trades": 70, "transfer:cw-inf": 65, "square": 75}
SURROGATE = "ab" * 32


def _result(correct: int, n: int, surrogate: str | None, parameters: dict[str, Any]) -> AttackResult:
    right = np.arange(n) < correct
    return AttackResult(
        parameters=parameters,
        surrogate=surrogate,
        final=pack(right),
        worst=None,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None,
        class_accuracy=[None] * 10,
        batch_size=100,
        seconds=1.0,
    )


@pytest.fixture
def make_record() -> RecordMaker:
    """Makes records of a ResNet-18 on CIFAR-10; its arguments are what is to be different."""
    numbers = count()

    def make(
        correct: dict[str, int] | None = None,
        *,
        method: str = "sat",
        label: str | None = None,
        kind: str = "student",
        overrides: dict[str, Any] | None = None,
        role: str | None = None,
        model: str = "resnet18",
        seed: int | None = 0,
        recipe: str | None = "official",
        setting: str = "official, 300 epochs",
        selection: str = "heldout",
        checkpoint: str = "c0" * 32,
        dataset: str = "cifar10",
        split: str = "test",
        n: int = 100,
        total: int = 10_000,
        eps: float = 8 / 255,
        fingerprint: str = "f" * 64,
        protocol: str = "official",
        surrogate: str = SURROGATE,
        parameters: dict[str, Any] | None = None,
        flags: list[str] | None = None,
        environment: dict[str, Any] | None = None,
        minute: int | None = None,
    ) -> Record:
        number = next(numbers)
        return Record(
            id=f"record-{number:03d}",
            subject=Subject(
                kind=kind,
                run=None if kind == "checkpoint" else f"run-{number}",
                method=method,
                label=label or method.upper(),
                overrides=overrides or {},
                role=role,
                model=model,
                seed=seed,
                recipe=recipe,
                setting=setting,
                selection=selection,
                checkpoint=checkpoint,
            ),
            suite="whitebox",
            protocol=protocol,
            data=Data(name=dataset, split=split, n=n, total=total, classes=10, eps=eps, fingerprint=fingerprint),
            seed=0,
            results={
                name: _result(
                    right, n, surrogate if name.startswith("transfer:") else None, parameters or {"steps": 20}
                )
                for name, right in (correct or WHITEBOX).items()
            },
            flags=flags or [],
            environment=environment or {"bench": "0.1.0", "device": "cpu"},
            created=f"2026-01-01T00:{number if minute is None else minute:02d}:00+00:00",
            seconds=5.0,
        )

    return make
