"""`--attack-set`: parameters of attacks in place of the protocol's, checked against the attacks' own fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import ValidationError

from bench.attack import Attack
from bench.errors import BenchError, unknown_name
from bench.evaluation.suites import Suite
from bench.recipes.hyperparameters import read, type_name, typed
from bench.records.parameters import applied
from bench.registry import attack_class
from bench.threat import Threat
from bench.vocabulary import Protocol

_OF_THE_THREAT = ("eps", "norm")


def parsed(settings: Sequence[str], suite: Suite) -> dict[str, Any]:
    """The user's `KEY=VALUE` texts by key: of every attack of a suite, or of one (`pgd-sat.steps=100`).

    Raises:
        BenchError: no `=`, a key that is given twice, or that one of these attacks does not have, or a value of the
            wrong kind.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise BenchError(f"--attack-set {setting!r} has no '='.\nWrite --attack-set KEY=VALUE, as in steps=100.")
        if key in found:
            raise BenchError(f"--attack-set {key}=... is given twice.\nChoose one of them.")
        name, dot, parameter = key.rpartition(".")
        attacks = list(dict.fromkeys(entry.attack for entry in suite.entries))
        if dot and name not in attacks:
            raise unknown_name(f"attack of the suite {suite.name}", name, attacks)
        for attack in [name] if dot else attacks:
            found[key] = _read(attack, parameter, text)
        if not attacks:
            raise BenchError(f"--attack-set {setting}: the suite {suite.name} has no attack.\nLeave it away.")
    return found


def check(settings: Mapping[str, Any], suite: Suite, protocol: Protocol, threat: Threat) -> None:
    """A `BenchError` where an attack cannot be made of these parameters."""
    for entry in suite.entries if settings else ():
        try:
            applied(attack_class(entry.attack).for_protocol(protocol, entry.under(threat)), entry.attack, settings)
        except (TypeError, ValueError) as error:
            raise BenchError(f"{entry.attack} cannot be made of these parameters: {error}.\nChoose others.") from error


def _read(name: str, parameter: str, text: str) -> Any:
    """A parameter of an attack, of the type of its field."""
    kind = attack_class(name)
    known = [field.name for field in fields(kind) if field.init and field.name not in _OF_THE_THREAT]
    if parameter in _OF_THE_THREAT:
        raise BenchError(
            f"--attack-set {parameter}={text}: norm and radius are the threat.\nGive them so: --threat linf:4/255."
        )
    if parameter not in known:
        first, *_ = str(unknown_name(f"parameter of {name}", parameter, known)).split("\n")
        raise BenchError(f"{first}\nIt has {', '.join(known)}; of one attack alone: --attack-set ATTACK.KEY=VALUE.")
    hint = get_type_hints(kind)[parameter]
    with suppress(ValidationError):
        value = typed(hint, read(text, hint))
        if _sensible(kind, parameter, value):
            return list(value) if isinstance(value, tuple) else value  # as a record holds it
    least = ", above 0" if hint is int or parameter in kind.lengths else ""
    raise BenchError(
        f"--attack-set {parameter}={text}: {name}'s {parameter} takes {type_name(hint)}{least}.\nGive such a value."
    )


def _sensible(kind: type[Attack], parameter: str, value: Any) -> bool:
    """Whether a number may be what it is: what is counted, and a length, are above 0."""
    counted = isinstance(value, int) and not isinstance(value, bool)
    return bool(value > 0) if counted or parameter in kind.lengths else True
