"""A stranger's package, installed beside this one, adds to every kind; none that is broken harms the rest.

The packages are folders with modules and the metadata that an installer leaves (one that pip builds and installs is in
tests/docs). What is about the import path a process starts with runs in processes; the rest finds the packages here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Protocol

import pytest

from bench import registry

from ..helpers.commands import Bench, Process, Result
from ..helpers.homes import Find

SHORT = ("--recipe", "demo", "--epochs", "1", "--limit-train", "60")


def install(folder: Path, name: str, entry_points: str, **modules: str) -> None:
    """What an installer leaves of a package: its modules, its name, its entry points."""
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(dedent(source))
    metadata = folder / f"{name.replace('-', '_')}-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(dedent(entry_points))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with a stranger's method, attack, model and dataset, and with plug-ins that are broken.

    The broken ones are there in every test below: all of them show that the others do not suffer.
    """
    folder = tmp_path_factory.mktemp("strangers")
    install(
        folder,
        "strange-things",
        """
        [bench.methods]
        corner-training = strange_things:CornerTraining

        [bench.attacks]
        corner = strange_things:Corner

        [bench.models]
        linear-* = strange_things:build

        [bench.datasets]
        stripes:* = strange_things:load
        """,
        strange_things='''
        from dataclasses import dataclass

        import torch
        import torch.nn.functional as F
        from torch import nn

        from bench.attack import Attack, Outcome
        from bench.data import Dataset, Split
        from bench.defense import Batch, Defense, Loss, Models


        @dataclass(kw_only=True)
        class CornerTraining(Defense):
            """CE(s(x), y) + weight * CE(s(x + eps), y)."""

            eps: float = 8 / 255
            weight: float = 1.0

            label = "Corner training"
            source = "nobody"
            lengths = ("eps",)

            def __post_init__(self):
                if self.weight < 0:
                    raise ValueError(f"weight is {self.weight}, less than 0")

            def loss(self, batch: Batch, models: Models) -> Loss:
                x_adv = Corner(eps=self.eps)(models.student, batch.x, batch.y)
                clean = F.cross_entropy(models.student(batch.x), batch.y)
                adv = F.cross_entropy(models.student(x_adv), batch.y)
                return Loss(clean + self.weight * adv, {"ce": clean, "ce_adv": adv})


        @dataclass(frozen=True, kw_only=True)
        class Corner(Attack):
            """Adds eps to every pixel."""

            label = "Corner"
            source = "nobody"

            def run(self, model, x, y, *, noise=None, generator=None, track=False):
                return Outcome((x + self.eps).clamp(0, 1))


        def build(name, num_classes, in_channels):
            """One layer."""
            side = int(name.split("-")[1])
            head = nn.Linear(in_channels * side**2, num_classes) if side else nn.LazyLinear(num_classes)
            return nn.Sequential(nn.AdaptiveAvgPool2d(side or 1), nn.Flatten(), head)


        def load(name, root):
            """Bright upper or lower halves, so many of each."""
            n = int(name.partition(":")[2])
            labels = torch.arange(2 * n) % 2
            images = torch.zeros(2 * n, 1, 8, 8, dtype=torch.uint8)
            images[labels == 0, :, :4] = 200
            images[labels == 1, :, 4:] = 200
            split = Split(images, labels)
            return Dataset(name, split, split, ("upper", "lower"), eps=0.1, padding=0, flip=False)
        ''',
    )
    install(
        folder,
        "broken-things",
        """
        [bench.methods]
        no-module = broken_nowhere:Method
        raises = broken_raises:Method
        exits = broken_exits:Method
        no-method = broken_things:NotADefense
        no-label = broken_things:NoLabel

        [bench.attacks]
        no-attack = broken_things:NotADefense

        [bench.models]
        raises-too = broken_raises:build
        """,
        broken_raises="raise RuntimeError('out\\nof order')\n",
        broken_exits="raise SystemExit(0)\n",
        broken_things="""
        from bench.defense import Defense

        def NotADefense(): ...

        class NoLabel(Defense): ...
        """,
    )
    return folder


