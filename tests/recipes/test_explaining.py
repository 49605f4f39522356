"""`bench explain`: every fact comes from the class; the fidelity page, to which it points, says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.recipes import recipe
from bench.recipes.explain import Explanation, explain, fidelity_page
from bench.recipes.hyperparameters import defaults, method_class, parse_settings
from bench.registry import names

from ..helpers.commands import Bench

METHODS = names("methods")
CODE = re.compile(r"`([^`]+)`")


def section(name: str) -> str:
    """The page's section on a defense, or on the one that it derives from."""
    text = fidelity_page().read_text(encoding="utf-8")
    for cls in method_class(name).__mro__:
        label = cls.__dict__.get("label")
        found = label and re.search(rf"^## {re.escape(label)}(?=[ (;]|$).*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
        if found:
            return str(found[1]).strip()
    raise AssertionError(f"no section of docs/fidelity.md is on {name}")


def table_rows(markdown: str) -> Iterator[dict[str, str]]:
    """Every row of the tables in a Markdown text, by the header's cells."""
    header: list[str] = []
    for line in markdown.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not header:
            header = cells
        elif not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            yield dict(zip(header, cells, strict=True))


def _stated(found: Explanation) -> set[str]:
    """Every parameter that the section names: in its tables, and as `NAME=VALUE` or `NAME` in its prose."""
    known = {each.name for each in found.hyperparameters}
    return {code.partition("=")[0] for code in CODE.findall(section(found.name))} & known


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_that_the_page_names_is_one(name: str) -> None:
    for row in table_rows(section(name)):
        for code in CODE.findall(row["parameter"]):
            if "=" in code:
                assert parse_settings(name, [code])
            else:
                assert code in defaults(method_class(name)), row


@pytest.mark.parametrize("name", METHODS)
def test_what_the_variants_differ_in_is_on_the_page(name: str) -> None:
    found = explain(name)
    pages = [section(name)]
    if "as ARD" in pages[0]:
        pages.append(section("ard"))
    stated = {code for page in pages for code in CODE.findall(page)}
    differing = {each.name for each in found.hyperparameters if len({*map(str, each.values.values())}) > 1}
    assert {*found.differences} == differing <= stated
    if "No difference between the variants" in pages[0]:
        assert not differing


@pytest.mark.parametrize("name", METHODS)
def test_numbers_on_the_page_are_the_defaults(name: str) -> None:
    found = explain(name)
    values = {each.name: each.default for each in found.hyperparameters}
    for parameter, number in re.findall(r"`(\w+)` = ([\d./]*\d)", section(name)):
        if parameter in values:
            numerator, _, denominator = number.partition("/")
            assert values[parameter] == float(numerator) / float(denominator or 1), parameter


def test_some_numbers_are_on_the_page() -> None:
    """The test above compares something."""
    assert section("trades").count("`beta` = 6") == 1
    assert {"temperature", "alpha"} <= _stated(explain("ard"))


def test_fields_are_described_wherever_their_docstring_stands() -> None:
    about = {each.name: each.about for each in explain("ciard").hyperparameters}
    assert about["alpha"] == "weight of N."
    assert about["beta"] == "weight of A."
    assert about["eps"].startswith("radius of the ball")
    assert about["teacher_weight_decay"] == "of its SGD."
    assert about["teacher_momentum"] == "of its SGD."
    assert about["teacher_lr_decay"].endswith("have passed.")  # its second line


@pytest.mark.parametrize("name", METHODS)
def test_every_field_is_described_by_itself_or_with_another(name: str) -> None:
    fields = explain(name).hyperparameters
    told = " ".join(each.about for each in fields)
    assert [each.name for each in fields if not each.about and f"`{each.name}`" not in told] == []


def test_a_definition_holds_what_a_derived_class_adds() -> None:
    definition = explain("ciard").definition
    assert definition.index("alpha * N + beta * A - lambda * P (Eq. 7)") < definition.index("The released code")
    assert "lambda" not in explain("b-mtard").definition
    assert explain("b-mtard").definition.startswith("MTARD with the targets")


def test_values_are_those_of_the_variants() -> None:
    rows = {each.name: each for each in explain("ciard").hyperparameters}
    assert rows["push_form"].values == {"paper": "algorithm1", "official": "released"}
    assert rows["push_form"].type == "'algorithm1' or 'released'"
    assert rows["eps"].length
    assert not rows["alpha"].length


def test_a_case_of_another_defense_has_its_section() -> None:
    assert explain("pgdard").label == "PGDARD"
    assert {row["parameter"] for row in table_rows(section("pgdard"))} >= {"`form`", "`attack_in_train_mode`"}
    assert {*explain("pgdard").differences} == {"form", "attack_in_train_mode"}


def test_recipes_are_resolved_for_the_method() -> None:
    rows = {each.recipe: each for each in explain("dard").schedules}
    assert (rows["official"].variant, rows["official"].epochs) == ("released", 50)
    assert {role: str(teacher) for role, teacher in rows["official"].teachers.items()} == {"robust": "resnet56 by sat"}


def test_a_bar_within_a_cell_is_no_border() -> None:
    assert list(table_rows("| a | b |\n|---|:-:|\n| KL(p \\|\\| q) | 1 |\n\n| c |\n|---|\n| 2 |")) == [
        {"a": "KL(p || q)", "b": "1"},
        {"c": "2"},
    ]


def test_a_section_ends_where_the_next_one_begins() -> None:
    titles = [line for line in fidelity_page().read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    assert len(titles) > len({section(name) for name in METHODS}) > 10
    for name in METHODS:
        assert not any(title in section(name) for title in titles)


@pytest.fixture(params=["a pipe", "a terminal"])
def command(bench: Bench, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """command("ciard"): `bench explain ciard`, eighty columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    if request.param == "a terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
    return lambda *arguments: bench("explain", *arguments)


Command = Callable[..., Any]


def typed(found: Explanation) -> Iterator[str]:
    """All that a user may have to type of what is explained."""
    yield found.name
    for each in found.hyperparameters:
        yield each.name
        yield from re.findall(r"'([^']+)'", each.type)
        for value in each.values.values():
            yield f"{round(value * 255)}/255" if each.length and value * 255 % 1 == 0 else str(value).replace(" ", "")
    for schedule in found.schedules:
        yield from (schedule.recipe, schedule.variant, *(each.model for each in schedule.teachers.values()))
        yield from (f"{name}={value}".replace(" ", "") for name, value in schedule.settings.items())


@pytest.mark.parametrize("name", METHODS)
def test_no_name_that_is_typed_is_cut_at_eighty_columns(command: Command, name: str) -> None:
    found = explain(name)
    text = re.sub(r"\x1b\[[0-9;]*m", "", command(name).out)
    lines = text.splitlines()
    for word in {word.replace("(", "[").replace(")", "]").replace(",]", "]") for word in typed(found)}:
        assert [line for line in lines if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", line)], word
    assert [line for line in lines if len(line.rstrip()) > 80 and found.page not in line] == []
    assert "…" not in text
    told = " ".join(text.split())
    for part in (found.source, *(each.about for each in found.hyperparameters)):
        for sentence in part.replace("`", "").split(": "):
            assert " ".join(sentence.split()) in told.replace("`", "")


def test_the_command_prints_all_of_it(bench: Bench) -> None:
    text = bench("explain", "ciard").out
    found = explain("ciard")
    for part in (found.source, found.definition, found.page, "The variants differ in"):
        assert " ".join(part.split()) in " ".join(text.split())
    shown = re.findall(r"^- `(\w+)` \(", text, re.MULTILINE)
    assert shown == list(defaults(method_class("ciard")))
    assert "- `eps` (float; paper `8/255`, official `8/255`): radius" in text
    assert re.findall(r"^- `([\w-]+)`: variant", text, re.MULTILINE) == recipe.names()


def test_the_command_s_json_holds_the_same(bench: Bench) -> None:
    found = json.loads(bench("explain", "trades", "--json").out)
    assert found["name"] == "trades"
    assert found["hyperparameters"][0]["values"] == {"paper": 8 / 255, "official": 0.031}
    assert found["differences"] == ["eps", "step_size", "repeat_clean_forward"]
    found = json.loads(bench("explain", "ard", "--json").out)
    (demo,) = (each for each in found["schedules"] if each["recipe"] == "demo")
    assert demo["teachers"] == {"robust": {"model": "digits-teacher", "method": "trades"}}


def test_a_name_that_is_none_has_the_closest_one(bench: Bench) -> None:
    assert "Did you mean 'ciard'?" in bench("explain", "ciardd").mistake
