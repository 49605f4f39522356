"""Specs: the shipped ones, a user's own, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.tables import load_specs, read_spec

OWN = """
number: 9
title: Our own
access: white-box
models: {default: resnet18}
datasets: {cifar10: CIFAR-10}
columns: [clean, robust]
attacks: [{result: autoattack, label: AutoAttack}]
rows: [{method: sat, label: SAT}]
"""


def _write(folder: Path, text: str, name: str = "own.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_papers_tables_are_shipped() -> None:
    specs = load_specs()
    assert list(specs) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert [number for number, spec in specs.items() if spec.default] == [0, 3, 4, 5, 6, 7, 8]
    assert {number: len(spec.rows) for number, spec in specs.items()} == {
        0: 10,
        1: 5,
        2: 2,
        3: 10,
        4: 10,
        5: 7,
        6: 7,
        7: 3,
        8: 24,
    }
    assert [attack.result for attack in specs[5].attacks] == [
        "transfer:pgd-trades",
        "transfer:cw-inf",
        "square",
    ]


@pytest.mark.parametrize(
    ("number", "cifar", "digits"),
    [
        (3, "resnet18", "digits-cnn"),
        (4, "mobilenet_v2", "digits-mobile"),
        (5, "resnet18", "digits-cnn"),
        (6, "mobilenet_v2", "digits-mobile"),
        (7, "resnet18", "digits-cnn"),
        (8, "resnet18", "digits-cnn"),
    ],
)
def test_each_dataset_has_its_student(number: int, cifar: str, digits: str) -> None:
    spec = load_specs()[number]
    assert [spec.model_for(name) for name in ("cifar10", "cifar100", "digits")] == [cifar, cifar, digits]


def test_an_own_spec_joins_the_shipped_ones(tmp_path: Path) -> None:
    _write(tmp_path, OWN)
    assert load_specs(tmp_path)[9].title == "Our own"
    assert list(load_specs(tmp_path / "nowhere")) == list(load_specs())


def test_a_table_leaves_methods_to_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, OWN.replace("number: 9", "number: 9\nleft_to: 3"))
    _write(tmp_path, OWN.replace("number: 9", "number: 10\nleft_to: 77"), "nowhere.yaml")
    specs = load_specs(tmp_path)
    assert "ciard" in specs[9].left_methods
    assert "sat" not in specs[9].left_methods  # which it names itself
    assert "adaad" in specs[3].left_methods
    assert not specs[8].left_methods
    assert 10 not in specs
    assert "Table 10 leaves methods to Table 77, which there is not" in capsys.readouterr().err


def test_what_is_wrong_is_named_and_the_others_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, OWN.replace("number: 9", "number: 3"), "a-taken.yaml")
    _write(tmp_path, "number: [", "b-damaged.yaml")
    (tmp_path / "c-binary.yaml").write_bytes(b"\xff\xfe\x00")
    _write(tmp_path, OWN)
    assert list(load_specs(tmp_path)) == [*load_specs(), 9]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "a-taken.yaml has the number 3" in lines[0]
    assert "b-damaged.yaml is not valid" in lines[1]
    assert "c-binary.yaml is not valid" in lines[2]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("number: 9", "number: [", "own.yaml"),
        ("number: 9", "number: eight", "number"),
        ("number: 9\n", "", "number"),
        ("title: Our own", "title: Our own\ncolour: red", "colour"),
        ("access: white-box", "access: grey-box", "access"),
        ("columns: [clean, robust]", "columns: [clean, price]", "columns.1"),
        ("columns: [clean, robust]", "columns: []", "columns"),
        ("columns: [clean, robust]", "columns: [clean, clean]", "column twice"),
        ("models: {default: resnet18}\n", "", "models"),
        ("datasets: {cifar10: CIFAR-10}", "datasets: {}", "datasets"),
        ("{method: sat, label: SAT}", "{role: clean, label: SAT}", "needs `method`"),
        ("{method: sat, label: SAT}", "{label: SAT}", "needs `method`"),
        ("{method: sat, label: SAT}", "{method: sat, label: SAT}, {method: ard, label: SAT}", "label twice"),
        ("number: 9", "number: 9\npaper: {file: no.csv, citation: X, n: 1, where: {}, values: {}}", "no.csv"),
        (
            "number: 9",
            "number: 9\npaper: {file: ../a.csv, citation: X, n: 1, where: {}, values: {}}",
            "plain",
        ),
        ("title: Our own", "title: !!python/object/apply:os.getcwd []", "own.yaml"),
        (OWN, "just text", "own.yaml"),
        (OWN, "", "own.yaml"),
    ],
)
def test_a_bad_spec_is_named_in_two_lines(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in OWN
    path = _write(tmp_path, OWN.replace(old, new))
    with pytest.raises(BenchError, match=named) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
