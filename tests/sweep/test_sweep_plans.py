"""From a spec to tasks: what is there, once, in which order, and as which commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.sweep.plan import Plan, Task, dataset_name, expand
from bench.sweep.spec import SweepSpec


def plan_of(*grids: dict[str, Any], name_of: Callable[[str], str] = lambda spec: spec) -> Plan:
    base = {"methods": ["sat"], "students": ["digits-cnn"], "datasets": ["digits"], "recipes": ["demo"]}
    spec = SweepSpec.model_validate({"description": "a test", "runs": [base | grid for grid in grids]})
    return expand(spec, name_of)


def commands(plan: Plan, kind: str) -> list[str]:
    return [task.command for task in plan if task.kind == kind]


def test_every_combination_is_a_run_and_each_has_all_evaluations() -> None:
    plan = plan_of(
        {
            "methods": ["sat", "ciard"],
            "students": ["digits-cnn", "digits-mobile"],
            "seeds": [0, 1],
            "ablations": [{}, {"steps": 3}, {"eps": "8/255"}],
            "evaluations": [{"suite": "whitebox", "limit": 10}, {"suite": "pgd-sat"}],
        }
    )
    students = [task for task in plan if task.kind == "student"]
    assert len(students) == 2 * 2 * 2 * 3
    assert len(set(commands(plan, "student"))) == len(students)
    for student in students:
        evaluations = [task for task in plan if student.number in task.needs]
        assert [task.evaluation and task.evaluation.suite for task in evaluations] == ["whitebox", "pgd-sat"]
    assert len(plan) == len(students) * 3 + 2


def test_teachers_come_once_and_before_the_students_that_need_them() -> None:
    plan = plan_of({"methods": ["ciard", "rslad", "sat"], "seeds": [0, 1, 2]})
    assert [task.number for task in plan] == list(range(1, len(plan) + 1))
    by_number: dict[int, Task] = {task.number: task for task in plan}
    for task in plan:
        assert all(need < task.number for need in task.needs)
        roles = {by_number[need].request.role for need in task.needs}
        assert roles == {"ciard": {"robust", "clean"}, "rslad": {"robust"}}.get(task.request.method, set())
    assert commands(plan, "teacher") == [
        f"bench teacher train --role {role} --dataset digits --recipe demo" for role in ("robust", "clean")
    ]


def test_where_teachers_vary_each_seed_has_its_own_and_transfers_come_from_one() -> None:
    plan = plan_of(
        {
            "methods": ["rslad", "sat"],
            "seeds": [0, 1],
            "teacher_seeds": True,
            "evaluations": [{"suite": "blackbox"}],
        }
    )
    teacher = "bench teacher train --role robust --dataset digits --recipe demo"
    assert commands(plan, "teacher") == [teacher, f"{teacher} --seed 1"]
    by_number = {task.number: task for task in plan}
    students = [task for task in plan if task.kind == "student"]
    taught = {(task.request.method, task.request.seed): task.needs for task in students}
    assert {by_number[need].request.seed for need in taught["rslad", 1]} == {1}
    assert [task.run_command[-1] == "--teacher-seeds" for task in students] == [True, True, False, False]
    for task in plan:
        if task.kind == "evaluation":
            assert by_number[task.needs[1]].request.seed == 0


def test_a_method_s_own_teacher_is_a_task_of_its_own_and_transfers_use_the_usual_one() -> None:
    plan = plan_of(
        {
            "methods": ["dard"],
            "students": ["resnet18"],
            "datasets": ["cifar10"],
            "recipes": ["official"],
            "evaluations": [{"suite": "blackbox"}],
        }
    )
    own, student, usual, evaluation = plan
    assert own.command == "bench teacher train --role robust --method dard --dataset cifar10 --recipe official"
    assert (own.request.student, own.request.method) == ("resnet56", "sat")
    assert usual.command == "bench teacher train --role robust --dataset cifar10 --recipe official"
    assert student.needs == (own.number,)
    assert evaluation.needs == (student.number, usual.number)


def test_the_same_run_of_two_grids_is_one_task() -> None:
    twice = plan_of(
        {"methods": ["sat", "ciard"], "evaluations": [{"suite": "whitebox"}]},
        {"methods": ["ciard"], "ablations": [{}, {"push": False}], "evaluations": [{"suite": "whitebox"}]},
    )
    assert len(commands(twice, "student")) == 3
    assert len({task.command for task in twice}) == len(twice)


def test_a_command_says_all_that_was_asked_for_and_nothing_else() -> None:
    changed = {"epochs": 3, "batch_size": 8, "limit_train": 100, "precision": "bf16", "seeds": [7]}
    ablation = {"push": False, "teacher_lr": 1e-05, "clean_temperatures": [4, 1.5], "push_form": "released"}
    files = {"robust": "digits-teacher:my file.pt", "clean": "c.pt"}
    evaluations = [{"suite": "blackbox", "limit": 5, "protocol": "paper", "surrogate": "r.pt"}]
    student, evaluation = plan_of(
        {"methods": ["ciard"], "ablations": [ablation], "teachers": files, "evaluations": evaluations} | changed
    )
    assert shlex.split(student.command) == [
        *("bench", "run", "--method", "ciard", "--student", "digits-cnn", "--dataset", "digits", "--recipe", "demo"),
        *("--precision", "bf16", "--limit-train", "100", "--epochs", "3", "--batch-size", "8", "--seed", "7"),
        *("--teacher", "robust=digits-teacher:my file.pt", "--teacher", "clean=c.pt"),
        *("--set", "push=false", "--set", "teacher_lr=1e-05", "--set", "clean_temperatures=[4, 1.5]"),
        *("--set", "push_form=released"),
    ]
    assert evaluation.command == (
        f"bench eval --suite blackbox --limit 5 --protocol paper --checkpoint-of best --teacher robust=r.pt "
        f'--run "$(basename "$({student.command})")"'
    )
    (plain,) = plan_of({})
    assert plain.command == "bench run --method sat --student digits-cnn --dataset digits --recipe demo"


def test_teachers_depend_on_the_dataset_s_name_and_not_on_where_it_lies() -> None:
    grid = {"methods": ["rslad"], "datasets": ["parquet:/nowhere"], "recipes": ["official"]}
    cifar100 = plan_of(grid, name_of=lambda spec: "cifar100")
    assert cifar100[0].request.student == "wrn-70-16"
    assert plan_of(grid, name_of=lambda spec: "other")[0].request.student == "wrn-34-10"


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"methods": ["cairds"]}, "Did you mean 'ciard'"),
        ({"students": ["digits-cn"]}, "Did you mean 'digits-cnn'"),
        ({"recipes": ["dem"]}, "Did you mean 'demo'"),
        ({"ablations": [{"epss": 1.0}]}, "Did you mean 'eps'"),
        ({"ablations": [{"steps": "many"}]}, "takes int"),
        ({"evaluations": [{"suite": "whitebx"}]}, "Did you mean 'whitebox'"),
    ],
)
def test_mistakes_are_found_before_anything_begins(grid: dict[str, Any], says: str) -> None:
    with pytest.raises(BenchError, match=says):
        plan_of(grid)


def test_a_dataset_is_named_by_its_files_or_as_it_is_registered(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").touch()
    name_of = dataset_name(lambda spec: f"name of {spec}", tmp_path)
    assert [name_of(spec) for spec in ("digits", "mine")] == ["digits", "mine"]
    assert name_of("parquet:/x") == "name of parquet:/x"
    with pytest.raises(BenchError, match="Did you mean 'digits'"):
        plan_of({"datasets": ["digit"]}, name_of=name_of)


def test_threats_are_an_axis_of_runs_and_of_their_evaluations() -> None:
    plan = plan_of(
        {
            "methods": ["ard"],
            "threats": [None, "linf:1/16", "l2:0.5"],
            "evaluations": [{"suite": "fgsm,pgd-sat", "threats": [None, "l1:6"]}, {"suite": "clean", "threat": "1/16"}],
        }
    )
    students = [task for task in plan if task.kind == "student"]
    assert [str(task.request.threat) for task in students] == ["None", "linf:0.0625", "l2:0.5"]
    assert len([task for task in plan if task.kind == "teacher"]) == 3, "each with a teacher under the same threat"
    assert commands(plan, "teacher")[2].endswith("--recipe demo --threat l2:0.5")
    assert "--dataset digits --recipe demo --threat linf:0.0625" in commands(plan, "student")[1]
    evaluations = [task for task in plan if students[0].number in task.needs]
    assert [shlex.split(task.line.partition(" --run ")[0])[2:] for task in evaluations] == [
        ["--suite", "fgsm,pgd-sat", "--checkpoint-of", "best"],
        ["--suite", "fgsm,pgd-sat", "--threat", "l1:6", "--checkpoint-of", "best"],
        ["--suite", "clean", "--eps", "0.0625", "--checkpoint-of", "best"],
    ]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"threats": ["l3:1"]}, "Unknown norm 'l3'"),
        ({"threats": []}, "at least 1"),
        ({"threat": "l2:0.5", "threats": ["l2:1"]}, "give one of them"),
        ({"evaluations": [{"suite": "clean", "threat": "much"}]}, "is no number"),
    ],
)
def test_a_threat_that_is_none_is_refused(grid: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_of(grid)
