"""What a sweep's file may hold, what is said of one that is wrong, and that the built-in ones keep their promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.errors import BenchError
from bench.evaluation.suites import suite_named
from bench.recipes.hyperparameters import defaults, method_class, parse_settings
from bench.sweep.plan import Plan, expand
from bench.sweep.spec import Changes, load_sweep, names
from bench.tables import load_specs

from ..helpers.places import DOCS

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
    text = (DOCS / "sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    kinds = [task.kind for task in planned(str(tmp_path / "mine.yaml"))]
    assert [kinds.count(kind) for kind in ("teacher", "student", "evaluation")] == [2, 9, 15]


def test_the_first_tables_come_row_by_row_the_most_wanted_first() -> None:
    """Stopped at any moment, what is done is complete rows."""
    plan = planned("short-cifar10")
    students = [task for task in plan if task.kind == "student"]
    order = [
        "natural",
        "sat",
        "trades",
        "rslad",
        "b-mtard",
        "ciard",
        "mtard",
        "ard",
        "score",
        "fair-ard",
        "absld",
        "dard",
    ]
    assert [task.request.method for task in students[:12]] == order
    assert [task.request.settings for task in students[12:14]] == [("push=false", "itt=false"), ("push=false",)]
    assert {task.request.student for task in plan if task.kind != "teacher"} == {"resnet18", "mobilenet_v2"}
    teachers = {
        (task.request.role, task.request.student, task.request.method) for task in plan if task.kind == "teacher"
    }
    assert teachers == {("clean", "resnet56", "natural"), ("robust", "wrn-22-6", "trades")}
    row = [task for task in plan if task.request.method == "ciard" and not task.request.settings][:4]
    assert [task.evaluation and task.evaluation.suite for task in row] == [None, "whitebox", "blackbox", "autoattack"]
    assert [task.evaluation.limit for task in row if task.evaluation] == [None, None, 1000]
    seeds = {task.request.seed for task in students if task.request.method == "ciard" and not task.request.settings}
    assert len(seeds) >= 2


def test_the_check_on_a_cpu_has_every_method_on_five_thousand_images() -> None:
    plan = planned("cpu-check")
    built_in = {"natural", "sat", "trades", "score", "ard", "rslad", "fair-ard", "absld", "mtard", "b-mtard", "ciard"}
    assert {task.request.method for task in plan if task.kind == "student"} == built_in | {"dard"}
    assert {task.request.limit_train for task in plan} == {5000}
    assert {task.request.epochs for task in plan if task.kind == "student"} == {10}
    limits = {(task.evaluation.suite, task.evaluation.limit) for task in plan if task.evaluation}
    assert limits == {("whitebox", 1000), ("blackbox", 1000), ("autoattack", 100)}


def test_the_check_over_seeds_ends_a_seed_of_all_six_before_the_next() -> None:
    plan = planned("cpu-seeds")
    students = [task.request for task in plan if task.kind == "student"]
    assert [request.seed for request in students] == [0] * 6 + [1] * 6 + [2] * 6
    assert {request.method for request in students[:6]} == {"sat", "trades-awp", "rslad", "adaad", "ciard", "dard"}
    check = next(task.request for task in planned("cpu-check") if task.request.method == "rslad")
    assert next(request for request in students if request.method == "rslad") == check


def test_a_command_changes_data_recipe_and_lengths_of_a_whole_sweep() -> None:
    sweep = load_sweep("short-cifar10")
    changed = Changes("parquet:/somewhere", "rehearsal", limit_train=160, limit=4).of(sweep)
    assert Changes().of(sweep) == sweep
    plan = expand(changed, lambda spec: "somewhere")
    assert len(plan) == len(planned("short-cifar10"))
    for task in plan:
        asked = task.request
        assert (asked.dataset, asked.recipe, asked.limit_train) == ("parquet:/somewhere", "rehearsal", 160)
        assert task.evaluation is None or task.evaluation.limit == 4
    fewer = Changes(limit=2000).of(sweep).runs[0].evaluations
    assert [each.limit for each in fewer] == [2000, 2000, 1000]


def test_the_demo_has_every_method_of_this_package_and_the_older_ones_with_both_students() -> None:
    own = {name for name in registry.names("methods") if registry.find("methods", name).module.startswith("methods.")}
    since = {row.method for row in load_specs()[8].rows}
    trained = {
        student: {name for grid in load_sweep("demo").runs if student in grid.students for name in grid.methods}
        for student in ("digits-cnn", "digits-mobile")
    }
    assert trained == {"digits-cnn": own, "digits-mobile": own - since}


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
    with pytest.raises(BenchError, match="Did you mean 'table7', 'table8' or 'tables'"):
        load_sweep("table")


@given(text=st.text(max_size=200) | st.text(alphabet="[]{}:-, \nabc!&*01", max_size=60))
@settings(deadline=None, max_examples=150)
def test_nonsense_is_refused_in_two_lines(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "nonsense.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(BenchError) as caught:
        load_sweep(str(path))
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "text",
    [
        "runs: [2020-13-45]",
        f"runs: [{{seeds: [{'9' * 5000}]}}]",
        f"description: a\nruns: [{{methods: [sat], students: [a], datasets: [b], epochs: 0x1{'0' * 5000}}}]",
        f"runs: [{{methods: [sat], students: [a], datasets: [b], ablations: [{{beta: 0x1{'0' * 5000}}}]}}]",
        "a: !!timestamp x",
        "[" * 100_000,
    ],
)
def test_what_the_yaml_reader_stumbles_over_is_a_mistake_in_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(BenchError, match=r"The sweep .*mine\.yaml is not valid: .*\nRepair the file") as caught:
        load_sweep(str(file))
    assert len(str(caught.value)) < 500
