"""`bench.load_records` and `bench.compare`: what the commands list and compare, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from bench.analysis.compare import Comparison
from bench.errors import BenchError
from bench.records.files import write_record
from bench.records.record import Record

from ..helpers.records import RecordMaker


@pytest.fixture
def records(make_record: RecordMaker) -> list[Record]:
    first, second, third = 90, 50, 20
    return [
        make_record({"clean": first, "fgsm": second}, method="sat", label="SAT", minute=2),
        make_record({"clean": first, "fgsm": third}, method="ciard", label="CIARD", minute=1, model="net@cifar10"),
        make_record({"clean": first, "pgd-sat": 1}, method="mine", kind="checkpoint", dataset="own", minute=3),
    ]


@pytest.fixture
def home(records: list[Record], tmp_path: Path) -> Path:
    for record in records:
        write_record(record, tmp_path / "results" / "records")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["ciard", "sat", "mine"]),
        ({"method": "sat"}, ["sat"]),
        ({"student": "net"}, ["ciard"]),
        ({"student": "net@cifar10"}, ["ciard"]),
        ({"dataset": "own"}, ["mine"]),
        ({"attack": "fgsm"}, ["ciard", "sat"]),
        ({"attack": "fgsm", "method": "mine"}, []),
        (
            {"method": "ciad"},
            r"Unknown method \(nothing was measured here .*\) 'ciad'\. Did you mean 'ciard'",
        ),
        ({"student": 5}, "student=5: give a text"),
        ({"home": 5}, "home=5 is no folder"),
        ({"home": "nowhere"}, "there is no such folder"),
    ],
)
def test_records_are_found_by_what_they_are_of(home: Path, asked: dict[str, Any], found: list[str] | str) -> None:
    def load() -> list[Record]:
        return bench.load_records(**{"home": home, **asked})

    if isinstance(found, str):
        with pytest.raises(BenchError, match=found):
            load()
    else:
        assert [record.subject.method for record in load()] == found


def test_a_home_without_records_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "new"))
    assert bench.load_records(method="anything") == []


def test_records_lists_and_names_are_compared(home: Path, records: list[Record]) -> None:
    sat, ciard, _ = records
    ways: list[Callable[[], Comparison]] = [
        lambda: bench.compare(sat, ciard),
        lambda: bench.compare([sat, ciard]),
        lambda: bench.compare("sat", "ciard", home=home),
        lambda: bench.compare(home / "results" / "records" / f"{sat.id}.json", str(ciard.subject.run), home=home),
    ]
    shown = [str(way()) for way in ways]
    assert len(set(shown)) == 1
    assert shown[0].startswith("SAT against CIARD on the first 100 of cifar10")
    assert "\nSAT is better under FGSM by 30.0 points (" in shown[0]
    assert "  fgsm, robust accuracy: 50.00 against 20.00 %, +30.00 [" in shown[0]
    only = bench.compare(sat, ciard, attacks="fgsm")
    assert {contrast.attack for contrast in only.contrasts} == {"fgsm"}
    assert repr(only) == str(only)


@pytest.mark.parametrize(
    ("sides", "options", "message"),
    [
        ((), {}, "only one network"),
        ((5, 6), {}, r"compare\(\) takes no int\.\nGive records"),
        (([np.zeros(3)],), {}, r"compare\(\) takes no ndarray\.\n"),
        (("sta", "ciard"), {}, "Did you mean 'sat'"),
        (("sat", "ciard"), {"attacks": 5}, "attacks=5: give a name"),
        (("sat", "ciard"), {"attacks": "fgms"}, "Did you mean 'fgsm'"),
        (("sat", "ciard"), {"all_seeds": 1}, "all_seeds=1: give True or False"),
        (("sat", "mine"), {}, "no attack in common"),
    ],
)
def test_every_mistake_is_a_bench_error(
    home: Path, sides: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        bench.compare(*sides, home=home, **options)
