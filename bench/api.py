"""`bench.evaluate`: attack any PyTorch classifier from Python, as `bench eval` does from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from bench.attack import Protocol
from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.evaluation.evaluator import Evaluator
from bench.evaluation.suites import suite_named
from bench.evaluation.transfers import Surrogate
from bench.jobs.make_record import Asked
from bench.models import try_out
from bench.models.checkpoints import weights_hash
from bench.records.record import Record, write_record
from bench.records.subjects import foreign_subject
from bench.system.console import Reporter
from bench.system.home import Home
from bench.system.signals import StopRequest


def evaluate(
    model: nn.Module,
    dataset: str | Dataset = "cifar10",
    suite: str = "whitebox",
    *,
    limit: int | None = None,
    protocol: Protocol = "official",
    seed: int = 0,
    surrogate: nn.Module | None = None,
    name: str | None = None,
    home: Path | str | None = None,
    save: bool = False,
) -> Record:
    """Attack a model with all attacks of a suite.

    Args:
        model: maps images in [0, 1], (B, C, H, W), to logits, (B, classes); RobustBench's models do. It is attacked on
            the device it is on, in its own precision and in eval mode, and comes back in the mode and with the
            gradient flags it was given in, also when something fails.
        dataset: as for `bench eval --dataset` (`cifar10`, `parquet:DIR`), or one that is loaded.
        suite: `bench list suites`, or an attack's name.
        limit: how many test images, from the first.
        protocol: whose attack parameters: `official` or `paper`.
        seed: of the attacks' start noise.
        surrogate: what transferred attacks are crafted on; needed by the suites `blackbox` and `full`.
        name: what records and tables call the model; its class's name if not given.
        home: folder of `data/` and `results/`; None: what BENCH_HOME names, or the current folder.
        save: whether to write the record to HOME/results/records; `bench tables --student NAME`, with the name of its
            class, shows it, and so does a table whose students are called so.

    Returns:
        The record: accuracies with intervals, the outcome of every sample, flags of a weak evaluation.

    Raises:
        BenchError: an unknown name, images that the model cannot take, a model whose weights or outputs are not finite,
            a surrogate that is missing, an attack that leaves its eps or [0, 1], a record that exists already.
    """
    _check_arguments(limit, protocol, seed)
    place = Home.at(Path(os.environ.get("BENCH_HOME") or "." if home is None else home))
    chosen = suite_named(suite)
    data = _loaded(dataset, place.data)
    label = name or type(model).__name__
    try_out(model, label, data.test, data.num_classes)
    model_class, checkpoint = type(model).__name__, weights_hash(model)
    subject = foreign_subject("checkpoint", label, model_class, checkpoint, setting="model given from Python")
    crafted_on = None if surrogate is None else Surrogate(surrogate, weights_hash(surrogate), type(surrogate).__name__)
    on = crafted_on.checkpoint if crafted_on is not None and chosen.needs_surrogate else None
    asked = Asked(subject, data, chosen, limit, protocol, seed, surrogate=on)
    found = asked.find(place.records) if save else None
    if found is not None:
        raise BenchError(f"The record {found.id} exists already in {place.records}.\nDelete it, or choose a name=.")
    device = next(model.parameters(), torch.empty(0)).device
    # Nothing is kept on disk for a resume: two models may share their weights and yet not compute the same.
    evaluator = Evaluator(device, protocol, Reporter(), StopRequest(), seed)
    record = evaluator.evaluate(model, data, subject, chosen, limit, asked.id, crafted_on)
    if save:
        write_record(record, place.records)
    return record


def _check_arguments(limit: int | None, protocol: str, seed: int) -> None:
    """Find mistakes before anything long begins."""
    if limit is not None and limit < 1:
        raise BenchError(f"limit={limit}: give the number of test images to attack, 1 or more, or None for all.")
    if protocol not in ("official", "paper"):
        raise BenchError(f"protocol={protocol!r}: there are 'official' and 'paper'.")
    if seed < 0:
        raise BenchError(f"seed={seed}: a seed is 0 or more.")
    if torch.is_inference_mode_enabled():
        raise BenchError("Attacks need gradients, and inference mode has none.\nCall outside torch.inference_mode().")


def _loaded(dataset: str | Dataset, root: Path) -> Dataset:
    data = load_dataset(dataset, root) if isinstance(dataset, str) else dataset
    if not isinstance(data, Dataset):
        raise BenchError(f"dataset is a {type(data).__name__}.\nGive a name, or a bench.data.Dataset.")
    return data
