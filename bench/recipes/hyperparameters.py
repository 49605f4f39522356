"""From a method's name, a recipe and the user's `--set key=value` to a defense with all its hyper-parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from fractions import Fraction
from math import isfinite
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench import registry
from bench.defense import ROLES, STUDENT, Companion, Defense
from bench.errors import BenchError, unknown_name
from bench.recipes.training import unknown_field
from bench.system.text import parse_yaml
from bench.threat import NORM_TEXT, Threat
from bench.vocabulary import LINF_EPS, PLAIN

_COMPANION = re.compile(r"[a-z][a-z0-9-]*")
_OTHER_FILES = {STUDENT, *PLAIN, *PLAIN.values(), *(f"{role}-teacher" for role in ROLES)}
"""What else a run keeps or trains; a companion's name is that of a file."""
_NORM = "norm"
"""The field that says in which norm a method attacks."""


def method_class(name: str) -> type[Defense]:
    """The class of a registered method."""
    found = registry.load("methods", name)
    if not (isinstance(found, type) and issubclass(found, Defense)):
        raise BenchError(
            f"The method plug-in {name!r} is no bench.defense.Defense class.\nIts author has to repair it."
        )
    for attribute in ("label", "source"):
        if not isinstance(getattr(found, attribute, None), str):
            raise BenchError(f"The method plug-in {name!r} has no `{attribute}`.\nIts author has to repair it.")
    roles = found.roles
    if not isinstance(roles, tuple) or any(role not in ROLES for role in roles) or len(set(roles)) < len(roles):
        raise BenchError(
            f"The method plug-in {name!r} has roles = {roles!r}; the teachers there are: {ROLES!r}.\n"
            'Its author has to make `roles` a tuple of these, each at most once: roles = ("robust",).'
        )
    return found


def defaults(method: type[Defense]) -> dict[str, Any]:
    """Every hyper-parameter of a method with its default value, in the order of definition."""
    found: dict[str, Any] = {}
    for field in fields(method):
        if field.init:
            found[field.name] = field.default if field.default_factory is MISSING else field.default_factory()
    return found


def describe(method: type[Defense]) -> str:
    """`name (type, default)` for every hyper-parameter that can be set, for messages."""
    hints, known = get_type_hints(method), defaults(method)
    known.pop(_NORM, None)
    return ", ".join(f"{key} ({type_name(hints[key])}, {_written(value)})" for key, value in known.items())


def _written(value: Any) -> str:
    """A value as a user would write it."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


def type_name(hint: Any) -> str:
    """A type as a user would write it: `float`, `'batch' or 'mean'`, `list of int, such as [1, 2]`."""
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(repr(choice) for choice in choices)
    if get_origin(hint) is tuple and choices[1:] == (...,):
        return f"list of {type_name(choices[0])}, such as [1, 2]"
    return hint.__name__ if isinstance(hint, type) and not choices else str(hint).replace("typing.", "")


def parse_training(settings: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The user's `key=value` texts: fields of the recipe's training, by dotted name, and the texts of all others.

    Raises:
        BenchError: a field that there is not, or one that is set twice.
    """
    fields: dict[str, Any] = {}
    written: dict[str, str] = {}
    others = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or "." not in key:
            others.append(setting)
            continue
        wrong = unknown_field(key)
        if wrong is not None:
            raise wrong
        if key in written:
            raise _given_twice(key, written[key], text)
        written[key] = text
        fields[key] = read(text, tuple[float, ...])
    return fields, others


def _given_twice(key: str, first: str, second: str) -> BenchError:
    return BenchError(f"--set {key}=... is given twice.\nChoose one of {first} and {second}.")


def parse_settings(name: str, settings: Iterable[str]) -> dict[str, Any]:
    """The user's `key=value` texts as typed hyper-parameters of a method; those of the training are left out.

    Raises:
        BenchError: no `=`, an unknown key, or a value of the wrong type (the message lists the right ones); a key
            that is set twice.
    """
    method = method_class(name)
    hints, known = get_type_hints(method), defaults(method)
    parsed: dict[str, Any] = {}
    written: dict[str, str] = {}
    for setting in parse_training(settings)[1]:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise BenchError(f"--set {setting!r} has no '='.\nWrite --set key=value; {name} has: {describe(method)}.")
        if key not in known:
            raise _unknown(name, key)
        if key == _NORM:
            raise BenchError(
                f"--set {setting}: the run's threat says in which norm a method attacks.\nGive that: --threat l2:0.5."
            )
        if key in written:
            raise _given_twice(key, written[key], text)
        written[key] = text
        parsed[key] = _checked(name, key, hints[key], read(text, hints[key]))
    return parsed


