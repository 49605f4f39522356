"""The model card, as Hugging Face's: a YAML head that machines read, then Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.evaluation.suites import ENSEMBLE
from bench.export.source import Source
from bench.recipes.hyperparameters import method_class
from bench.recipes.training import Optimizer
from bench.records.wording import protocol_text
from bench.system import escape, hub
from bench.system.text import settings_text
from bench.threat import Threat, eps_text

if TYPE_CHECKING:
    from bench.export.formats import Agreement


def model_card(source: Source, agreements: Mapping[str, Agreement]) -> str:
    """The card's text; agreements: by file, how each exported one compares with the original."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, int) else escape.markdown(str(value)),
    )
    body = environment.get_template("card.md.j2").render(_facts(source), agreements=agreements)
    head = yaml.safe_dump(_head(source), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{body}"


def _facts(source: Source) -> dict[str, Any]:
    """What the template shows of a network."""
    config, (mean, std) = source.config, source.normalisation
    return {
        "config": config,
        "summary": source.summary,
        "run": source.folder.id,
        "method_source": method_class(config.method).source,
        "parameters": f"{sum(parameter.numel() for parameter in source.network.parameters()):,}",
        "shape": source.image_shape,
        "classes": _listed(source.dataset.classes),
        "mean": _numbers(mean),
        "std": _numbers(std),
        "set_aside": source.summary.selected_on == "heldout",
        "licence": source.dataset.licence,
        "overrides": settings_text(config.overrides) or "none",
        "hyperparameters": settings_text(config.hyperparameters) or "none",
        "optimizer": _optimizer(config.optimizer),
        "average": source.average,
        "teachers": "; ".join(_teachers(source)) or "none",
        "threat": threat_words(config.data.threat),
        "rows": list(_rows(source)),
        "flags": list(dict.fromkeys(flag for record in source.records for flag in record.flags)),
        "limits": list(_limits(source)),
    }


def _head(source: Source) -> dict[str, Any]:
    """The card's YAML, in the keys of Hugging Face's model cards; accuracies are shares."""
    config = source.config
    head: dict[str, Any] = {
        "library_name": "ard-bench",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "image-classification", config.method],
    }
    if ":" not in config.data.name:  # else it is a folder's name, and of no data set on the hub
        head["datasets"] = [config.data.name]
    metrics = [
        {
            "type": "accuracy",
            "name": f"accuracy, {name} (n = {record.data.n}, {protocol_text(record.conduct)}, {record.data.threat})",
            "value": result.accuracy,
        }
        for record in source.records
        for name, result in record.results.items()
    ]
    if metrics:
        data = {"name": config.data.name, "type": config.data.name, "split": source.records[0].data.split}
        task = {"type": "image-classification", "name": "Image classification under attack"}
        head["model-index"] = [
            {"name": source.folder.id, "results": [{"task": task, "dataset": data, "metrics": metrics}]}
        ]
    return head


def _rows(source: Source) -> Iterator[list[str]]:
    """The table of accuracies: each attack of each record."""
    for record in source.records:
        for name, result in record.results.items():
            low, high = result.interval
            yield [
                name,
                f"{result.accuracy:.2%}",
                f"{low:.2%} to {high:.2%}",
                f"{record.data.n:,} of {record.data.total:,}",
                "–" if name == "clean" else str(record.data.threat),
                protocol_text(record.conduct),
                str(record.seed),
                record.id,
            ]


def _teachers(source: Source) -> Iterator[str]:
    for teacher in source.config.teachers:
        # A path says more of the author's machine than of the teacher.
        origin = teacher.source if teacher.source.startswith(hub.PREFIX) else Path(teacher.source).name
        yield f"{teacher.role}: {teacher.model} ({origin}, SHA-256 {teacher.checkpoint})"


def _limits(source: Source) -> Iterator[str]:
    """What a reader must not conclude."""
    config, attacks = source.config, {name for record in source.records for name in record.results}
    if not attacks:
        yield "Neither its accuracy nor its robustness was measured on the test set."
    yield (
        f"It was trained against {threat_words(config.data.threat)} alone. Robust accuracy is measured by attacks: an "
        "estimate from above, and no certificate."
    )
    if ENSEMBLE not in attacks:
        yield "AutoAttack was not run on it; accuracies under weaker attacks are higher."
    if any(record.data.n < record.data.total for record in source.records):
        yield "Some accuracies are of a part of the test set; see the column of images."
    if source.summary.selected_on == "test":
        yield "The checkpoint was selected on the test set, as in the papers, so its accuracies are optimistic."
    if not config.published or config.requested:
        yield f"The schedule is a reduced one ({config.setting}); published results take longer training."
    yield f"One training seed ({config.seed}); other seeds give other accuracies."
    height, width = source.image_shape[1:]
    yield f"Images are of {height} x {width} pixels; other sizes were not tried."


def threat_words(threat: Threat) -> str:
    """A threat for those who do not know this harness: `L-infinity, eps = 8/255`."""
    norm = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}[threat.norm]
    return f"{norm}, eps = {eps_text(threat.eps)}"


def _optimizer(optimizer: Optimizer) -> str:
    name = "SGD" if optimizer.kind == "sgd" else optimizer.kind
    return f"{name}, {settings_text(optimizer.model_dump(exclude={'kind'}))}"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 20 else f"{', '.join(names[:5])}, ... (in the data set's order)"
