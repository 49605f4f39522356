"""Texts for readers, and texts from elsewhere: read as YAML or JSON so that nonsense is no accident."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any


def one_line(text: str) -> str:
    """Without line breaks, and without invisible marks such as those that turn the reading direction."""
    if text.isprintable():  # as nearly all are: nothing but letters, signs and spaces
        return " ".join(text.split())
    visible = (" " if mark.isspace() else mark for mark in text if mark.isspace() or is_visible(mark))
    return " ".join("".join(visible).split())


def is_visible(mark: str) -> bool:
    return unicodedata.category(mark) not in ("Cc", "Cf", "Cs")


def settings_text(settings: Mapping[str, Any]) -> str:
    """Hyper-parameters as `--set` takes them, in their order: `itt=false, push=false`."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()
    )


def defense_label(label: str, overrides: Mapping[str, Any]) -> str:
    """A defense's name with what was set otherwise than its recipe does: `CIARD (push=false)`."""
    return f"{label} ({settings_text(dict(sorted(overrides.items())))})" if overrides else label


def leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, by dotted name; lists are values."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_yaml(text: str) -> Any:
    """YAML that makes plain values alone; a ValueError with the reason on one line for anything else."""
    import yaml  # `bench --help` does without

    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        # Besides its own errors the library lets through what numbers, dates and keys of mappings raise.
        raise ValueError(one_line(str(error))) from error


def newer_version(text: str, known: int) -> str | None:
    """That a JSON file's `schema_version` is above the one known here, in words; None where it is not."""
    try:
        return newer_schema(json.loads(text), known)
    except (ValueError, RecursionError):
        return None


def newer_schema(content: Any, known: int) -> str | None:
    """As `newer_version`, of JSON that is read already."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version <= known:
        return None
    return f"written by a newer version (schema {str(version)[:9]}, this one reads {known}): update ard-bench"


def first_mistake(error: Exception) -> str:
    """What is wrong, on one line; of a check of types the first thing that it found, and where."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return one_line(str(error))
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return one_line(f"{place}: {first['msg']}" if place else first["msg"])


def duration(seconds: float) -> str:
    """Seconds as a person would say them: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def kind_of(value: object) -> str:
    """What a value is, for messages about one of the wrong kind: "a list", "an ndarray"."""
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in tuple('aeiou') or kind.startswith('nd') else 'a'} {kind}"
