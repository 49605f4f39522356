"""The parameters of an attack as records hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from bench.registry import attack_class
from bench.threat import Threat
from bench.vocabulary import Protocol

if TYPE_CHECKING:
    from bench.attack import Attack


def parameters_of(
    name: str, protocol: Protocol, threat: Threat | float, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An attack's parameters as a record holds them: tuples are lists there, and infinity is a word.

    Args:
        threat: of a number the L-infinity ball of that radius.
        own: what was set in place of the protocol's, as of `applied`.
    """
    parameters = applied(attack_class(name).for_protocol(protocol, threat), name, own or {}).parameters()
    content: dict[str, Any] = json.loads(to_json(parameters, inf_nan_mode="strings"))
    return content


def applied(attack: Attack, name: str, own: Mapping[str, Any]) -> Attack:
    """An attack with parameters in place of its protocol's: those of all attacks, then those of its name alone.

    Args:
        own: by name, `steps`, or by that of one attack, `pgd-sat.steps`; a list stands for a tuple.
    """
    of_all = {key: value for key, value in own.items() if "." not in key}
    of_it = {key.rpartition(".")[2]: value for key, value in own.items() if key.rpartition(".")[0] == name}
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in {**of_all, **of_it}.items()
    }
    return replace(attack, **chosen) if chosen else attack


def changed(parameters: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Which parameters that both have differ, but for rounding; in the order of their names."""

    def same(one: Any, other: Any) -> bool:
        floats = isinstance(one, float) and isinstance(other, float)
        return math.isclose(one, other, rel_tol=1e-9) if floats else bool(one == other)

    return sorted(key for key in parameters.keys() & others.keys() if not same(parameters[key], others[key]))
