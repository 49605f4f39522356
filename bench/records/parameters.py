"""The parameters of an attack as records hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from bench.registry import attack_class
from bench.threat import Threat
from bench.vocabulary import Protocol


def parameters_of(name: str, protocol: Protocol, threat: Threat | float) -> dict[str, Any]:
    """An attack's parameters as a record holds them: tuples are lists there, and infinity is a word."""
    parameters = attack_class(name).for_protocol(protocol, threat).parameters()
    content: dict[str, Any] = json.loads(to_json(parameters, inf_nan_mode="strings"))
    return content


def changed(parameters: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Which parameters that both have differ, but for rounding; in the order of their names."""

    def same(one: Any, other: Any) -> bool:
        floats = isinstance(one, float) and isinstance(other, float)
        return math.isclose(one, other, rel_tol=1e-9) if floats else bool(one == other)

    return sorted(key for key in parameters.keys() & others.keys() if not same(parameters[key], others[key]))
