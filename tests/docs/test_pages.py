"""What README.md and docs/ show works as it stands there: every file, every command, every example."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest

from ..helpers.commands import Bench, Process
from ..helpers.places import DOCS, ROOT

PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted(DOCS.glob("*.md"))]
PLUGINS = [DOCS / "add-a-defense.md", DOCS / "add-an-attack.md"]
"""Pages that build and install a package; each has a test of its own below."""

Follow = Callable[[Path, Path], list[Any]]
Read = Callable[[Path], list[Any]]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in PLUGINS], ids=named)
def test_what_a_page_shows_runs(page: Path, reader: Path, follow: Follow) -> None:
    follow(page, reader)


@pytest.mark.slow
def test_the_defense_of_its_page_is_a_package_that_trains(
    reader: Path, follow: Follow, process: Process, tmp_path: Path
) -> None:
    # A researcher's folder with packages of the same names as ours, which must not be taken for them.
    for name in ("methods", "attacks"):
        (reader / name).mkdir()
        (reader / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n", encoding="utf-8")
    follow(DOCS / "add-a-defense.md", reader)
    (run,) = (reader / "results" / "runs").glob("*mart-lite*")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["method"], config["label"], config["hyperparameters"]["weight"]) == ("mart-lite", "MART-lite", 6.0)
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["terms"].keys() == {"loss", "ce_adv", "boosted_kl"}
    assert list((reader / "results" / "records").glob("*mart-lite*whitebox*.json"))

    options = ("run", "--method", "mart-lite", "--student", "digits-cnn", "--dataset", "digits")
    without = process(*options, cwd=tmp_path, module=True)
    assert "Unknown method 'mart-lite'" in without.mistake


@pytest.mark.slow
def test_the_attack_of_its_page_is_a_package_that_attacks(reader: Path, follow: Follow) -> None:
    done = follow(DOCS / "add-an-attack.md", reader)
    (listed,) = (each.out for each in done if each.command == ("bench", "list", "attacks"))
    assert "pgd-dlr" in listed
    assert any(each.command == ("python",) for each in done)  # the page's own check, which asserts
    for protocol, steps in (("official", 20), ("paper", 100)):
        paths = list((reader / "results" / "records").glob(f"*pgd-dlr-{protocol}*.json"))
        assert len(paths) == 2  # the two students
        for path in paths:
            result = json.loads(path.read_text(encoding="utf-8"))["results"]["pgd-dlr"]
            assert result["parameters"]["steps"] == steps
            assert result["worst"] is not None


def test_a_page_with_a_package_has_its_own_test(read: Read) -> None:
    installs = ("pip", "install", "./")
    found = [
        page
        for page in PAGES
        if any((*words[:2], words[-1][:2]) == installs for block in read(page) for words in block.commands)
    ]
    assert found == PLUGINS


def test_every_shown_command_is_one_that_the_command_line_takes(bench: Bench, read: Read, instead: Any) -> None:
    """Also those that are run in small, or not at all: parsed as they are written, not invoked."""
    shown = {words for page in PAGES for block in read(page) for words in block.commands if "bench" in words}
    assert shown
    with patch.object(click.Command, "invoke", lambda self, context: None):
        for words in sorted(shown | {small for small in instead.small.values() if "bench" in small}):
            result = bench(*words[words.index("bench") + 1 :])
            assert result.code == 0, (shlex.join(words), result.err)


def test_what_is_run_in_place_of_a_command_has_its_options(instead: Any) -> None:
    for words, small in instead.small.items():
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= {word.partition("=")[0] for word in small}, shlex.join(words)
        assert words[:2] == small[:2], shlex.join(words)


def test_the_list_of_commands_has_none_that_no_page_shows(read: Read, instead: Any) -> None:
    shown = {words for page in PAGES for block in read(page) for words in block.commands}
    assert {shlex.join(words) for words in instead.small if words not in shown} == set()
    assert {shlex.join(words) for words in instead.not_run if words not in shown} == set()
    assert not instead.small.keys() & instead.not_run.keys()
