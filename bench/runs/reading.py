"""Reads the files of run folders, and says what to do about one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import BenchError
from bench.runs.config import SCHEMA_VERSION
from bench.system.files import unsealed
from bench.system.text import first_mistake, newer_version, one_line


def read_checked(path: Path, model: type[Any], owner: str = "") -> Any:
    """A file's content; owner: id of the run that its digest, if it has one, is to name."""
    try:
        text = path.read_text(encoding="utf-8")
        newer = newer_version(text, SCHEMA_VERSION)
        if newer is not None:
            raise BenchError(f"{path} was {newer}.\nOr start the run again with --restart.")
        if owner:
            text = json.dumps(unsealed(json.loads(text), owner))
        return model.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(
            f"{path} cannot be read: {error}.\nRestore it, or start the run again with --restart."
        ) from error
    except (ValueError, RecursionError) as error:
        reason = first_mistake(error) if isinstance(error, ValidationError) else one_line(str(error))
        raise BenchError(
            f"{path} is not valid: {reason}.\nRestore it, or start the run again with --restart."
        ) from error
