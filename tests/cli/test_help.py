"""`--help`: whole sentences and examples that work; and what is suggested for a name that does not exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from unittest.mock import patch

import click
import pytest

from bench import registry
from bench.cli.help import Shown, first_sentence
from bench.cli.main import COMMANDS, cli
from bench.errors import close_names
from bench.evaluation.suites import SUITES

from ..helpers.commands import Bench


def every_command(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group with the words that call it."""
    context = click.Context(group)
    yield path, group
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        else:
            yield (*path, name), command


FOUND = dict(every_command(cli))
GROUPS = [path for path, command in FOUND.items() if isinstance(command, click.Group)]
EXAMPLES = [(path, line) for path, command in FOUND.items() if isinstance(command, Shown) for line in command.examples]


def test_every_command_has_an_example() -> None:
    shown = {path for path, _ in EXAMPLES}
    assert {path for path in FOUND if path not in GROUPS} - shown == set()


@pytest.mark.parametrize(("path", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_is_a_command_that_exists_and_stands_in_one_line(
    bench: Bench, path: tuple[str, ...], line: str
) -> None:
    words = shlex.split(re.sub(r'^eval "\$\((.*)\)"$', r"\1", line))
    assert words[0] == "bench"
    if path:
        assert tuple(words[1 : len(path) + 1]) == path
    with patch.object(click.Command, "invoke", lambda self, context: None):
        result = bench(*words[1:])
        assert result.code == 0, result
        assert f"\n  {line}\n" in bench(*path, "--help").out
    assert len(line) <= 78


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_the_list_of_commands_has_whole_sentences(bench: Bench, path: tuple[str, ...]) -> None:
    text = " ".join(bench(*path, "--help").out.split())
    group = FOUND[path]
    assert isinstance(group, click.Group)
    for name in group.list_commands(click.Context(group)):
        command = (*path, name)
        sentence = first_sentence(FOUND[command].help or "") if path else COMMANDS[name][1]
        assert sentence.endswith(".")
        assert f"{name} {sentence}" in text


ATTACKS = {*SUITES, *registry.names("attacks")}


@pytest.mark.parametrize(
    ("name", "known", "close"),
    [
        ("pgd", ATTACKS, ["pgd-20", "pgd-curve", "pgd-sat", "pgd-trades"]),
        ("pgd", registry.names("methods"), []),  # PGDARD is no attack
        ("seed", {"suite", "student", "precision"}, []),
        ("eps", {"help", "home", "limit"}, []),
        ("limit", {"limit-train", "help"}, ["limit-train"]),
        ("auto", ATTACKS, ["autoattack", "autoattack-rand"]),
        ("cifar", {"cifar10", "cifar100", "digits"}, ["cifar10", "cifar100"]),
        ("B_MTARD", registry.names("methods"), ["b-mtard"]),
        ("mtrad", registry.names("methods"), ["mtard"]),
        ("resnet1", {"resnet18", "resnet56"}, ["resnet18"]),
        ("x" * 300, {"ciard"}, []),
        ("", {"ciard"}, []),
    ],
)
def test_what_is_close_to_a_name(name: str, known: set[str], close: list[str]) -> None:
    assert close_names(name, known) == close


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("report --eps 4", "No such option: --eps.\n"),
        ("report --seed 4", "No such option: --seed.\n"),
        ("run --limit 4", "No such option: --limit. Did you mean --limit-train?\n"),
        ("eval --suite pgd", "Did you mean 'pgd-20', 'pgd-curve', 'pgd-sat' or 'pgd-trades'?\n"),
        ("run --student resnet18 --method pgd", "Unknown method 'pgd'.\n"),
    ],
)
def test_a_suggestion_is_close_in_meaning(bench: Bench, command: str, hint: str) -> None:
    assert hint in bench(*command.split()).mistake
