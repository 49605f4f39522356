"""What a user downloads can run no code, lead out of no folder, and break no table."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bench
from bench.errors import BenchError
from bench.evaluation.cache import Slot
from bench.models.checkpoints import read_state_dict
from bench.records.files import read_record, write_record
from bench.records.record import Record
from bench.runs.folder import RunFolder
from bench.system.home import Home
from bench.tables import render_tables

from .helpers.records import RecordMaker


class Bomb:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def bombs(folder: Path) -> list[bytes]:
    """Pickles that run code, alone and beside weights, in torch's new format and in its old one."""
    found = []
    for content in (Bomb(folder / "it-ran"), {"state_dict": {"w": torch.zeros(2)}, "x": Bomb(folder / "it-ran")}):
        for new in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=new)
            torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
            os.rmdir(folder / "it-ran")  # so it is a bomb
            found.append(stream.getvalue())
    return found


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.safetensors", "x"])
def test_a_checkpoint_runs_no_code(tmp_path: Path, name: str) -> None:
    for content in bombs(tmp_path):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchError, match=r"could run foreign code|no safetensors file"):
            read_state_dict(tmp_path / name)
        assert not (tmp_path / "it-ran").exists()


def test_a_kept_file_runs_no_code(tmp_path: Path) -> None:
    said: list[str] = []
    for content in bombs(tmp_path):
        (tmp_path / "kept.safetensors").write_bytes(content)
        assert Slot(tmp_path / "kept.safetensors", {}, said.append).load() is None
        assert not (tmp_path / "it-ran").exists()
    assert len(said) == 4


PATHS = ("", ".", "..", "../x", "/etc/passwd", "a/b", "a/../../b", "x\0y", "runs/../../x")


@pytest.mark.parametrize("name", PATHS)
def test_a_run_id_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchError, match="is not a run id"):
        RunFolder.of(Home(tmp_path), name)


@pytest.mark.parametrize("name", ["../../out", "/out", "a/b", "..", "x\ny", "\x1b[31m"])
def test_a_model_s_name_stays_in_the_folder_of_records(tmp_path: Path, name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bench.evaluate(network, dataset="digits", suite="fgsm", limit=4, name=name, home=tmp_path / "home", save=True)
    (path,) = (tmp_path / "home" / "results" / "records").iterdir()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [path]
    assert read_record(path).id == path.stem


NAMES = (
    *("=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", " =1+1", "＝1+1"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`a`|b|**c**"),
    *(
        r"\input{/etc/passwd}",
        r"\write18{id}",
        "50% off",
        "a_b^c~d#e&f",
        "$x$",
        "two\nlines\n# heading",
        "]]>",
        "{{7*7}}",
    ),
)


@pytest.fixture
def hostile(make_record: RecordMaker) -> list[Record]:
    """Records whose method, label, setting, flags and device are all markup."""
    return [make_record(method=f"m{number}", label=name, flags=[name]) for number, name in enumerate(NAMES)]


def test_no_name_is_markup_in_markdown(hostile: list[Record], tmp_path: Path) -> None:
    for path in render_tables(hostile, [3], formats=["markdown"], out=tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<img" not in text
        assert "[x](javascript" not in text
        assert "\n# heading" not in text
        for piece in text.split("\n\n"):
            bars = {line.count("|") for line in piece.splitlines() if line.startswith("|")}
            assert len(bars) <= 1  # no name has opened a cell


def test_no_name_is_a_command_in_latex(hostile: list[Record], tmp_path: Path) -> None:
    paths = render_tables(hostile, [3], formats=["latex"], out=tmp_path)
    text = paths[0].read_text(encoding="utf-8")
    assert r"\input" not in text
    assert r"\write" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"50\% off" in text


def test_no_cell_is_a_formula_in_csv(hostile: list[Record], tmp_path: Path) -> None:
    (path,) = render_tables(hostile, [3], formats=["csv"], out=tmp_path)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cells = {cell for row in rows for cell in row.values()}
    assert {"'=cmd|' /C calc'!A0", "'+1+1", "'-1+1", "'@SUM(A1)", "'=1+1", "'＝1+1"} <= cells
    for cell in cells:
        assert not cell.startswith(("=", "+", "@", "＝", "\t"))
    assert {row["value"] for row in rows} >= {"80.0000"}  # numbers stay numbers


def test_names_in_figures_are_no_formulas(hostile: list[Record], tmp_path: Path) -> None:
    from bench.figures.page import styled

    with styled():
        from matplotlib import pyplot

        figure, axes = pyplot.subplots()
        axes.set_title(r"$\frac{")
        figure.savefig(tmp_path / "x.png")
        pyplot.close(figure)
    assert (tmp_path / "x.png").stat().st_size > 0


def test_a_record_that_was_edited_or_made_by_a_newer_version_says_so(make_record: RecordMaker, tmp_path: Path) -> None:
    path = write_record(make_record(), tmp_path)
    text = path.read_text()
    path.write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(BenchError, match=r"newer version \(schema 2, this one reads 1\): update ard-bench"):
        read_record(path)
    path.write_text(text.replace('"seconds": 5.0', '"seconds": 5.5'))
    with pytest.raises(BenchError, match="changed after it was written"):
        read_record(path)
