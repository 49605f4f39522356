"""What a plan is said to take follows from what was measured on that device, worked out by hand, or is not said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cost.profile import Profile, write_profile
from bench.records.files import write_record
from bench.sweep.estimate import Estimate, Estimator
from bench.sweep.plan import Plan, expand
from bench.sweep.spec import SweepSpec
from bench.sweep.text import lines
from bench.system.home import Home

from ..helpers.records import RecordMaker

GPU = "GPU A"


def plan_of(**grid: Any) -> Plan:
    base = {"methods": ["sat"], "students": ["resnet18"], "datasets": ["cifar10"]}
    spec = SweepSpec.model_validate({"description": "a test", "runs": [base | grid]})
    return expand(spec, lambda name: name)


def profiled(**changes: Any) -> Profile:
    values: dict[str, Any] = {
        "method": "sat", "variant": "official", "student": "resnet18", "teachers": {}, "dataset": "cifar10",
        "train_images": 50_000, "image_shape": (3, 32, 32), "classes": 10, "batch_size": 128, "recipe": "official",
        "epochs": 300, "precision": "32", "device": GPU, "device_type": "cuda", "threads": 1, "steps": 5,
        "seconds_per_step": 0.1, "seconds_spread": 0.0, "flops_per_image": 1e9, "peak_memory": 2 * 10**9,
        "shares": {"attack": 1.0, "teachers": 0.0, "update": 0.0}, "peak_flops": 1e13, "environment": {},
        "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Profile(**(values | changes))


def estimates(home: Home, plan: Plan, hardware: str = GPU) -> list[Estimate]:
    estimator = Estimator(home, hardware)
    return [estimator.estimate(task) for task in plan]


def test_a_run_s_steps_are_counted_by_its_own_length(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_profile(home, profiled())
    (whole,) = estimates(home, plan_of())
    assert whole.seconds == pytest.approx(205 * 391 * 0.1)  # 50,000 images in batches of 128
    assert whole.memory == 2 * 10**9
    assert whole.basis == "profile of 2026-01-01"
    (short,) = estimates(home, plan_of(epochs=3, limit_train=1000, ablations=[{"steps": 7}], seeds=[5]))
    assert short.seconds == pytest.approx(3 * 8 * 0.1)


def test_phases_follow_the_freeze_that_is_asked_for(tmp_path: Path) -> None:
    home, teachers = Home(tmp_path), {"robust": "wrn-34-10", "clean": "resnet56"}
    for phase, seconds, memory in (("frozen", 0.2, 3), ("learning", 0.3, 5)):
        write_profile(
            home,
            profiled(
                method="ciard",
                teachers=teachers,
                phase=phase,
                phase_share=0.5,
                seconds_per_step=seconds,
                peak_memory=memory,
            ),
        )
    plan = plan_of(methods=["ciard"], ablations=[{}, {"freeze_epochs": 75}, {"freeze_epochs": 300}])
    found = [each for task, each in zip(plan, estimates(home, plan), strict=True) if task.kind == "student"]
    expected = [(50 * 0.2 + 250 * 0.3) * 391, (75 * 0.2 + 225 * 0.3) * 391, 300 * 0.2 * 391]
    assert [each.seconds for each in found] == pytest.approx(expected)
    assert [each.memory for each in found] == [5, 5, 3]
    # Only one of its phases was measured: nothing is said.
    next(path for path in home.profiles.iterdir() if "learning" in path.name).unlink()
    student = estimates(home, plan_of(methods=["ciard"]))[-1]
    assert student.seconds is None


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "GPU B"},
        {"method": "trades"},
        {"variant": "paper"},
        {"student": "mobilenet_v2"},
        {"dataset": "cifar100"},
        {"batch_size": 64},
        {"precision": "bf16"},
        {"off": ("fused",)},
        {"teachers": {"robust": "resnet20"}},
    ],
)
def test_a_profile_of_something_else_tells_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    write_profile(Home(tmp_path), profiled(**changes))
    (unknown,) = estimates(Home(tmp_path), plan_of())
    hint = "no profile: bench profile --methods sat --student resnet18 --dataset cifar10 --recipe official"
    assert (unknown.seconds, unknown.memory, unknown.basis) == (None, None, hint)


def test_without_a_profile_a_finished_run_of_the_same_length_tells(tmp_path: Path) -> None:
    from bench.jobs.train import Request, configure
    from bench.runs.config import DataRef
    from bench.runs.folder import RunFolder

    home = Home(tmp_path)
    data = DataRef(name="cifar10", spec="cifar10", fingerprint="f", n=50_000, classes=10, in_channels=3, eps=8 / 255)
    for seed, seconds in ((0, 100.0), (1, 140.0), (2, 900.0)):
        config = configure(Request(method="sat", student="resnet18", epochs=2, seed=seed), data, [])
        folder = RunFolder.of(home, config.id)
        summary = {"checkpoint": "c", "selected_epoch": 1, "selected_on": "test", "accuracy": None}
        folder.create(config, {"hardware": GPU if seed < 2 else "GPU B"})
        (folder.path / "summary.json").write_text(json.dumps(summary | {"seconds": seconds, "finished": "now"}))
    found = estimates(home, plan_of(epochs=2, seeds=[7]))
    assert found == [Estimate(120.0, None, "2 finished runs")]
    assert estimates(home, plan_of(epochs=2), "GPU B")[0].seconds == 900
    assert estimates(home, plan_of(epochs=3))[0].seconds is None
    write_profile(home, profiled())
    assert estimates(home, plan_of(epochs=2))[0].basis.startswith("profile")


def test_evaluations_go_by_seconds_an_image(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path)
    for device, n in ((GPU, 100), (GPU, 200), (GPU, 1000), ("GPU B", 1000)):  # 5 seconds each
        write_record(make_record({"clean": 80}, n=n, environment={"hardware": device}), home.records)
    plan = plan_of(evaluations=[{"suite": "whitebox"}, {"suite": "whitebox", "limit": 400}, {"suite": "fgsm"}])
    _, whole, part, other = estimates(home, plan)
    assert whole.seconds == pytest.approx(10_000 * 5 / 200)  # the median of 1/20, 1/40 and 1/200 a second
    assert part.seconds == pytest.approx(400 * 5 / 200)
    assert other == Estimate(None, None, "no record of fgsm with resnet18 on cifar10 on this device")
    both = {"suite": "whitebox", "checkpoint_of": "both"}
    for changes, networks in (({"ablations": [{"training.selection.keep": "best"}]}, 2), ({}, 1)):  # SAT keeps the last
        *_, twice = estimates(home, plan_of(evaluations=[both], **changes))
        assert twice.seconds == pytest.approx(networks * 10_000 * 5 / 200)
        assert (f", {networks} networks" in twice.basis) == (networks > 1)


def test_the_text_adds_up_what_is_known_and_left(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_profile(home, profiled(epochs=1))
    plan = plan_of(methods=["sat", "trades"], seeds=[0, 1])
    known = {task.number: each for task, each in zip(plan, estimates(home, plan), strict=True)}
    text = "\n".join(lines(plan, {1}, known, GPU))
    assert "4 tasks, 1 done; left: 3 students." in text
    assert f"About 2.2 h one after the other on {GPU}" in text
    assert f"Nothing is known yet of 2 tasks on {GPU}" in text
    assert "At most 2.0 GB of memory a task" in text
