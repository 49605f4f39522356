"""Run folders: everything one training run leaves behind.

config.json        the resolved configuration
recipe.yaml        the recipe, where it is one of the user's own: the whole of it, what it extends included
environment.json   versions, git commit, device
metrics.jsonl      a line per logging step (kind "steps") and per epoch (kind "epoch")
loggers.json       how many of those lines each logger has had (`bench.loggers`); tensorboard/, wandb/: files of theirs
progress.json      where the run stands, refreshed while it runs
resume.pt          all state needed to go on, removed when the run is finished; resume-before.pt the one before it
lock               held by the process that trains; names it
best.safetensors   the student's selected weights; last.safetensors its final ones
*-plain.safetensors   where these are of an average of the student: the student's own at that time
*-teacher.safetensors   a teacher that went on learning, as it was at the end
summary.json       written when the run is finished: what was selected, and how

environment.json, summary.json and each line of metrics.jsonl hold a digest of their content and the run's id, the
weights one of their own (`bench.system.files`): what was changed, or copied from another run, is noticed. Files of
versions before that have none, and are read all the same.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from bench.errors import BenchError
from bench.recipes import recipe
from bench.records.files import read_record
from bench.runs import resume
from bench.runs.config import RunConfig
from bench.runs.reading import read_checked
from bench.runs.summary import Progress as Progress
from bench.runs.summary import Summary as Summary
from bench.system import locks
from bench.system.files import cannot_write, flush_to_disk, sealed, unsealed, unsealed_line, write_text_atomically
from bench.system.home import Home
from bench.system.left_out import name_left_out
from bench.system.naming import chosen
from bench.system.text import one_line

if TYPE_CHECKING:
    from torch import nn

_RECIPE = "recipe.yaml"

Method = TypeVar("Method", bound=Callable[..., Any])
State = Literal["not run", "running", "interrupted", "trained"]


def _written(otherwise: Any = None) -> Callable[[Method], Method]:
    """A method that does nothing, and gives `otherwise`, where the folder is one that is not written to."""

    def made(method: Method) -> Method:
        @wraps(method)
        def called(folder: RunFolder, *arguments: Any, **options: Any) -> Any:
            return method(folder, *arguments, **options) if folder.writes else otherwise

        return cast(Method, called)

    return made


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run's folder; every file is replaced as a whole.

    Attributes:
        writes: False for a process that trains in step with the one that writes.
    """

    path: Path
    writes: bool = True

    @classmethod
    def of(cls, home: Home, run_id: str) -> RunFolder:
        """The folder of a run in a home, which may not exist yet."""
        if re.fullmatch(r"[A-Za-z0-9._-]+", run_id) is None or run_id in {".", ".."}:
            raise BenchError(f"{run_id!r} is not a run id.\n`bench status` lists the runs.")
        return cls(home.runs / run_id)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @_written(nullcontext())
    @contextmanager
    def locked(self, pause: Callable[[float], None] = time.sleep) -> Iterator[locks.Owner | None]:
        """The run for this process alone, until the block ends or the process does, however it ends.

        Args:
            pause: waits some seconds; may raise.

        Yields:
            The dead process that it was taken over from; None where there was none.

        Raises:
            locks.Busy: another process has it (named).
            BenchError: the folder cannot be written.
        """
        with locks.held(self._lock, f"{self.id} is being trained", pause) as before:
            for abandoned in self.path.glob(".*.tmp"):  # by a process that was killed while it wrote
                abandoned.unlink(missing_ok=True)
            yield before

    @_written()
    def create(self, config: RunConfig, environment: Mapping[str, Any], text: str = "") -> None:
        """Make the folder with its configuration, or check that the one there is the same.

        Args:
            text: of a recipe of the user's own.
        """
        path = self.path / "config.json"
        if path.exists() and self.config() == config:
            return
        if text:
            write_text_atomically(self.path / _RECIPE, text)
        write_text_atomically(path, config.model_dump_json(indent=1) + "\n")
        content = json.dumps(sealed(environment, self.id), indent=1)
        write_text_atomically(self.path / "environment.json", content + "\n")

    @_written()
    def clear(self) -> None:
        """Delete all that the run left (`--restart`), inside `locked`."""
        try:
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != self._lock:
                    path.unlink()
        except OSError as error:
            raise BenchError(f"Cannot empty {self.path}: {error.strerror}.\nRemove it by hand.") from error

    def config(self) -> RunConfig:
        """The run's configuration; a `BenchError` where the file is missing or not valid."""
        config = read_checked(self.path / "config.json", RunConfig)
        if config.id != self.id:
            raise BenchError(
                f"{self.path / 'config.json'} was changed: it describes the run {config.id}.\n"
                "Restore it, or delete this folder and run the command again."
            )
        return config

    @property
    def recipe(self) -> str:
        """The recipe of the run as `bench.recipes.recipe.load` takes it: its name, or the file with its text.

        Raises:
            BenchError: the file is missing, or was changed.
        """
        config, path = self.config(), self.path / _RECIPE
        if config.recipe_digest is None:
            return config.recipe
        if recipe.load(str(path)).digest != config.recipe_digest:
            raise BenchError(f"{path} was changed since {self.id} began.\nRestore it, or train again with --restart.")
        return str(path)

    def summary(self) -> Summary | None:
        """What the run selected; None while it is not finished."""
        path = self.path / "summary.json"
        return read_checked(path, Summary, self.id) if path.exists() else None

    def environment(self) -> dict[str, Any] | None:
        """Where the run was trained; None where nothing tells.

        Raises:
            BenchError: the file is damaged, or another run's.
        """
        path = self.path / "environment.json"
        try:
            found = unsealed(json.loads(path.read_text(encoding="utf-8")), self.id)
            if not isinstance(found, dict):
                raise TypeError(f"it holds a {type(found).__name__}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise BenchError(
                f"{path} is damaged ({one_line(str(error))}), and records name the device a run was trained on.\n"
                "Restore it, or delete it: the record then has no cost of training."
            ) from error
        return found

    def device(self) -> str | None:
        """The GPU or processor it was trained on, by name; None where nothing tells."""
        device = (self.environment() or {}).get("hardware")
        return device if isinstance(device, str) else None

    def check(self) -> None:
        """A `BenchError` where a file cannot be used that tells what the run is, what it selected, or where it ran."""
        self.config(), self.summary(), self.environment()

    def progress(self) -> Progress | None:
        """Where the run stands; None where nothing tells.

        No more than a message to whoever looks: it may vanish under the reader, and nothing depends on it.
        """
        try:
            progress: Progress = read_checked(self.path / "progress.json", Progress)
        except BenchError:
            return None
        return progress

    def state(self) -> State:
        """Whether the run is not begun, running, interrupted or trained."""
        if self.finished:
            return "trained"
        if locks.is_held(self._lock):
            return "running"
        return "interrupted" if self._begun or self.lost_its_summary else "not run"

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.path / "summary.json").exists()

    @property
    def _begun(self) -> bool:
        return resume.exists(self.path) or (self.path / "progress.json").exists()

    @property
    def lost_its_summary(self) -> bool:
        """Whether the run came to its end, as its weights and the lack of a state show, but its summary is gone."""
        return not self.finished and not self._begun and (self.best.exists() or self.last.exists())

    @_written()
    def write_progress(self, epoch: int, epochs: int, step: int, steps: int, seconds_left: float | None) -> None:
        """Say where the run stands."""
        progress = Progress(epoch=epoch, epochs=epochs, step=step, steps=steps, seconds_left=seconds_left)
        write_text_atomically(self.path / "progress.json", progress.model_dump_json() + "\n")

    @_written()
    def save_resume(self, state: Mapping[str, Any]) -> None:
        """Save all state needed to go on; one file, so that it is never half old and half new."""
        locks.check_mine(self._lock)
        flush_to_disk(self._metrics)  # a state must not outlive the lines that are before it
        resume.save(self.path, state)

    @_written()
    def load_resume(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The state to go on from; None where there is none. `say` tells of a damaged one that is passed over."""
        return resume.load(self.path, say)

    @_written()
    def finish(self, summary: Summary) -> None:
        """Declare the run finished; the state for resuming is no longer needed."""
        flush_to_disk(self._metrics)
        content = json.dumps(sealed(summary.model_dump(), self.id), indent=1)
        write_text_atomically(self.path / "summary.json", content + "\n")
        resume.forget(self.path)
        (self.path / "progress.json").unlink(missing_ok=True)

    @_written()
    def save_weights(self, name: str, network: nn.Module, metadata: dict[str, str]) -> None:
        """Write a network as `NAME.safetensors`."""
        from bench.models.checkpoints import save_weights  # PyTorch is of no use to whoever only looks at runs

        save_weights(self.path / f"{name}.safetensors", network, metadata)

    @_written()
    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        try:
            with self._metrics.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(sealed(line, self.id)) + "\n")
        except OSError as error:
            raise cannot_write(self._metrics, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; one that is damaged is left out and named, unless a crash cut the last one short.

        Raises:
            BenchError: the file cannot be read.
        """
        if not self._metrics.exists():
            return []
        try:
            texts = self._metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError as error:
            raise BenchError(f"Cannot read {self._metrics}: {error.strerror}.\nCheck its permissions.") from error
        lines, damaged = [], []
        for number, text in enumerate(texts, start=1):
            try:
                line = unsealed_line(text, self.id)
                lines.append({**line, "kind": line["kind"], "epoch": int(line["epoch"]), "step": int(line["step"])})
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                if number < len(texts):  # after the last line's end there is nothing more
                    damaged.append(BenchError(f"line {number} of {self._metrics}, which is damaged"))
        name_left_out("line", damaged)
        return lines

    @_written(())
    def forget_metrics_after(self, epoch: int, step: int) -> Sequence[int]:
        """Drop what was logged beyond a place in the run, so that a continued run logs nothing twice.

        An epoch's own line comes after its last step: where the run stands within the epoch, it is beyond.

        Returns:
            The epochs before that place whose own lines are missing.
        """
        kept = [
            line
            for line in self.metrics()
            if line["epoch"] < epoch or (line["epoch"] == epoch and line["step"] <= step and line["kind"] == "steps")
        ]
        write_text_atomically(self._metrics, "".join(json.dumps(sealed(line, self.id)) + "\n" for line in kept))
        there = {line["epoch"] for line in kept if line["kind"] == "epoch"}
        return [each for each in range(1, epoch) if each not in there]


def all_runs(home: Home) -> Iterator[RunFolder]:
    """Every run folder of a home, by name; one that holds a damaged file is left out and named."""
    damaged = []
    for folder in _folders(home):
        try:
            folder.check()
        except BenchError as error:
            damaged.append(error)
            continue
        yield folder
    name_left_out("run", damaged)


def find_run(home: Home, name: str) -> RunFolder:
    """The run that a user names: by its id or a beginning of it, by its folder, or by the file of a record of it.

    Raises:
        BenchError: there is none, there are several, or it holds a damaged file.
    """
    known = {folder.id: folder for folder in _folders(home)}
    if name not in known and name.endswith(".json"):
        run = read_record(Path(name)).subject.run
        if run is None:
            raise BenchError(f"{name} is a record of a file from elsewhere, not of a run.\n`bench status` lists runs.")
        name = run
    elif name not in known and (Path(name) / "config.json").is_file():
        name = Path(name).resolve().name
    folder = known[chosen("run", name, known)]
    folder.check()
    return folder


def _folders(home: Home) -> list[RunFolder]:
    """Every folder of a home that holds a run's configuration, by name."""
    paths = sorted(home.runs.iterdir()) if home.runs.is_dir() else []
    return [RunFolder(path) for path in paths if (path / "config.json").exists()]
