"""Records made to order."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, Literal

import numpy as np

from bench.records.outcomes import pack, pack_radii
from bench.records.record import AttackResult, Data, Record, Subject, TrainingCost
from bench.stats import wilson_interval
from bench.vocabulary import Checkpoint, Norm, Protocol, Role

WHITEBOX = {"clean": 80, "fgsm": 60, "pgd-sat": 50, "pgd-trades": 50, "cw-inf": 40}
BLACKBOX = {"clean": 80, "transfer:pgd-trades": 70, "transfer:cw-inf": 65, "square": 75}
SURROGATE = "ab" * 32


def _result(
    outcome: int | np.ndarray,
    n: int,
    surrogate: str | None,
    parameters: dict[str, Any],
    labels: np.ndarray | None,
) -> AttackResult:
    right = np.arange(n) < outcome if isinstance(outcome, int) else np.asarray(outcome, bool)
    correct = int(right.sum())
    by_class = [None] * 10 if labels is None else [right[labels == label] for label in range(10)]
    return AttackResult(
        parameters=parameters,
        surrogate=surrogate,
        final=pack(right),
        worst=None,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        worst_accuracy=None,
        class_accuracy=[None if each is None or not len(each) else float(each.mean()) for each in by_class],
        batch_size=100,
        seconds=1.0,
    )


def _by_radius(radii: np.ndarray, eps: float, norm: Norm, labels: np.ndarray | None) -> AttackResult:
    radii = radii.astype(np.float32)
    shares = [0.25 * i for i in range(1, 9)]
    made = _result(radii.astype(float) > eps, len(radii), None, {"norm": norm, "eps": eps, "shares": shares}, labels)
    return made.model_copy(update={"radii": pack_radii(radii)})


class RecordMaker:
    """Makes records of a ResNet-18 on CIFAR-10; its arguments are what is to be different.

    `correct` holds for each attack how many samples (the first ones) are right, or the outcome of each; `radii` those
    of each sample under attacks that give them; `labels`, the samples' classes, makes the accuracies of classes, and
    `hours` and `device` the cost of training.
    """

    def __init__(self) -> None:
        self._numbers = count()

    def __call__(
        self,
        correct: Mapping[str, int | np.ndarray] | None = None,
        *,
        method: str = "sat",
        label: str | None = None,
        kind: Literal["student", "teacher", "checkpoint"] = "student",
        overrides: dict[str, Any] | None = None,
        role: Role | None = None,
        model: str = "resnet18",
        seed: int | None = 0,
        recipe: str | None = "official",
        setting: str = "official, 300 epochs",
        selection: str = "heldout",
        looks: int | None = None,
        procedure: dict[str, Any] | None = None,
        checkpoint: str = "c0" * 32,
        dataset: str = "cifar10",
        split: Literal["train", "test"] = "test",
        n: int = 100,
        total: int = 10_000,
        eps: float = 8 / 255,
        norm: Norm = "linf",
        fingerprint: str = "f" * 64,
        protocol: Protocol = "official",
        surrogate: str = SURROGATE,
        parameters: dict[str, Any] | None = None,
        flags: list[str] | None = None,
        environment: dict[str, Any] | None = None,
        minute: int | None = None,
        run: str | None = None,
        teachers: dict[str, str] | None = None,
        teacher_names: dict[str, str] | None = None,
        teacher_seeds: bool = False,
        labels: np.ndarray | None = None,
        hours: float | None = None,
        device: str = "GPU A",
        checkpoint_of: Checkpoint = "best",
        radii: Mapping[str, np.ndarray] | None = None,
    ) -> Record:
        number = next(self._numbers)
        radii = radii or {}
        counts = None if labels is None else np.bincount(labels, minlength=10).tolist()
        return Record(
            id=f"record-{number:03d}",
            subject=Subject(
                kind=kind,
                run=None if kind == "checkpoint" else run or f"run-{number}",
                method=method,
                label=label or method.upper(),
                overrides=overrides or {},
                role=role,
                model=model,
                seed=seed,
                recipe=recipe,
                setting=setting,
                selection=selection,
                looks=looks,
                procedure=procedure,
                teacher_seeds=teacher_seeds,
                checkpoint=checkpoint,
                checkpoint_of=checkpoint_of,
                teachers=teachers or {},
                teacher_names=teacher_names or {},
                training=None if hours is None else TrainingCost(seconds=3600 * hours, device=device),
            ),
            suite="whitebox",
            protocol=protocol,
            data=Data(
                name=dataset,
                split=split,
                n=n,
                total=total,
                classes=10,
                eps=eps,
                norm=norm,
                fingerprint=fingerprint,
                class_counts=counts,
            ),
            seed=0,
            results={
                name: _result(
                    right, n, surrogate if name.startswith("transfer:") else None, parameters or {"steps": 20}, labels
                )
                for name, right in (correct or ({} if radii else WHITEBOX)).items()
            }
            | {name: _by_radius(found, eps, norm, labels) for name, found in radii.items()},
            flags=flags or [],
            environment=environment or {"bench": "0.1.0", "device": "cpu"},
            created=f"2026-01-01T00:{number if minute is None else minute:02d}:00+00:00",
            seconds=5.0,
        )
