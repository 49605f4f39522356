"""`--set` reaches every hyper-parameter of a method, in the spellings people use, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import BenchError
from bench.recipes.hyperparameters import defaults, describe, make, method_class, parse_settings
from bench.registry import names

STARTS = "'none' or 'uniform' or 'gaussian' or 'uniform-unclamped' or 'gaussian-clamped'"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("push=false", False),
        ("push=yes", True),
        ("teacher_lr=1e-5", 1e-5),
        ("teacher_lr=3", 3.0),
        ("eps=8/255", 8 / 255),
        ("steps=7", 7),
        ("push_form=released", "released"),
        ("start=none", "none"),
        ("temperature_milestones=[3, 5]", (3, 5)),
        ("temperature_milestones=(3, 5)", (3, 5)),
        ("temperature_milestones=[]", ()),
    ],
)
def test_values_as_people_write_them(setting: str, value: Any) -> None:
    (found,) = parse_settings("ciard", [setting]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "right"),
    [
        ("push=1", "bool"),
        ("push=maybe", "bool"),
        ("steps=2.5", "int"),
        ("steps=true", "int"),
        ("steps=ten", "int"),
        ("steps=", "int"),
        ("teacher_lr=fast", "float"),
        ("teacher_lr=.nan", "float, and a finite one"),
        ("teacher_lr=inf", "float, and a finite one"),
        ("teacher_lr=1/0", "float"),
        ("teacher_lr=1e400", "float, and a finite one"),
        ("teacher_lr=-1e400", "float, and a finite one"),
        ("teacher_lr=1" + "0" * 400, "float, and a finite one"),
        ("teacher_lr=1" + "0" * 400 + "/3", "float"),
        ("teacher_lr=1e999999999999", "float, and a finite one"),
        ("push_form=relesed", "'algorithm1' or 'released'"),
        ("start=null", STARTS),
        ("temperature_milestones=3", "list of int, such as [1, 2]"),
        ("temperature_milestones=[a]", "list of int, such as [1, 2]"),
        ("teacher_lr={a: 1}", "float"),
        ("start=!!python/object:x {}", STARTS),
    ],
)
def test_a_wrong_type_names_the_right_one_and_all_keys(setting: str, right: str) -> None:
    with pytest.raises(BenchError) as caught:
        parse_settings("ciard", [setting])
    key = setting.partition("=")[0]
    wrong, known = str(caught.value).splitlines()
    assert wrong.startswith(f"--set {key}=")
    assert wrong.endswith(f"takes {right}.")
    assert all(f"{name} (" in known for name in defaults(method_class("ciard")) if name != "norm")


@pytest.mark.parametrize(
    ("setting", "words"),
    [("stpes=3", "Did you mean 'steps'?"), ("label=x", "Unknown"), ("=3", "Unknown"), ("steps", "has no '='")],
)
def test_an_unknown_key_is_refused(setting: str, words: str) -> None:
    with pytest.raises(BenchError, match=words.replace("?", r"\?")) as caught:
        parse_settings("sat", [setting])
    assert describe(method_class("sat")) in str(caught.value)


@pytest.mark.parametrize("second", ["teacher_lr=2", "teacher_lr = 1"])
def test_a_key_that_is_set_twice_is_refused_with_both_values(second: str) -> None:
    with pytest.raises(BenchError, match=r"--set teacher_lr=... is given twice") as caught:
        parse_settings("ciard", ["teacher_lr=1", "push=false", second])
    assert f"Choose one of 1 and {second.partition('=')[2]}." in str(caught.value)


@pytest.mark.parametrize("method", names("methods"))
def test_every_default_can_be_written_as_it_is_shown(method: str) -> None:
    values = {key: value for key, value in defaults(method_class(method)).items() if key != "norm"}
    shown = [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in values.items()]
    assert parse_settings(method, shown) == values
    assert make(method, values)