class Beside(Protocol):
    """beside("list", "methods", path=...): the command where a folder of packages is installed, in this process."""

    def __call__(self, *arguments: object, path: Path, home: Path | None = None) -> Result: ...


@pytest.fixture
def beside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    known = set(sys.modules)

    def call(*arguments: object, path: Path, home: Path | None = None) -> Result:
        monkeypatch.syspath_prepend(path)
        registry._entries.cache_clear()
        return bench(*arguments, home=home)

    yield call
    monkeypatch.undo()
    registry._entries.cache_clear()
    for name in set(sys.modules) - known:
        if name.startswith(("strange_", "broken_", "my_")):
            del sys.modules[name]


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A researcher's folder, with `methods/` and `attacks/` of its own that have nothing to do with this project."""
    for name in ("methods", "attacks"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise SystemExit('mine, not yours')\n")
    return tmp_path / "work"


def test_a_defense_is_listed_and_the_broken_are_named(process: Process, strangers: Path) -> None:
    result = process("list", "methods", path=strangers)
    assert result.code == 0, result
    assert "corner-training" in result.out
    assert "ciard" in result.out
    broken = {line.split("'")[1]: line for line in result.err.splitlines() if line.startswith("Broken: ")}
    assert broken.keys() == {"no-module", "raises", "exits", "no-method", "no-label"}
    assert "of broken-things cannot be imported (broken_raises:Method): RuntimeError: out of order" in broken["raises"]
    assert "ModuleNotFoundError" in broken["no-module"]
    assert "Traceback" not in result.err


@pytest.mark.parametrize("module", [False, True], ids=["bench", "python -m bench"])
def test_a_defense_trains_also_where_a_folder_of_ones_own_has_its_name(
    process: Process, strangers: Path, crowded: Path, runs: Find, module: bool
) -> None:
    options = ("--student", "digits-cnn", "--dataset", "digits", "--set", "weight=6", "--home", "home")
    result = process("run", "--method", "corner-training", *options, *SHORT, path=strangers, cwd=crowded, module=module)
    assert result.code == 0, result
    (run,) = runs(crowded / "home")
    config = json.loads((run / "config.json").read_text())
    assert (config["method"], config["label"], config["overrides"]) == (
        "corner-training",
        "Corner training",
        {"weight": 6},
    )
    assert config["hyperparameters"]["eps"] == config["data"]["eps"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["terms"].keys() == {"loss", "ce", "ce_adv"}


def test_a_stranger_s_defense_is_explained_from_its_class(beside: Beside, strangers: Path) -> None:
    result = beside("explain", "corner-training", "--json", path=strangers)
    assert result.code == 0, result
    found = json.loads(result.out)
    assert (found["package"], found["source"]) == ("strange-things", "nobody")
    assert found["definition"] == "CE(s(x), y) + weight * CE(s(x + eps), y)."
    assert [(each["name"], each["default"]) for each in found["hyperparameters"]] == [("eps", 8 / 255), ("weight", 1.0)]
    assert (found["page"], found["differences"]) == ("", [])
    assert "- `eps` (float; default `8/255`)" in beside("explain", "corner-training", path=strangers).out


def test_a_stranger_s_logger_hears_the_run(beside: Beside, tmp_path: Path, runs: Find) -> None:
    install(
        tmp_path,
        "strange-notes",
        "[bench.loggers]\nnotes = strange_notes:Notes\nno-logger = strange_notes:print\n",
        strange_notes="""
        from bench.loggers import Logger


        class Notes(Logger):
            def begin(self, run):
                self.file = run.folder / "notes.txt"

            def log(self, values, step):
                with self.file.open("a") as stream:
                    stream.write(f"{step} {sorted(values)[0]}\\n")


        print = print
        """,
    )
    options = ("run", "--method", "natural", "--student", "digits-cnn", "--dataset", "digits", *SHORT)
    result = beside(*options, "--logger", "notes", path=tmp_path, home=tmp_path / "home")
    assert result.code == 0, result
    (run,) = runs(tmp_path / "home")
    assert (run / "notes.txt").read_text() == "1 accuracy/student/clean\n"
    refused = beside(*options, "--logger", "no-logger", path=tmp_path, home=tmp_path / "home")
    assert "is no bench.loggers.Logger class" in refused.mistake


def test_a_broken_method_is_named_when_it_is_asked_for(beside: Beside, strangers: Path, tmp_path: Path) -> None:
    result = beside("run", "--method", "raises", "--student", "digits-cnn", path=strangers, home=tmp_path)
    assert "The method 'raises' of broken-things cannot be imported" in result.mistake


def test_what_a_method_or_a_model_refuses_is_the_user_s_mistake(
    beside: Beside, strangers: Path, tmp_path: Path
) -> None:
    arguments = ("run", "--method", "corner-training", "--dataset", "digits", *SHORT)
    refused = beside(*arguments, "--student", "digits-cnn", "--set", "weight=-1", path=strangers, home=tmp_path)
    assert "weight is -1.0, less than 0" in refused.mistake
    lazy = beside(*arguments, "--student", "linear-0", path=strangers, home=tmp_path)
    assert "lazy modules" in lazy.mistake


@pytest.mark.parametrize("command", ["list methods", "run --method sat --student digits-cnn --dataset digits"])
def test_a_folder_that_hides_ours_is_named(process: Process, crowded: Path, tmp_path: Path, command: str) -> None:
    result = process(*command.split(), path=crowded, home=tmp_path / "home")
    assert f"Python finds {crowded / 'methods'} instead of the harness's own 'methods' package" in result.mistake
    assert "PYTHONPATH" in result.mistake


def test_an_attack_a_model_and_a_dataset(beside: Beside, strangers: Path, tmp_path: Path, records: Find) -> None:
    home = tmp_path / "home"
    options = ("--method", "natural", "--student", "linear-8", "--dataset", "stripes:40", "--epochs", "4")
    result = beside("run", *options, "--recipe", "demo", "--batch-size", "8", path=strangers, home=home)
    assert result.code == 0, result
    result = beside("eval", "--suite", "corner", path=strangers, home=home)
    assert result.code == 0, result
    (record,) = (json.loads(path.read_text()) for path in records(home))
    assert (record["subject"]["model"], record["data"]["name"]) == ("linear-8", "stripes:40")
    assert (record["data"]["n"], record["data"]["eps"]) == (80, 0.1)
    assert record["results"]["corner"]["parameters"] == {"eps": 0.1}
    assert record["results"]["clean"]["accuracy"] > 0.9  # one layer, two stripes


@pytest.mark.parametrize(
    ("kind", "name", "broken"),
    [("attacks", "corner", "no-attack"), ("models", "linear-*", "raises-too"), ("datasets", "stripes:*", None)],
)
def test_they_are_listed(beside: Beside, strangers: Path, kind: str, name: str, broken: str | None) -> None:
    result = beside("list", kind, "--json", path=strangers)
    assert result.code == 0, result
    rows = {row["name"]: row for row in json.loads(result.out)}
    assert rows[name]["broken"] is None
    assert [row for row, content in rows.items() if content["broken"]] == ([broken] if broken else [])


def test_two_packages_with_one_name_spoil_that_name_alone(beside: Beside, strangers: Path, tmp_path: Path) -> None:
    install(tmp_path, "another-sat", "[bench.methods]\nsat = my_sat:SAT\n", my_sat="")
    result = beside("list", "methods", path=tmp_path)
    assert result.code == 0, result
    assert "ciard" in result.out
    assert "Broken: Two installed packages both call a method 'sat': another-sat and ard-bench." in result.err
