"""Checkpoints as users name them: a file, a network of RobustBench's, a file of Hugging Face's hub.

`FILE`, `robustbench:NAME` or `hf:ORG/REPO[@REVISION]/FILE`; `MODEL:` in front of any of them says the architecture.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from bench import registry
from bench.errors import BenchError, suggestion
from bench.models import split_spec
from bench.system import hub
from bench.system.text import one_line

ROBUSTBENCH = "robustbench:"

PUBLISHED = {
    "Chen2021LTD_WRN34_10": "wrn-34-10@none",
    "Chen2021LTD_WRN34_20": "wrn-34-20@none",
    "Gowal2021Improving_28_10_ddpm_100m": "wrn-28-10-swish@{data}",
    "Wang2023Better_WRN-28-10": "wrn-28-10-swish@{data}",
    "Cui2023Decoupled_WRN-28-10": "wrn-28-10-swish@{data}",
    "Bartoldson2024Adversarial_WRN-94-16": "wrn-94-16-swish@{data}",
}
"""RobustBench's names of the teachers of published distillation: architecture, and the normalisation (its data set's
own, where it is `{data}`), as its model zoo has them under L-infinity. Other names are known by their layers."""

_DATA = ("cifar100", "cifar10")
_ADVICE = "Write [MODEL:]FILE, robustbench:NAME or hf:ORG/REPO[@REVISION]/FILE."


Kind = Literal["file", "robustbench", "hf"]


class Found(NamedTuple):
    """A checkpoint that lies on this disk.

    Attributes:
        model: its architecture, with or without a normalisation; None where only its layers tell.
        name: what records and tables call it.
        source: what a run records of where it came from: a path, or a file of the hub with its commit.
    """

    path: Path
    model: str | None
    name: str
    source: str


class Reference(NamedTuple):
    """A checkpoint's name, taken apart.

    Attributes:
        model: the architecture, if it is said. place: what follows it.
    """

    kind: Kind
    model: str | None
    place: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """A file whose own name looks like something else is that file, where it exists.

        Raises:
            BenchError: the text has no such form, or no architecture has that name.
        """
        whole = os.path.expanduser(text)
        if os.path.exists(whole):
            return cls("file", None, whole)
        named = re.fullmatch(r"(?:(.+?):)?((robustbench|hf):.*)", text)
        kind: Kind = "file"
        if named is not None:
            model, place, kind = named[1], named[2], "hf" if named[3] == "hf" else "robustbench"
        else:
            before, colon, place = text.rpartition(":")
            model = before if colon else None
        if model == "" or not place.removeprefix(ROBUSTBENCH):
            raise BenchError(f"{text!r} is no checkpoint.\n{_ADVICE}")
        if model is not None:
            registry.find("models", split_spec(model)[0])
        return cls(kind, model, os.path.expanduser(place) if kind == "file" else place)


def check(text: str, models: Path) -> None:
    """Find a mistake in a name before anything long begins; nothing is downloaded.

    Raises:
        BenchError: as `locate`, as far as that can be told from here.
    """
    kind, _, place = Reference.parse(text)
    if kind == "hf":
        hub.HubFile.parse(place)
    elif kind == "robustbench":
        name = _robustbench_name(place)
        if not any(path.exists() for path in _places(name, models)) and not _installed():
            raise _not_here(name, models, None)
    elif not os.path.lexists(place):
        raise BenchError(f"There is no checkpoint {place}.\nCheck the path. {_ADVICE}")


def locate(text: str, models: Path, dataset: str, ask: bool = True) -> Found:
    """Where a checkpoint lies, which is downloaded if it has to be, and what its name says of it.

    Args:
        models: the home's folder of them. dataset: the name of the one it is for.
        ask: whether anything may be downloaded.

    Raises:
        BenchError: the text has no such form, there is nothing of that name, or the package that would fetch it is
            missing.
    """
    kind, model, place = Reference.parse(text)
    if kind == "hf":
        path, file = hub.HubFile.parse(place).fetch(ask)
        return Found(path, model, f"{file.repo}/{PurePosixPath(file.path).with_suffix('')}", str(file))
    if kind == "robustbench":
        name = _robustbench_name(place)
        data = next((known for known in _DATA if known in dataset), None)
        path = _of_robustbench(name, models, data, ask)
        known = PUBLISHED.get(name)
        # Without a data set of theirs the normalisation is found by trying.
        known = None if known is None else known.format(data=data) if data else known.removesuffix("@{data}")
        return Found(path, model or known, name, str(path.resolve()))
    path = Path(place)
    return Found(path, model, path.stem, str(path.resolve()))


def _robustbench_name(place: str) -> str:
    name = place.removeprefix(ROBUSTBENCH)
    if re.fullmatch(r"\w[\w.+-]*", name) is None:
        raise BenchError(f"{place!r} is no name of RobustBench's.{suggestion(name, PUBLISHED)}\n{_ADVICE}")
    return name


def _places(name: str, models: Path, data: str | None = None) -> list[Path]:
    """Where a file of RobustBench's may lie: in the folders that it makes itself, or right in the home's `models`."""
    of_data = [models / each / "Linf" / f"{name}.pt" for each in ([data] if data else _DATA)]
    return [*of_data, models / f"{name}.pt"]


def _of_robustbench(name: str, models: Path, data: str | None, ask: bool) -> Path:
    """The file of a network of RobustBench's, fetched by its package where it is not here."""
    places = [models / f"{name}.pt"] if data is None else _places(name, models, data)
    found = next((path for path in places if path.exists()), None)
    if found is not None:
        return found
    if not ask or data is None or not _installed():
        raise _not_here(name, models, data)
    return _fetched(name, data, places[0])


def _fetched(name: str, data: str, target: Path) -> Path:
    """A network's file by the package, at its place only when it is whole."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as folder:
            from robustbench.utils import load_model

            with redirect_stdout(sys.stderr):  # where it tells of the download
                load_model(model_name=name, model_dir=folder, dataset=data, threat_model="Linf")
            os.replace(Path(folder) / data / "Linf" / target.name, target)
    except Exception as error:  # whatever a package of strangers' raises, or the network
        reason = one_line(f"{type(error).__name__}: {error}")[:200].rstrip(".")
        raise BenchError(
            f"The package robustbench cannot fetch {name} for {data} ({reason}).{suggestion(name, PUBLISHED)}\n"
            f"Correct the name, or put its file at {target}."
        ) from error
    return target


def _installed() -> bool:
    """Whether RobustBench's package is here: torchattacks brings an old copy of it, which does not count."""
    try:
        return bool(version("robustbench"))
    except PackageNotFoundError:
        return False


def _not_here(name: str, models: Path, data: str | None) -> BenchError:
    """The error for a network of RobustBench's that is not here and that nothing here can fetch."""
    if _installed():
        return BenchError(
            f"{models / f'{name}.pt'} does not exist, and RobustBench has networks for {' and '.join(_DATA)} alone.\n"
            "Put the file there, or choose one of these datasets."
        )
    place = _places(name, models, data)[0] if data else models / f"{name}.pt"
    hint = "" if name in PUBLISHED else suggestion(name, PUBLISHED)
    return BenchError(
        f"{place} does not exist, and the package robustbench, which fetches it, is not installed.{hint}\n"
        "Put the file there, or install the package: pip install robustbench."
    )
