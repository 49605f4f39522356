"""What `bench profile` measures: operations by hand, parts that add up, and the tables made of it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.compute.parts import listening, part
from bench.cost.measure import flops_per_image, profile
from bench.cost.meters import Clock, Operations, PeakMemory, matmul_peak
from bench.cost.profile import Profile, load_profiles, write_profile
from bench.cost.table import cost_tables
from bench.cost.workload import IMAGES, Images, Workload
from bench.errors import BenchError
from bench.system.home import Home

from ..helpers.commands import Bench

SMALL = Workload("ciard", "resnet20", IMAGES["cifar10"], "short", batch_size=4, precision="bf16")
CPU = torch.device("cpu")


def test_operations_are_those_of_the_layers() -> None:
    conv, linear = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Linear(8, 10)
    x = torch.rand(2, 3, 16, 16)
    with Operations() as counter:
        linear(conv(x).mean((2, 3))).sum().backward()
    forward = 2 * (2 * 16 * 16 * 8 * 3 * 9) + 2 * (2 * 8 * 10)
    # Backward: the gradient of both layers' weights, and of the linear layer's input; x wants none.
    assert counter.total == forward + 2 * (2 * 16 * 16 * 8 * 3 * 9) + 2 * 2 * (2 * 8 * 10)


def test_the_operations_of_a_step_are_those_of_its_passes() -> None:
    """resnet20 has 40.55 million multiply-adds in a forward pass, 40.8 with both linear parts of shortcuts counted."""
    images = IMAGES["cifar10"]
    sat = flops_per_image(Workload("sat", "resnet20", images, "short"), epoch=1)
    natural = flops_per_image(Workload("natural", "resnet20", images, "short"), epoch=1)
    forward = natural / 3  # forward, weights' gradient, activations' gradient; the first layer lacks the last
    assert 2 * 39e6 < forward < 2 * 42e6
    assert sat == pytest.approx(natural + 10 * 2 * forward, rel=0.02)
    frozen, learning = (flops_per_image(SMALL, epoch) for epoch in (1, 20))
    assert frozen == pytest.approx((10 * 2 + 2 * 3 + 2 + 1) * forward, rel=0.02)
    assert learning == pytest.approx(frozen + 2 * forward, rel=0.02)


def test_a_profile_tells_the_phases_apart_and_its_parts_add_up() -> None:
    frozen, learning = profile(SMALL, CPU, steps=2, peak_flops=1e12)
    assert (frozen.phase, learning.phase) == ("frozen", "learning")
    assert frozen.phase_share == pytest.approx(3 / 20)  # 50 of 300 epochs, in 20
    assert frozen.phase_share + learning.phase_share == pytest.approx(1)
    for each in (frozen, learning):
        assert sum(each.shares.values()) == pytest.approx(1)
        assert all(0 < share < 1 for share in each.shares.values())
        assert each.seconds_per_step > 0
        assert each.images_per_second == pytest.approx(4 / each.seconds_per_step)
        assert each.peak_memory > 50e6
        steps = 50_000 / 4 * 20
        assert each.seconds_of_phase == pytest.approx(each.phase_share * steps * each.seconds_per_step)
    assert learning.shares["teachers"] > frozen.shares["teachers"]
    assert frozen.teachers == {"robust": "resnet20", "clean": "resnet20"}


def test_a_method_without_teacher_or_attack_has_no_such_part() -> None:
    (found,) = profile(Workload("natural", "resnet20", IMAGES["cifar10"], "short", batch_size=2), CPU, 1, 1e12)
    assert found.shares == {"attack": 0, "teachers": 0, "update": 1}


def test_a_teacher_within_the_attack_is_part_of_the_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr("bench.cost.meters.time.perf_counter", lambda: next(times))
    clock = Clock(lambda: None)
    with clock.part(
        "update"
    ):  # a tick to the attack, three within it, one to the teachers, one in them, one to the end
        with clock.part("attack"), clock.part("teachers"):
            pass
        with clock.part("teachers"):
            pass
    assert clock.seconds == {"update": 3, "attack": 3, "teachers": 1}


def test_a_step_tells_its_parts_to_whoever_listens_and_else_to_nobody() -> None:
    heard = []

    @contextmanager
    def listener(name: str) -> Iterator[None]:
        heard.append(name)
        yield

    workload = Workload("ciard", "digits-cnn", Images("digits", (1, 8, 8), 10, 100), "demo", batch_size=4).resolved()
    step = workload.step(workload.networks(CPU, lambda network: network))
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    assert part("attack") is part("teachers")  # no clock, no object, nothing to end
    step(x, y)
    assert heard == []
    with listening(listener):
        step(x, y)
    step(x, y)
    assert heard == ["attack", "teachers"]


def test_peak_memory_forgets_what_was_before() -> None:
    large = torch.ones(60_000_000)
    del large
    memory = PeakMemory(CPU)
    before = memory.read()
    large = torch.ones(30_000_000)
    assert memory.read() - before == pytest.approx(120e6, rel=0.2)
    del large


def test_the_matrix_product_s_peak_is_a_rate() -> None:
    assert 1e9 < matmul_peak(CPU, "32", seconds=0.1) < 1e14


def test_a_processor_without_bf16_is_not_measured_for_a_minute() -> None:
    began = time.perf_counter()
    assert matmul_peak(CPU, "bf16", seconds=0.1) > 0
    assert time.perf_counter() - began < 10


@pytest.fixture
def measured() -> list[Profile]:
    environment = {"packages": {"torch": "2.15.0"}}
    common: dict[str, Any] = {
        "student": "resnet18", "dataset": "cifar10", "train_images": 50_000, "image_shape": (3, 32, 32), "classes": 10,
        "batch_size": 100, "recipe": "official", "epochs": 300, "precision": "bf16", "device": "Some_GPU & co",
        "device_type": "cuda", "threads": 1, "steps": 5, "seconds_spread": 0.001, "peak_memory": 2_500_000_000,
        "peak_flops": 1e13, "environment": environment, "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    shares = {"attack": 0.5, "teachers": 0.25, "update": 0.25}
    sat = Profile(
        method="sat", variant="paper", teachers={}, seconds_per_step=0.1, flops_per_image=2.5e9, shares=shares, **common
    )
    ciard = [
        Profile(
            method="ciard",
            variant="official",
            teachers={"robust": "wrn-34-10", "clean": "resnet56"},
            phase=phase,
            phase_share=share,
            seconds_per_step=seconds,
            flops_per_image=4e9,
            shares=shares,
            **common,
        )
        for phase, share, seconds in (("learning", 5 / 6, 0.3), ("frozen", 1 / 6, 0.2))
    ]
    return [sat, *ciard]


def test_the_cost_table_by_hand(measured: list[Profile]) -> None:
    (table,) = cost_tables(measured)
    rows = [dict(zip(table.headers, row, strict=True)) for row in table.rows]
    assert [row["Phase"] for row in rows] == ["frozen, 17% of epochs", "learning, 83% of epochs", ""]
    assert rows[0]["Defense"] == "CIARD (official)"
    assert [row["x SAT"] for row in rows] == ["2.00", "3.00", "1.00"]
    # 50 of 300 epochs of 500 steps of 0.2 s; 250 of 0.3 s.
    assert [row["hours/run"] for row in rows] == ["1.39", "10.4", "4.17"]
    assert rows[2]["images/s"] == "1000"
    assert rows[2]["of peak %"] == "25"
    assert rows[2]["ms/step"] == "100 ± 1"
    slower = [each.model_copy(update={"precision": "32"}) for each in measured]
    assert len(cost_tables([*measured, *slower])) == 2


def test_profiles_are_kept_and_a_newer_one_takes_the_place_of_the_older(
    measured: list[Profile], tmp_path: Path
) -> None:
    home = Home(tmp_path)
    assert load_profiles(home) == []
    paths = {write_profile(home, each) for each in measured}
    newer = measured[0].model_copy(update={"seconds_per_step": 0.05})
    assert write_profile(home, newer) in paths
    loaded = load_profiles(home)
    assert len(loaded) == 3
    assert newer in loaded
    (home.profiles / "broken.json").write_text("{}")
    with pytest.raises(BenchError, match="is no profile"):
        load_profiles(home)


def test_the_command_writes_profiles_and_cost_tables(bench: Bench, tmp_path: Path) -> None:
    options = ["--student", "digits-cnn", "--recipe", "demo", "--batch-size", 4, "--steps", 1, "--json"]
    worth = bench("profile", "--methods", "natural", *options, "--worth", home=tmp_path / "worth")
    assert worth.code == 0, worth
    # On a CPU in float32: all on, without each of channels-last, folding and fused, without all.
    assert len(json.loads(worth.out)) == 5
    result = bench("profile", "--methods", "natural,ciard", *options, home=tmp_path)
    assert result.code == 0, result
    found = json.loads(result.out)
    assert {(each["method"], each["phase"]) for each in found} == {
        ("natural", ""),
        ("ciard", "frozen"),
        ("ciard", "learning"),
    }
    assert len(found) == 3
    tables = tmp_path / "results" / "tables"
    markdown = (tables / "costs.md").read_text()
    assert len(re.findall(r"^\| (?:CIARD|Natural) ", markdown, re.MULTILINE)) == 3
    lines = list(csv.DictReader((tables / "costs.csv").open()))
    assert [line["Defense"] for line in lines] == ["CIARD (official)", "CIARD (official)", "Natural (official)"]
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here to compile costs.tex with")
    (tables / "whole.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{costs}\\end{document}"
    )
    compiled = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "whole.tex"], cwd=tables, capture_output=True
    )
    assert compiled.returncode == 0, compiled.stdout[-2000:]


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (("--methods", "cairds"), "ciard"),
        (("--dataset", "cifar"), "cifar10"),
        (("--off", "foldings"), "folding"),
    ],
)
def test_mistakes_are_named(bench: Bench, option: tuple[str, str], hint: str, tmp_path: Path) -> None:
    assert hint in bench("profile", *option, home=tmp_path).mistake
