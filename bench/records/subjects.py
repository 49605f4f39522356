"""How records name what was evaluated."""

from __future__ import annotations

import re
from typing import Literal

from bench.records.record import Subject
from bench.threat import Threat
from bench.vocabulary import Role, usual_eps


def foreign_subject(
    kind: Literal["teacher", "checkpoint"],
    name: str,
    model: str,
    checkpoint: str,
    role: Role | None = None,
    setting: str = "checkpoint from elsewhere",
) -> Subject:
    """The subject of a model that no run here has trained; `name`: what records and tables call it."""
    return Subject(
        kind=kind,
        run=None,
        method=name,
        label=name,
        overrides={},
        role=role,
        model=model,
        seed=None,
        recipe=None,
        setting=setting,
        selection="unknown",
        checkpoint=checkpoint,
    )


def record_id(subject: Subject, dataset: str, suite: str, how: str, n: int, threat: Threat | None) -> str:
    """The name of a record: the same evaluation of the same weights has the same one.

    Args:
        how: its conduct, and a seed that is not 0. n: samples.
        threat: that it is attacked under; None leaves it out, as the usual one of a dataset's name always is.
    """
    if threat is not None and threat != Threat(eps=usual_eps(dataset)):
        levels = round(255 * threat.eps)
        grey = threat.norm == "linf" and threat.eps == levels / 255
        how += "" if threat.norm == "linf" else f"-{threat.norm}"
        how += f"-eps{levels}of255" if grey else f"-eps{float(threat.eps)!r}"
    if subject.checkpoint_of != "best":
        how += f"-{subject.checkpoint_of}"
    what = subject.method if subject.role is None else f"{subject.method}_{subject.role}-teacher"
    name = subject.run or f"{dataset}_{subject.model}_{what}_{subject.checkpoint[:8]}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}__{suite}-{how.replace(', ', '-')}-n{n}")
