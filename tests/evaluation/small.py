"""A small network, evaluated on some forty images."""

from __future__ import annotations

import io
from typing import Any

import torch
from rich.console import Console
from torch import nn

from bench.data.dataset import Dataset
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import SUITES, Suite
from bench.records.record import Record, Subject
from bench.system.console import Reporter
from bench.system.signals import StopRequest

N = 40
WHITEBOX, BLACKBOX = SUITES["whitebox"], SUITES["blackbox"]


def network(seed: int = 0, classes: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, classes)
        )
        model.state_dict()["1.running_mean"].normal_(0, 0.1)
    return model.eval()


SUBJECT = Subject(
    kind="checkpoint",
    run=None,
    method="file",
    label="file",
    overrides={},
    role=None,
    model="small",
    seed=None,
    recipe=None,
    setting="unknown",
    selection="unknown",
    checkpoint="ab" * 32,
)


def evaluator(stop: StopRequest | None = None, **options: Any) -> Evaluator:
    reporter = Reporter(Console(file=io.StringIO()))
    return Evaluator(
        torch.device("cpu"), options.pop("protocol", "official"), reporter, stop or StopRequest(), **options
    )


def evaluate(
    model: nn.Module, dataset: Dataset, suite: Suite = WHITEBOX, limit: int | None = None, **options: Any
) -> Record:
    surrogate = options.pop("surrogate", None)
    return evaluator(**options).evaluate(model, dataset, SUBJECT, suite, limit, "record", surrogate)
