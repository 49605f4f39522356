"""Whatever stands in a place of a record: it is refused, or every command that reads records works with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.analysis.audit import audit_tables
from bench.analysis.audit_text import to_text
from bench.analysis.compare import compare_networks
from bench.errors import BenchError
from bench.figures import tradeoff
from bench.jobs import results, status
from bench.records.files import checked_record, known_record, read_record
from bench.records.index import Facts
from bench.records.networks import Network, networks_of
from bench.records.record import Record, content_digest
from bench.report import checks, classes, leaderboard, training
from bench.system.home import Home
from bench.system.naming import short_names
from bench.tables import build_tables
from bench.tables.render import to_csv, to_latex, to_markdown

from ..helpers.places import DEMO_RECORDS

SOURCES = [
    next(DEMO_RECORDS.glob(pattern))
    for pattern in ("*cnn_sat_*whitebox*", "*cnn_sat_*blackbox*", "*cnn_sat_*autoattack*", "*robust-teacher*whitebox*")
]
RIVALS = [read_record(path) for path in sorted(DEMO_RECORDS.glob("*cnn_rslad_*.json"))]

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(10**23, 2**63, 2**63 - 1, 2**62 + 1, 2**53 + 1, 2**31, -1, -(2**63), -(10**40), 0, 1, 7),
        *(1e300, -1e300, 1e10, 1e-320, -0.0, 0.5, 1.0, 2.5, float("inf"), float("-inf"), float("nan")),
        *(None, True, False, [], {}, [[]], [1, 2], {"a": 1}, {"": None}, [None] * 20, [10**30], {"x": {"y": 1e308}}),
        *("", "x", "0", "x" * 5000, "\u202e", "\x1b[31m", "a\nb", "$\\frac{", "../../x", "=1+1", "2026-13-45"),
        *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "clean", "robust"),
    ]
) | st.integers(1, 200).map(lambda depth: json.loads("[" * depth + "]" * depth))


def leaves(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) whose content is neither a list nor a mapping, or is an empty one."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, (dict, list)) and value:
            yield from leaves(value)
        yield content, key


def sealed(content: dict[str, Any]) -> bytes:
    return json.dumps(content | {"digest": content_digest(json.dumps(content))}).encode()


def use(home: Home, records: list[Record]) -> None:
    """All that is made of records."""
    for number in (2, 3):
        for table in build_tables(records, [number]):
            assert to_markdown(table)
            assert to_latex(table)
            assert to_csv(table)
    found = [*leaderboard.entries(records), *leaderboard.entries(records, "teacher")]
    leaderboard.to_plain(found, "all")
    accuracies = classes.class_accuracies(found, {each.id: each for each in records})
    json.dumps(classes.chart(accuracies, {}))
    classes.worst_table(accuracies, {})
    training.costs(records)
    checks.table(records)
    standings = status.standings(home, records)
    json.dumps([one.content(short_names(one.id for one in standings)) for one in standings])
    status.grid(standings, [])
    results.to_csv(results.chosen_rows(networks_of(records)), {})
    to_text(audit_tables(records, [3]))
    with suppress(BenchError):  # no two that compare
        for drawing in tradeoff.draw([*records, *RIVALS], "fgsm"):
            assert drawing.name == Path(drawing.name).name
            assert len(drawing.name) < 210
    with suppress(BenchError):  # two of one name, say, or nothing in common
        networks = [Network.of([record]) for record in records if record.subject.run is not None]
        compare_networks(networks)


def taken(content: dict[str, Any]) -> Record | None:
    """The record, if it is not refused; a refusal is one or two lines."""
    text = sealed(content)
    try:
        record = checked_record(Path("x.json"), text)
    except BenchError as error:
        refusal = str(error).splitlines()
    else:
        refusal = []
    if refusal:
        assert len(refusal) <= 2
        return None
    assert known_record(text) == record
    assert Facts.of(record).id == record.id
    return record


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A record as it is in the repository, with another value in one place."""
    content = json.loads(draw(st.sampled_from(SOURCES)).read_text())
    container, key = draw(st.sampled_from(list(leaves(content))))
    container[key] = deepcopy(draw(VALUES))
    return content