def read(text: str, hint: Any) -> Any:
    """A value as YAML reads it, and what people write otherwise: `1e-3`, `8/255`, `(1, 2)`."""
    if float in (hint, *get_args(hint)):
        with suppress(ValueError):
            return float(text)  # before Fraction, which would write all digits of 1e999999999 out
    if float in (hint, *get_args(hint)) and "/" in text:
        with suppress(ValueError, ZeroDivisionError, OverflowError):
            return float(Fraction(text))
    if get_origin(hint) is tuple and text.strip().startswith("(") and text.strip().endswith(")"):
        text = f"[{text.strip()[1:-1]}]"
    try:
        return parse_yaml(text)
    except ValueError:
        return text


def resolve(
    name: str, variant: str, recipe: Mapping[str, Any], settings: Mapping[str, Any], threat: Threat | float
) -> dict[str, Any]:
    """All hyper-parameters of a run: default < variant < the threat < recipe < the user's settings.

    Args:
        threat: what it is trained against, of a number the L-infinity ball of that radius. A method's lengths are
            stated for 8/255 there, and for the eps of its `under` in another norm; they scale with the radius.

    Raises:
        BenchError: an unknown variant or name, a value of the wrong type, or a norm that the method does not know.
    """
    method, threat = method_class(name), Threat.of(threat)
    if variant not in method.variants:
        raise unknown_name(f"variant of {name}", variant, method.variants)
    check_norm(name, threat)
    values, chosen = defaults(method) | dict(method.variants[variant]), dict(recipe)
    stated = LINF_EPS
    if threat.norm != "linf" and _NORM in values:
        own = method.under[threat.norm]
        values, stated = values | {**own, _NORM: threat.norm}, own["eps"]
        chosen = {key: value for key, value in chosen.items() if key not in own}  # a recipe states L-infinity's
    for length in method.lengths if threat.eps != stated else ():
        values[length] = values[length] * threat.eps / stated
    values |= chosen | dict(settings)
    unused = {name for name in method.later if values[name] == defaults(method)[name]}
    values = {name: value for name, value in values.items() if name not in unused}
    if values.get(_NORM) == "linf":  # it goes without saying, as in versions that knew no other
        del values[_NORM]
    return checked(name, values)


def check_norm(name: str, threat: Threat) -> None:
    """A `BenchError` that names the method where it cannot be trained under a threat."""
    method = method_class(name)
    unstated = set(method.lengths) - method.under.get(threat.norm, {}).keys() if threat.norm != "linf" else set()
    if threat.norm not in method.norms or unstated:
        known = " and ".join(NORM_TEXT[norm] for norm in method.norms)
        why = f"states no {' and no '.join(sorted(unstated))} for it" if unstated else f"knows {known} alone"
        raise BenchError(
            f"The method {name} cannot be trained under {threat}: it {why}.\n"
            "Choose another method; a network that is trained can be attacked under any threat: bench eval --threat."
        )


def checked(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a method after a check of their names and types."""
    method = method_class(name)
    hints, known = get_type_hints(method), defaults(method)
    for key in values:
        if key not in known:
            raise _unknown(name, key)
    return {key: _checked(name, key, hints[key], value) for key, value in values.items()}


def make(name: str, values: Mapping[str, Any]) -> Defense:
    """The defense itself; values that its class refuses by a ValueError are the user's mistake."""
    try:
        defense = method_class(name)(**checked(name, values))
    except ValueError as error:
        raise BenchError(
            f"{name} cannot be made of these hyper-parameters: {error}.\nChoose others with --set; it has: "
            f"{describe(method_class(name))}."
        ) from error
    for own, companion in defense.companions().items():
        if not isinstance(companion, Companion) or _COMPANION.fullmatch(own) is None or own in _OTHER_FILES:
            raise BenchError(
                f"The method plug-in {name!r} has {companion!r} as its companion {own!r}.\nIts author has to give "
                "each a bench.defense.Companion, by a name of its own of lower-case letters, digits and dashes."
            )
    return defense


def _unknown(name: str, key: str) -> BenchError:
    method = method_class(name)
    first_line = str(unknown_name(f"hyper-parameter of {name}", key, defaults(method))).split("\n")[0]
    return BenchError(f"{first_line}\nKnown: {describe(method)}.")


def _checked(name: str, key: str, hint: Any, value: Any) -> Any:
    with suppress(ValidationError):
        return typed(hint, value)
    finite = ", and a finite one" if isinstance(value, float) and not isfinite(value) else ""
    raise BenchError(
        f"--set {key}={_written(value)}: {name}'s {key} takes {type_name(hint)}{finite}.\n"
        f"All of its hyper-parameters: {describe(method_class(name))}."
    )


def typed(hint: Any, value: Any) -> Any:
    """A value of a type, a whole number where a number is wanted; a `ValidationError` where it is none of it."""
    if isinstance(value, int) and not isinstance(value, bool) and hint is float:
        with suppress(OverflowError):
            value = float(value)
    adapter = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    return adapter.validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
