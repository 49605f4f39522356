"""The measured numbers that are committed are those of the committed records, in the tables and in the pages."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..helpers.commands import Bench
from ..helpers.places import DOCS, RESULTS

CAMPAIGNS = (
    "demo",
    "cpu-check",
    "cpu-check-why",
    "cpu-seeds",
    "cpu-seed-2",
    "digits-vit",
    "brief-cifar10",
    "brief-cifar10-first",
    "digits-study",
    "digits-one-teacher",
)


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("render", DOCS / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENDER = _load()


@pytest.mark.parametrize("home", RENDER.TABLES)
def test_the_tables_are_what_their_records_render(
    bench: Bench, tmp_path: Path, campaign: Callable[[str], Path], home: str
) -> None:
    result = bench(*RENDER.TABLES[home], "--out", tmp_path, home=campaign(home))
    assert result.code == 0, result.err
    rendered = sorted(tmp_path.iterdir())
    assert len(rendered) == len(result.out.splitlines())
    for path in rendered:
        committed = RESULTS / home / "tables" / path.name
        assert committed.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), committed


@pytest.mark.parametrize("name", RENDER.PRINTED)
def test_what_a_page_quotes_is_what_the_command_prints(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(RESULTS)
    result = bench(*RENDER.found(RENDER.PRINTED[name], Path.cwd()))
    assert result.code == 0, result.err
    assert Path(name).read_text(encoding="utf-8") == result.out


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_shows_the_files_it_names(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert RENDER.embedded(text) == text, "make measured"


def test_a_change_in_an_embedded_file_is_seen_and_a_lost_end_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("| 2 |\n", encoding="utf-8")
    page = "before\n<!-- from: table.md -->\n\n| 1 |\n\n<!-- end -->\nafter\n"
    assert RENDER.embedded(page, tmp_path) == page.replace("| 1 |", "| 2 |")
    with pytest.raises(ValueError, match="1 starts and 0 ends"):
        RENDER.embedded(page.replace("<!-- end -->", ""), tmp_path)
    part = page.replace("table.md", "table.md rows: b")
    (tmp_path / "table.md").write_text(
        "text\n\n| x | y |\n|---|---|\n| a | 1 |\n| b | 2 |\n\n- note\n", encoding="utf-8"
    )
    assert RENDER.embedded(part, tmp_path) == part.replace("| 1 |", "| x | y |\n|---|---|\n| b | 2 |")
    with pytest.raises(ValueError, match="no row begins with 'c'"):
        RENDER.embedded(part.replace("rows: b", "rows: c"), tmp_path)
    with pytest.raises(FileNotFoundError):
        RENDER.embedded(page.replace("table.md", "lost.md"), tmp_path)
    with pytest.raises(FileNotFoundError, match="no-such"):
        RENDER.found(("compare", "no-such-*.json"), tmp_path)


@pytest.mark.parametrize("home", CAMPAIGNS)
def test_the_records_are_whole(bench: Bench, campaign: Callable[[str], Path], home: str) -> None:
    assert list((campaign(home) / "records").glob("*.json"))
    result = bench("results", "validate", home=campaign(home))
    assert result.code == 0, result.err


@pytest.mark.parametrize("home", CAMPAIGNS)
def test_a_campaign_has_the_environment_of_its_records(campaign: Callable[[str], Path], home: str) -> None:
    environment = json.loads((RESULTS / home / "environment.json").read_text(encoding="utf-8"))
    for path in (campaign(home) / "records").glob("*.json"):
        of_record = json.loads(path.read_text(encoding="utf-8"))["environment"]
        of_record.pop("speedups", None)  # those of an evaluation; the file has a training's
        assert of_record.items() <= environment.items(), path


def test_nothing_committed_has_weights_or_the_place_it_was_made_in(campaign: Callable[[str], Path]) -> None:
    folders = {folder for name in CAMPAIGNS for folder in (RESULTS / name, campaign(name))}
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".gz"]
    assert {path.suffix for path in files} <= {".json", ".md", ".jsonl", ".txt", ".tex", ".csv", ".png", ".pdf"}
    for path in files:
        if path.suffix not in (".png", ".pdf"):
            assert not re.search(r"/(?:home|root|tmp|work|mnt|data)/", path.read_text(encoding="utf-8")), path