quick = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@settings(quick, max_examples=200)
@given(changed())
def test_any_value_in_any_place_is_refused_or_read(content: dict[str, Any]) -> None:
    taken(content)


@settings(quick, max_examples=4)
@given(st.lists(changed(), min_size=30, max_size=30))
def test_what_is_read_can_be_used(tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, Any]]) -> None:
    records = [record for content in contents if (record := taken(content)) is not None]
    own = [record.model_copy(update={"id": f"{number}{record.id}"}) for number, record in enumerate(records)]
    use(Home(tmp_path_factory.mktemp("home")), own)


def set_at(*place: str | int) -> Callable[[Any], dict[str, Any]]:
    """A function that gives a record with a value in a place."""

    def change(value: Any) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(SOURCES[0].read_text())
        container: Any = content
        for key in place[:-1]:
            container = container[key]
        container[place[-1]] = value
        return content

    return change


@pytest.mark.parametrize(
    ("place", "least", "most", "beyond"),
    [
        (("subject", "seed"), 0, 2**63 - 1, [-1, 2**63, 10**23]),
        (("seed",), 0, 2**63 - 1, [-1, 2**63, 10**23]),
        (("seconds",), 0.0, 1e10, [-1e-9, 1.1e10, float("inf"), float("nan")]),
        (("subject", "training", "seconds"), 0.0, 1e10, [-1.0, 1e300]),
        (("data", "total"), 360, 10**9, [359, 10**9 + 1, 10**23]),
        (("data", "eps"), 1e-9, 1.0, [0.0, -0.1, 1.01, 1e300]),
        (("results", "fgsm", "batch_size"), 1, 10**9, [0, -1, 10**23]),
        (("results", "fgsm", "seconds"), 0.0, 1e10, [-1.0, 1e11]),
        (("results", "fgsm", "components"), {"a": 0.0}, {"a": 1.0}, [{"a": -0.1}, {"a": 1.1}]),
        (("results", "fgsm", "parameters", "steps"), -(2**63) + 1, 2**63 - 1, [2**63, -(2**63), [[10**30]]]),
        (("results", "fgsm", "parameters", "eps"), -1e308, 1e308, [float("inf"), float("nan")]),
        (("subject", "overrides"), {"a": 0}, {"a": [[[[1]]]]}, [{"a": json.loads("[" * 12 + "]" * 12)}]),
        (("environment", "threads"), 0, 2**63 - 1, [2**63]),
        (("id",), "x", "x" * 250, ["x" * 251, "a/b", ".x", ""]),
    ],
)
def test_every_number_has_a_range(
    tmp_path: Path, place: tuple[str, ...], least: Any, most: Any, beyond: list[Any]
) -> None:
    """The ends of it can be tabulated; what is beyond them is refused."""
    for value in (least, most):
        record = taken(set_at(*place)(value))
        assert record is not None
        build_tables([record], [3])
    assert all(taken(set_at(*place)(value)) is None for value in beyond)


def test_the_largest_seeds_are_tabulated_as_they_are() -> None:
    """As 64-bit floats two of these are one."""
    found = [taken(set_at("subject", "seed")(2**63 - number)) for number in (1, 2, 3)]
    records = [record.model_copy(update={"id": str(record.subject.seed)}) for record in found if record is not None]
    (table,) = build_tables([*records, *RIVALS], [3])
    assert any("9223372036854775805, 9223372036854775806, 9223372036854775807" in note for note in table.notes)
    assert {entry.seeds[0] for entry in leaderboard.entries(records) if entry.view == "network"} == {
        2**63 - 3,
        2**63 - 2,
        2**63 - 1,
    }
