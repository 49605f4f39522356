"""Figures: the numbers they draw, the files they become, and what is said where there is nothing to draw."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from bench.errors import BenchError
from bench.figures import curves, tradeoff
from bench.figures.page import Drawing
from bench.recipes.schedule import Schedule
from bench.recipes.training import Optimizer, Selection
from bench.records.files import read_records
from bench.runs.config import DataRef, RunConfig, TeacherRef
from bench.runs.folder import RunFolder, Summary
from bench.stats import wilson_interval
from bench.system.home import Home
from bench.vocabulary import Norm, Role, Selected

from ..helpers.records import RecordMaker


def config(method: str, **changes: Any) -> RunConfig:
    roles: tuple[Role, ...] = ("robust", "clean") if method != "rslad" else ("robust",)
    values: dict[str, Any] = {
        "method": method,
        "label": method.upper(),
        "variant": "official",
        "hyperparameters": {},
        "overrides": {},
        "student": "resnet18",
        "data": DataRef(name="cifar10", spec="cifar10", fingerprint="f", n=100, classes=10, in_channels=3, eps=8 / 255),
        "recipe": "short",
        "published": False,
        "protocol": "official",
        "epochs": 3,
        "batch_size": 10,
        "seed": 0,
        "optimizer": Optimizer(lr=0.1),
        "schedule": Schedule(kind="constant"),
        "selection": Selection(split="heldout", hold_out=10, limit=7, steps=10),
        "teachers": [
            TeacherRef(role=role, model="resnet20", source="s", checkpoint=role * 8, given=False) for role in roles
        ],
    }
    return RunConfig(**{**values, **changes})


def make_run(
    home: Home, method: str, finished: str = "2026-01-01T00:00:00+00:00", epochs: int = 3, **changes: Any
) -> str:
    run = config(method, **changes)
    folder = RunFolder.of(home, run.id)
    folder.create(run, {})
    for epoch in range(1, epochs + 1):
        accuracy = {"student": {"clean": 0.1 * epoch, "robust": 0.05 * epoch}}
        accuracy |= {f"{ref.role} teacher": {"clean": 0.9, "robust": 0.8 - 0.01 * epoch} for ref in run.teachers}
        looked = accuracy if epoch != 2 else None
        folder.append_metrics({"kind": "epoch", "epoch": epoch, "step": 10, "terms": {}, "accuracy": looked})
    if finished:
        folder.finish(
            Summary(
                checkpoint="c",
                selected_epoch=1,
                selected_on="heldout",
                accuracy=None,
                seconds=1.0,
                finished=finished,
            )
        )
    return run.id


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


def chosen(home: Home, *run_ids: str) -> list[str]:
    return [folder.id for folder in curves.choose(home, run_ids)]


def test_curves_draw_every_looked_at_epoch_of_every_model(home: Home) -> None:
    first, second = make_run(home, "mtard"), make_run(home, "ciard")
    drawing = curves.draw(curves.choose(home, []))
    assert [(row["run"], row["epoch"], row["model"], row["clean"], row["robust"]) for row in drawing.rows] == [
        (run, epoch, model, clean, robust)
        for run in (first, second)
        for epoch in (1, 3)
        for model, clean, robust in (
            ("student", 10.0 * epoch, 5.0 * epoch),
            ("robust teacher", 90.0, 80.0 - epoch),
            ("clean teacher", 90.0, 80.0 - epoch),
        )
    ]
    panels = drawing.figure.axes
    assert len(panels) == 4
    assert [axes.get_title() for axes in panels[:2]] == ["MTARD", "CIARD"]
    student = panels[0].get_lines()[0]
    assert [np.asarray(data).tolist() for data in (student.get_xdata(), student.get_ydata())] == [[1, 3], [5.0, 15.0]]
    assert [line.get_label() for line in panels[2].get_lines()] == ["Student", "Robust teacher", "Clean teacher"]
    assert "the first 7 of held-out training images" in drawing.caption
    assert "PGD-10" in drawing.caption
    assert first in drawing.caption


def test_the_default_pair_is_the_newest_comparable_one(home: Home) -> None:
    make_run(home, "ciard", "2026-01-01T00:00:00+00:00")
    make_run(home, "rslad")  # one teacher
    make_run(home, "b-mtard", "2026-01-05T00:00:00+00:00")
    make_run(home, "mtard", "2026-01-09T00:00:00+00:00", student="mobilenet_v2")
    make_run(home, "mtard", "", seed=0, epochs=1)  # not finished
    other = make_run(home, "b-mtard", "2026-01-03T00:00:00+00:00", seed=1)
    ciard = make_run(home, "ciard", "2026-01-04T00:00:00+00:00", seed=1)
    assert chosen(home) == [other, ciard]
    mtard = make_run(home, "mtard", "2026-01-02T00:00:00+00:00", seed=1)
    assert chosen(home) == [mtard, ciard]  # MTARD is the paper's


def test_named_runs_are_drawn_in_their_order_finished_or_not(home: Home) -> None:
    ids = [make_run(home, method, finished="") for method in ("rslad", "ciard", "mtard")]
    assert chosen(home, ids[2], ids[0], ids[2]) == [ids[2], ids[0]]
    drawing = curves.draw(curves.choose(home, ids))
    assert len(drawing.figure.axes) == 6


def test_without_a_pair_it_says_what_to_run(home: Home) -> None:
    with pytest.raises(BenchError, match=r"no pair of a CIARD run .*\nTrain both first: bench run"):
        curves.choose(home, [])
    run = make_run(home, "ciard", finished="", epochs=0)
    with pytest.raises(BenchError, match="Unknown run"):
        curves.choose(home, ["ciard"])
    with pytest.raises(BenchError, match="no accuracies to draw yet"):
        curves.draw(curves.choose(home, [run]))


def test_the_trade_off_draws_the_records(demo_records: Path) -> None:
    drawings = tradeoff.draw(read_records(demo_records), "pgd-sat")
    assert [drawing.name.split("_")[2] for drawing in drawings] == ["digits-cnn", "digits-mobile"]
    by_row = {row["row"]: row for row in drawings[0].rows}
    for record in read_records(demo_records):
        subject = record.subject
        if "pgd-sat" in record.results and subject.model == "digits-cnn" and not subject.overrides:
            row, result, clean = by_row[subject.label], record.results["pgd-sat"], record.results["clean"]
            assert float(row["robust"]) == pytest.approx(100 * result.accuracy, abs=1e-4)
            assert float(row["robust_low"]) == pytest.approx(100 * result.interval[0], abs=1e-4)
            assert float(row["clean_high"]) == pytest.approx(100 * clean.interval[1], abs=1e-4)
    (axes,) = drawings[0].figure.axes
    drawn = {
        container.get_label(): tuple(float(np.asarray(data)[0]) for data in container.lines[0].get_data())
        for container in axes.containers
        if isinstance(container, ErrorbarContainer)
    }
    assert drawn.keys() == by_row.keys() - {"Natural"}
    assert drawn["SAT"] == pytest.approx((float(by_row["SAT"]["clean"]), float(by_row["SAT"]["robust"])), abs=1e-3)
    natural = [float(by_row["Natural"][kind]) for kind in ("clean", "robust")]
    assert "Outside the frame: Natural ({:.2f} clean, {:.2f} robust)".format(*natural) in drawings[0].caption


def test_the_bars_of_one_figure_mean_one_thing(make_record: RecordMaker) -> None:
    seeds = [make_record({"clean": 80, "fgsm": right}, seed=seed) for seed, right in enumerate((50, 60, 70))]
    single = [make_record({"clean": 80, "fgsm": 55}, method=method) for method in ("trades", "ard")]
    (mixed,), (alike,) = (tradeoff.draw(records, "fgsm") for records in ([*seeds, *single], single))
    assert bars_of(mixed) == {"SAT": pytest.approx([50, 70])}
    assert "Bars: one standard deviation over training seeds (one seed, so none: ARD, TRADES)." in mixed.caption
    interval = [100 * bound for bound in wilson_interval(55, 100)]
    assert bars_of(alike) == {"ARD": pytest.approx(interval), "TRADES": pytest.approx(interval)}
    assert "Bars: Wilson's 95 % interval." in alike.caption


def bars_of(drawing: Drawing) -> dict[str, list[float]]:
    """The ends of each upright error bar, by defense."""
    (axes,) = drawing.figure.axes
    drawn = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    ends = {str(each.get_label()): each.lines[2][-1].get_segments()[0] for each in drawn if each.has_yerr}
    return {name: [float(low), float(high)] for name, ((_, low), (_, high)) in ends.items()}


def test_the_trade_off_prefers_autoattack_and_never_mixes_groups(demo_records: Path) -> None:
    drawings = tradeoff.draw(read_records(demo_records))
    assert [drawing.name for drawing in drawings] == [
        "tradeoff_digits_digits-cnn_autoattack_demo-recipe-12-epochs-official-n50",
        "tradeoff_digits_digits-mobile_pgd-sat_demo-recipe-12-epochs-official-n360",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": "pgd-sad"}, "Did you mean 'pgd-sat'"),
        ({"datasets": ["cifar10"]}, "Unknown dataset"),
    ],
)
def test_mistakes_in_names(demo_records: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        tradeoff.draw(read_records(demo_records), **options)


def test_nothing_to_draw(demo_records: Path) -> None:
    with pytest.raises(BenchError, match=r"no trade-off to draw\.\nEvaluate some first"):
        tradeoff.draw([])
    one = next(record for record in read_records(demo_records) if record.subject.kind == "student")
    with pytest.raises(BenchError, match="No two defenses"):
        tradeoff.draw([one])


def test_files_are_what_they_say_and_the_same_every_time(demo_records: Path, tmp_path: Path) -> None:
    def write(folder: Path) -> list[Path]:
        return [path for drawing in tradeoff.draw(read_records(demo_records), "fgsm") for path in drawing.write(folder)]

    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert [path.suffix for path in first] == [".pdf", ".png", ".csv"] * 2
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pdf, png, table = (path.read_bytes() for path in first[:3])
    assert pdf.startswith(b"%PDF-")
    assert b"/FontFile2" in pdf  # TrueType
    assert b"CreationDate" not in pdf
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"95 % interval" in png
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert {row["attack"] for row in rows} == {"fgsm"}


def test_the_command(home: Home, cli: Any) -> None:
    assert cli("figures", home).code == 2
    assert "no pair of a CIARD run" in cli("figures", home).error
    make_run(home, "mtard"), make_run(home, "ciard")
    result = cli("figures", home)
    assert result.code == 0
    assert "Not drawn: No two defenses" in result.error
    written = sorted(path.suffix for path in home.figures.iterdir())
    assert written == [".csv", ".pdf", ".png"]
    assert cli("figures", home, "--attack", "pgd-sat").code == 2


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """cli(command, home, *options): exit code, output and error of `bench` in this process."""
    from types import SimpleNamespace

    from bench.cli import main

    def run(command: str, home: Home, *options: str) -> SimpleNamespace:
        monkeypatch.setattr("sys.argv", ["bench", "--home", str(home.root), command, *options])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, output=captured.out, error=captured.err)

    return run


@pytest.mark.parametrize(("norm", "label"), [("linf", "CW∞"), ("l2", "CW")])
def test_a_trade_off_names_its_attack_and_no_norm_but_the_attack_s_own(
    make_record: RecordMaker, norm: Norm, label: str
) -> None:
    records = [make_record({"clean": 80, "cw-inf": 50}, method=name, norm=norm, eps=0.5) for name in ("sat", "ard")]
    (drawing,) = tradeoff.draw(records, "cw-inf")
    assert f"accuracy ({label}, official protocol" in drawing.caption
    assert drawing.figure.axes[0].get_ylabel() == f"Robust accuracy (%), {label}"


def test_a_trade_off_is_of_the_best_or_of_the_last_weights_and_says_so(make_record: RecordMaker) -> None:
    which: dict[Selected, tuple[int, int]] = {"best": (50, 60), "last": (40, 45)}
    records = [
        make_record({"clean": 80, "fgsm": right}, method=method, checkpoint_of=kept)
        for kept, numbers in which.items()
        for method, right in zip(("sat", "ard"), numbers, strict=True)
    ]
    for kept, numbers in which.items():
        (drawing,) = tradeoff.draw(records, "fgsm", checkpoint_of=kept)
        assert sorted(float(row["robust"]) for row in drawing.rows) == sorted(numbers)
        assert ("of the last checkpoints of resnet18" in drawing.caption) == (kept == "last")
        assert drawing.name.endswith("-last") == (kept == "last")


def test_the_legend_of_many_defenses_with_long_names_lies_within_the_figure(make_record: RecordMaker) -> None:
    long = {"training.average.decay": 0.98, "training.average.kind": "ema"}
    records = [
        make_record({"clean": 80, "fgsm": 40 + number}, method=f"method-{number}", overrides=long if number % 7 else {})
        for number in range(36)
    ]
    (drawing,) = tradeoff.draw(records, "fgsm")
    drawing.figure.canvas.draw()
    (legend,) = drawing.figure.legends
    assert len(legend.get_texts()) == 36
    whole, axes = drawing.figure.bbox, drawing.figure.axes[0].get_window_extent()
    found = legend.get_window_extent()
    assert 0 <= found.x0 < found.x1 <= whole.width
    assert 0 <= found.y0 < found.y1 < axes.y0
    assert axes.height > 0.4 * axes.width
