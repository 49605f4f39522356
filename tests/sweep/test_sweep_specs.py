"""What a sweep's file may hold, what is said of one that is wrong, and that the built-in ones keep their promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.hyperparameters import defaults, method_class, parse_settings
from bench.suites import suite_named
from bench.sweep.plan import Plan, expand
from bench.sweep.spec import load_sweep, names
from bench.tabulate import load_specs

GRID = "{methods: [sat], students: [digits-cnn], datasets: [digits]}"


def planned(name: str) -> Plan:
    return expand(load_sweep(name), lambda spec: spec)


def test_what_tables_3_to_7_show_is_in_the_sweep_of_that_name() -> None:
    evaluated = {
        (task.request.method, task.request.settings, task.request.student, task.dataset, entry.result)
        for task in planned("tables")
        if task.evaluation is not None
        for entry in suite_named(task.evaluation.suite).entries
    }
    for number in range(3, 8):
        table = load_specs()[number]
        for dataset in table.datasets:
            for row in table.rows:
                assert row.method is not None
                overrides = tuple(f"{key}={str(value).lower()}" for key, value in row.overrides.items())
                for attack in table.attacks:
                    cell = (row.method, overrides, table.model_for(dataset), dataset, attack.result)
                    assert cell in evaluated, (number, cell)


def test_the_full_reproduction_has_four_teachers_forty_students_and_two_ablations() -> None:
    plan = planned("tables")
    kinds = [task.kind for task in plan]
    assert kinds.count("teacher") == 4
    assert kinds.count("student") == 42
    assert all(task.request.recipe == "official" for task in plan)
    assert all(task.evaluation.limit is None for task in plan if task.evaluation)


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("lambda", "push_weight", {-1.0, 0.01, 0.1, 1.0, 10.0}),
        ("freeze", "freeze_epochs", {25, 50, 75}),
        ("eps", "eps", {2 / 255, 4 / 255, 8 / 255, 12 / 255, 16 / 255}),
    ],
)
def test_a_sensitivity_varies_its_setting(name: str, key: str, values: set[float]) -> None:
    usual = defaults(method_class("ciard"))
    seen = [usual | parse_settings("ciard", t.request.settings) for t in planned(name) if t.kind == "student"]
    assert {each[key] for each in seen} == values
    # What is varied besides is what has to go with it, and nothing else.
    rest = [{k: v for k, v in each.items() if k not in (key, "step_size")} for each in seen]
    assert all(each == rest[0] for each in rest)
    assert all(each["step_size"] / each["eps"] == pytest.approx(1 / 4) for each in seen)


def test_the_sweep_that_the_docs_show_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    kinds = [task.kind for task in planned(str(tmp_path / "mine.yaml"))]
    assert [kinds.count(kind) for kind in ("teacher", "student", "evaluation")] == [2, 9, 15]


def test_every_built_in_sweep_can_be_planned() -> None:
    assert {"tables", "table7", "lambda", "freeze", "eps", "demo-digits"} <= set(names())
    assert all(planned(name) for name in names())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("description: x\nruns: []", "runs"),
        (f"runs: [{GRID}]", "description"),
        (f"description: x\nruns: [{GRID}]\nextra: 1", "extra"),
        ("description: x\nruns: [{methods: sat, students: [a], datasets: [b]}]", "runs.0.methods"),
        ("description: x\nruns: [{methods: [], students: [a], datasets: [b]}]", "runs.0.methods"),
        ("description: x\nruns: [{methods: [sat], students: [a], datasets: [b], seeds: [-1]}]", "runs.0.seeds.0"),
        ("description: x\nruns: [{methods: [sat], students: [a], datasets: [b], epochs: 1.5}]", "runs.0.epochs"),
        (
            "description: x\nruns: [{methods: [sat], students: [a], datasets: [b], ablations: [{eps: 2020-01-01}]}]",
            "runs.0.ablations.0.eps",
        ),
        ("a: [", "expected"),
        ("!!python/object/apply:os.system ['touch /tmp/x']", "constructor"),
        ("[" * 3000, "sweep"),
        ("just a text", "SweepSpec"),
        ("", "SweepSpec"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match="is not valid") as caught:
        load_sweep(str(path))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"description: \xff")
    for path in (tmp_path / "latin.yaml", tmp_path):
        with pytest.raises(BenchError, match="is not valid"):
            load_sweep(str(path))
    with pytest.raises(BenchError, match="no file"):
        load_sweep(str(tmp_path / "none.yaml"))
    with pytest.raises(BenchError, match="Did you mean 'tables'"):
        load_sweep("table")


@given(text=st.text(max_size=200) | st.text(alphabet="[]{}:-, \nabc!&*01", max_size=60))
@settings(deadline=None, max_examples=150)
def test_nonsense_is_refused_in_two_lines(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "nonsense.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(BenchError) as caught:
        load_sweep(str(path))
    assert len(str(caught.value).splitlines()) <= 2
