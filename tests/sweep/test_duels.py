"""What a duel asks for: its sweep, its name, and what is no duel."""

from __future__ import annotations

import shlex
from typing import Any
from unittest.mock import patch

import pytest

from bench.errors import BenchError
from bench.sweep.duel import Contender, Duel
from bench.sweep.plan import Plan, expand

from ..helpers.commands import Bench


def duel_of(*contenders: str, **changes: Any) -> Duel:
    asked: dict[str, Any] = {
        "student": "digits-cnn",
        "dataset": "digits",
        "recipe": "demo",
        "seeds": 2,
        "suites": ("fgsm", "square"),
    }
    return Duel(tuple(map(Contender.parse, contenders)), **(asked | changes))


def plan_of(duel: Duel) -> Plan:
    plan = expand(duel.spec, str)
    duel.check(plan)
    return plan


def test_a_seed_of_every_defense_comes_before_the_next_seed_and_is_attacked_at_once() -> None:
    plan = plan_of(duel_of("sat", "rslad"))
    asked = [(task.request.method, task.request.seed) for task in plan if task.kind == "student"]
    assert asked == [("sat", 0), ("rslad", 0), ("sat", 1), ("rslad", 1)]
    kinds = "".join(task.kind[0] for task in plan)
    assert kinds == "see" + "tsee" + "see" + "see"  # the teacher once, before the first that needs it


def test_its_options_are_those_of_every_run_and_evaluation() -> None:
    changes: dict[str, Any] = {"epochs": 3, "batch_size": 8, "limit_train": 100, "precision": "bf16", "seeds": 1}
    more: dict[str, Any] = {"limit": 5, "checkpoint_of": "both", "threat": 4 / 255, "teachers": {"robust": "r.pt"}}
    plan = plan_of(duel_of("sat", "ciard:push=false,clean_temperatures=[4, 1.5]", **changes, **more))
    students = [shlex.split(task.command) for task in plan if task.kind == "student"]
    for words in students:
        line = " ".join(words)
        for option in ("--epochs 3", "--batch-size 8", "--limit-train 100", "--precision bf16", "--eps 4/255"):
            assert option in line
    assert "--teacher" not in students[0]  # SAT has none
    assert students[1][-6:] == ["--teacher", "robust=r.pt", "--set", "push=false", *students[1][-2:]]
    assert students[1][-1] == "clean_temperatures=[4, 1.5]"
    (teacher,) = [task for task in plan if task.kind == "teacher"]
    assert teacher.request.role == "clean"
    evaluations = [task.command for task in plan if task.kind == "evaluation"]
    assert all(" --limit 5 " in command and "--checkpoint-of" not in command for command in evaluations)


def test_what_is_set_of_all_gives_way_to_what_is_set_of_one() -> None:
    plan = plan_of(duel_of("sat", "sat:steps=3", settings=("steps=4",), seeds=1, suites=("fgsm",)))
    assert [task.request.settings for task in plan if task.kind == "student"] == [("steps=4",), ("steps=3",)]


def test_with_teacher_seeds_every_seed_has_teachers_of_its_own_and_all_sides_share_them() -> None:
    plan = plan_of(duel_of("sat", "rslad", "ard", teacher_seeds=True))
    teachers = {task.number: task.request.seed for task in plan if task.kind == "teacher"}
    assert list(teachers.values()) == [0, 1]
    for task in plan:
        if task.kind == "student":
            taught_by = [] if task.request.method == "sat" else [task.request.seed]
            assert [teachers[number] for number in task.needs] == taught_by
            assert ("--teacher-seeds" in task.command) == bool(taught_by)


def test_its_line_asks_for_the_same_again(bench: Bench) -> None:
    """Read back by the command itself, as far as the duel that it makes."""
    real = Duel.__post_init__
    for duel in (
        duel_of("sat", "ciard"),
        duel_of("sat", "trades:beta=2", epochs=3, limit=5, checkpoint_of="last", settings=("steps=4",), seeds=7),
        duel_of("sat", "ard", threat=4 / 255, teachers={"robust": "my file.pt"}, precision="bf16", limit_train=100),
        duel_of("sat", "ciard", teacher_seeds=True, batch_size=8, suites=("autoattack",), checkpoint_of="both"),
    ):
        made: list[Duel] = []

        def note(self: Duel, made: list[Duel] = made) -> None:
            real(self)
            made.append(self)
            raise BenchError("enough")

        with patch.object(Duel, "__post_init__", note):
            bench(*shlex.split(duel.command)[1:])
        assert made == [duel]


def test_its_page_s_name_tells_what_was_asked_for_and_no_two_share_one() -> None:
    duels = [
        duel_of("sat", "ciard"),
        duel_of("sat", "ciard:push=false"),
        duel_of("sat", "ciard", seeds=3),
        duel_of("sat", "ciard", limit=5),
        duel_of("sat", "ciard", threat=4 / 255),
        duel_of("sat", "ciard", recipe="short"),
        duel_of("sat", "ciard", teacher_seeds=True),
    ]
    names = [duel.name("digits") for duel in duels]
    assert len(set(names)) == len(names)
    assert names[0].startswith("digits_digits-cnn_sat-vs-ciard_demo_2-seeds_")
    assert "/" not in duel_of("sat", "ciard").name("parquet:/some where/x")


@pytest.mark.parametrize(
    ("contenders", "changes", "says"),
    [
        (["sat"], {}, "two defenses or more"),
        (["sat", "sat"], {}, "sat comes twice"),
        (["rslad", "sat", "rslad"], {}, "rslad comes twice"),
        (["sat", "sat:steps=10"], {}, "sat and sat:steps=10 are the same defense here"),
        (["ciard:push=false,itt=false", "ciard:itt=false,push=false"], {}, "are the same defense here"),
        (["sat", "cird"], {}, "Did you mean 'ciard'"),
        (["sat", "ciard:pusch=false"], {}, "Did you mean 'push'"),
        (["sat", "ciard:push"], {}, "no '='"),
        (["sat", "trades"], {"settings": ("beta=2",)}, "beta"),
        (["sat", "ciard"], {"student": "resnet1"}, "Did you mean 'resnet18'"),
        (["sat", "ciard"], {"suites": ("whitebox", "autoatack")}, "Did you mean 'autoattack'"),
        (["sat", "ciard"], {"suites": ("clean",)}, "has no attack"),
        (["sat", "rslad"], {"teachers": {"clean": "c.pt"}}, "none of these defenses has a clean teacher"),
        (["sat", "trades"], {"teacher_seeds": True}, "none of these defenses has a teacher to be trained"),
        (["sat", "rslad"], {"teacher_seeds": True, "teachers": {"robust": "r.pt"}}, "a teacher to be trained"),
    ],
)
def test_what_is_no_duel(contenders: list[str], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BenchError) as error:
        plan_of(duel_of(*contenders, **changes))
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
