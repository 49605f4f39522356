"""`bench export`: a finished run's network as files that others can use, each checked against the original."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError, unknown_name
from bench.export.card import model_card
from bench.export.formats import FORMATS, Agreement, agreement
from bench.export.robustbench import model_info
from bench.export.source import Source, load_source
from bench.jobs.session import Session
from bench.system.files import cannot_write, write_text_atomically
from bench.system.hub import HubFolder
from bench.threat import Threat
from bench.vocabulary import Checkpoint

__all__ = ["export", "parse_formats"]

CARD, INFO = "README.md", "model_info.json"


def parse_formats(text: str) -> list[str]:
    """`safetensors,onnx` as names of formats, each once; a `BenchError` for others, or where a package is missing."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise BenchError(f"--format {text!r} names no format.\nKnown: {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        FORMATS[name].check_installed()
    return names


def export(
    session: Session,
    run: str,
    formats: Sequence[str],
    out: Path | None = None,
    to: HubFolder | None = None,
    which: Checkpoint = "best",
    threat: Threat | float | None = None,
) -> Path:
    """Write a run's network, its model card and its RobustBench entry.

    Args:
        run: a run's id or folder, or a record's file.
        formats: names of `FORMATS`.
        out: the folder to write; None: one of the run's name in the home.
        to: where to upload the same files in one commit; a repository that does not exist is made, a private one.
        which: of the networks that the run keeps.
        threat: whose accuracies the card states; None: of all. As for `load_source`.

    Raises:
        BenchError: the run is not finished, the folder holds something else, or an exported file does not compute what
            the original does. Nothing is left behind then, and an earlier export is as it was. Or the hub refuses.
    """
    source = load_source(session, run, which, threat)
    target = out or session.home.exports / (source.folder.id + ("" if which == "best" else f"-{which}"))
    _refuse_other_content(target)
    if to is not None:
        to.check()
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=_existing(target)) as stage:
            names = _write(source, formats, Path(stage))
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                os.replace(Path(stage) / name, target / name)
        for name in {form.file for form in FORMATS.values()} - set(names):
            (target / name).unlink(missing_ok=True)  # of an earlier export; the card speaks of it no longer
    except OSError as error:
        raise cannot_write(target, error) from error
    if to is not None:
        session.reporter.say(f"Uploading {', '.join(names)} to {to}; they are in {target} too.")
        session.reporter.say(f"Uploaded: {to.upload(target, names, f'{source.config.label}: {source.folder.id}')}")
    return target


def _write(source: Source, formats: Sequence[str], folder: Path) -> list[str]:
    """Write and check all files in a folder; their names."""
    agreements: dict[str, Agreement] = {}
    for name in formats:
        path = folder / FORMATS[name].file
        FORMATS[name].write(source, path)
        agreements[path.name] = agreement(source, FORMATS[name], path)
    write_text_atomically(folder / INFO, model_info(source))
    write_text_atomically(folder / CARD, model_card(source, agreements))
    return [*agreements, INFO, CARD]


def _refuse_other_content(target: Path) -> None:
    if target.is_dir() and any(target.iterdir()) and not (target / INFO).exists():
        raise BenchError(f"{target} is not empty, and holds no earlier export.\nChoose another folder with --out DIR.")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it, that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
