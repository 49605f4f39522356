"""Any architecture of timm's, without its pretrained weights: `timm:resnet18`.

What follows a `?` are arguments of timm's own: `timm:vit_tiny_patch16_224?img_size=32&patch_size=4`.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from typing import Any, get_type_hints

import timm
from torch import nn

from bench.errors import BenchError, suggestion

Value = str | int | float | bool | None

_PLAIN = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_OURS = {
    "num_classes": "the dataset says",
    "in_chans": "the dataset says",
    **dict.fromkeys(
        ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
        "weights come from training or from a checkpoint",
    ),
    **dict.fromkeys(("features_only", "scriptable", "exportable", "no_jit"), "it makes no other classifier"),
}
"""Arguments of timm's that a name cannot set, and why."""


def build_timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build `timm:NAME` or `timm:NAME?ARGUMENT=VALUE&...`, freshly initialised.

    Many of timm's networks want images of 224x224 or more, where no argument says otherwise.

    Raises:
        BenchError: timm has no such model or argument; or it cannot be built with these.
    """
    wanted, mark, text = name.removeprefix("timm:").partition("?")
    if not timm.is_model(wanted):
        hint = suggestion(wanted, timm.list_models(), lambda close: f"'timm:{close}'")
        raise BenchError(
            f"timm {timm.__version__} has no model {wanted!r}.{hint}\n"
            f"List its models: python -c \"import timm; print(*timm.list_models(), sep='\\n')\""
        )
    return _create(wanted, num_classes, in_channels, parse_arguments(name, text) if mark else {})


def parse_arguments(name: str, text: str) -> dict[str, Value]:
    """`key=value&key=value` with JSON's and Python's scalars as values; any other word is text.

    Args:
        name: the whole name of the model, for messages.

    Raises:
        BenchError: not of this form, given twice, or no argument that a name may set.
    """
    arguments: dict[str, Value] = {}
    for part in text.split("&"):
        key, equals, value = part.partition("=")
        if not key.isidentifier() or not equals or not value:
            raise BenchError(
                f"{name!r}: {part!r} is no argument.\nWrite timm:MODEL?ARGUMENT=VALUE&ARGUMENT=VALUE, in quotes."
            )
        if key in arguments:
            raise BenchError(f"{name!r} gives {key} twice.\nGive it once.")
        if key in _OURS:
            raise BenchError(f"{name!r}: {key} is not for a name to set: {_OURS[key]}.\nLeave {key}={value} away.")
        arguments[key] = _scalar(name, key, value)
    return arguments


def _scalar(name: str, key: str, text: str) -> Value:
    if text in _PLAIN:
        return _PLAIN[text]
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    # JSON as Python reads it also knows NaN and Infinity, which no architecture could use.
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number and not (isinstance(value, str) and re.fullmatch(r"[\w./+-]+", value)):
        raise BenchError(
            f"{name!r}: {key}={text} is no number, no word and none of true, false, null.\n"
            "Give one such value; lists and quotes are not understood here."
        )
    return value


def _create(model: str, num_classes: int, in_channels: int, arguments: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels, **arguments)
    except Exception as error:  # each of timm's families refuses in its own way
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is not None:
            raise _unknown_argument(model, unknown[1]) from error
        given = "".join(f", {key}={value}" for key, value in arguments.items())
        raise BenchError(
            f"timm cannot build {model!r} for {num_classes} classes and {in_channels} channels{given}: {error}\n"
            f"Choose {'other arguments' if arguments else 'another of its models'}."
        ) from error


def _unknown_argument(model: str, key: str) -> BenchError:
    """The error for an argument that a model has not, with those it has."""
    known = _arguments_of(model)
    listed = f"Known: {', '.join(known)}." if known else "timm's documentation lists what it takes."
    return BenchError(f"timm's {model!r} has no argument {key!r}.{suggestion(key, known)}\n{listed}")


def _arguments_of(model: str) -> list[str]:
    """What the class behind a model of timm's takes that a name can write; empty where timm does not tell."""
    try:
        kind: Any = get_type_hints(timm.models.model_entrypoint(model))["return"]
        parameters = inspect.signature(kind.__init__).parameters.values()
    except Exception:  # annotations of a stranger's
        return []
    plain = (str, int, float, bool)
    return [each.name for each in parameters if isinstance(each.default, plain) and each.name not in _OURS]
