"""An entry like those of RobustBench's `model_info` (Croce et al. 2021): what was not measured here is null."""

from __future__ import annotations

import json
import re

from bench.evaluation.suites import ENSEMBLE
from bench.export.source import Source
from bench.recipes.hyperparameters import method_class
from bench.records.record import Record
from bench.system.text import settings_text
from bench.threat import eps_text
from bench.vocabulary import Norm

THREAT_MODELS: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""RobustBench's names, by which its entries have their folders."""


def model_info(source: Source) -> str:
    """The entry as JSON.

    RobustBench's accuracies are per cent, as text, of the whole test set; an accuracy of a part of it is no such number
    and is left null, and so is one under another threat than that of the training. `link` is the paper of the method,
    not of these weights; their authors are not known to us.
    """
    config = source.config
    found = re.search(r"arXiv:(\d{4}\.\d{4,5})", method_class(config.method).source)
    own = tuple(record for record in source.records if record.data.threat == config.data.threat)
    given = any(teacher.given for teacher in config.teachers)
    info = {
        "link": f"https://arxiv.org/abs/{found[1]}" if found else None,
        "name": config.label,
        "authors": None,
        # A teacher from elsewhere may have seen more than this data set.
        "additional_data": None if given else False,
        "number_forward_passes": 1,
        "dataset": config.data.name,
        "venue": None,
        "architecture": config.student,
        "threat_model": THREAT_MODELS[config.data.norm],
        "eps": eps_text(config.data.eps),
        "clean_acc": _accuracy(source.records, "clean"),
        "reported": None,
        "autoattack_acc": _accuracy(own, ENSEMBLE),
        "footnote": _footnote(source),
        "unreliable": any(record.flags for record in source.records) if source.records else None,
    }
    return json.dumps(info, indent=2) + "\n"


def _accuracy(records: tuple[Record, ...], attack: str) -> str | None:
    """Of the latest evaluation on the whole test set in float32."""
    whole = [
        record
        for record in records
        if attack in record.results
        and record.data.split == "test"
        and record.data.n == record.data.total
        and record.precision == "32"
    ]
    if not whole:
        return None
    return f"{100 * max(whole, key=lambda record: record.created).results[attack].accuracy:.2f}"


def _footnote(source: Source) -> str:
    config, summary = source.config, source.summary
    words = [
        f"A network trained by ard-bench's {config.label} ({config.variant} variant), {config.setting}, seed "
        f"{config.seed}; not the weights of the method's authors.",
        f"Checkpoint selected on: {summary.selected_on}.",
    ]
    if config.overrides:
        words.append(f"Changed: {settings_text(config.overrides)}.")
    parts = [record for record in source.records if record.data.n < record.data.total]
    for record in parts:
        accuracies = ", ".join(f"{name} {result.accuracy:.2%}" for name, result in record.results.items())
        words.append(f"On the first {record.data.n} of {record.data.total} images, {record.data.threat}: {accuracies}.")
    return " ".join(words)
