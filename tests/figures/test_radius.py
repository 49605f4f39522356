"""Accuracy over the radius: the curve is what the radii of the samples say, and a command measures and draws it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.figures import radius
from bench.records.files import read_record
from bench.records.outcomes import unpack, unpack_radii
from bench.records.record import Record
from bench.stats import wilson_interval

from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.records import RecordMaker

EPS = 0.1
RADII = np.array([0.0, 0.02, 0.05, 0.06, 0.15, np.inf])
"""Of six samples: one is wrong without attack, and for one nothing was found."""


def on_shares(radii: np.ndarray) -> np.ndarray:
    """What PGD at eight radii would say of the same samples: the first of its radii that is not smaller."""
    shares = np.array([0, *(0.25 * EPS * i for i in range(1, 9)), np.inf])
    return shares[np.searchsorted(shares, radii - 1e-9)]


def test_the_numbers_are_what_the_radii_say(make_record: RecordMaker) -> None:
    record = make_record(radii={"fmn": RADII, "pgd-curve": on_shares(RADII)}, n=6, eps=EPS)
    (drawing,) = radius.draw([record])
    rows = drawing.rows
    at = {round(float(row["radius"]), 6): row for row in rows}
    assert (min(at), max(at)) == (0, 2 * EPS)
    found = RADII.astype(np.float32)
    for where, right in ((0, 5), (0.03, 4), (0.1, 2), (0.2, 1)):
        row = at[where]
        assert right == (found > where).sum()
        numbers = [float(row[name]) for name in ("accuracy", "low", "high")]
        assert numbers == pytest.approx([right / 6, *wilson_interval(right, 6)], abs=1e-5)
    assert {(row["row"], row["n"], row["norm"], row["median"]) for row in rows} == {("SAT", 6, "linf", "0.055")}
    line, dots, _ = drawing.figure.axes[0].get_lines()
    assert str(line.get_label()) == "SAT (median 0.055)"
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx(
        [100 * float(row["accuracy"]) for row in rows], abs=1e-3
    )
    wanted = [100 * float((0.25 * EPS * i < RADII).mean()) for i in range(1, 9)]
    assert np.asarray(dots.get_ydata()).tolist() == pytest.approx(wanted)
    assert np.asarray(dots.get_xdata()).tolist() == pytest.approx([0.25 * EPS * i for i in range(1, 9)])
    assert "the first 6 of 10000 test samples" in drawing.caption
    assert "Dots: PGD-SAT" in drawing.caption


def test_more_than_half_without_a_radius_have_no_median(make_record: RecordMaker) -> None:
    (curve,) = radius.curves([make_record(radii={"fmn": np.where(np.arange(5) < 2, 0.01, np.inf)}, n=5)])
    assert radius.radius_text(curve.median) == "beyond all found"
    assert curve.checked == []
    (drawing,) = radius.draw([curve.record])
    assert "Dots" not in drawing.caption


def test_one_figure_for_what_compares_the_newest_of_each_network(make_record: RecordMaker) -> None:
    def made(scale: float, **options: object) -> Record:
        return make_record(radii={"fmn": scale * RADII}, n=6, **options)  # type: ignore[arg-type]

    old, new = (made(scale, run="one", checkpoint="c1" * 32) for scale in (0.5, 1.0))
    others = [made(2.0, method="ard", run="two"), made(1.0, run="three", seed=1)]
    elsewhere = made(1.0, run="one", checkpoint="c1" * 32, eps=4 / 255), made(1.0, kind="teacher", role="robust")
    drawings = radius.draw([old, new, *others, *elsewhere, make_record()])
    legends = [[str(line.get_label()).split(" (")[0] for line in d.figure.axes[0].get_lines()] for d in drawings]
    shown = [[label for label in legend if not label.startswith("_")] for legend in legends]
    assert sorted(shown) == [["ARD", "SAT", "SAT, seed 1"], ["SAT"]]
    assert len({drawing.name for drawing in drawings}) == 2
    medians = {curve.record.id: curve.median for curve in radius.curves([old, new])}
    assert medians == {new.id: pytest.approx(0.055)}


def test_curves_beyond_the_colours_differ_in_their_lines(make_record: RecordMaker) -> None:
    records = [make_record(radii={"fmn": RADII}, n=6, method=f"m{i:02d}") for i in range(13)]
    (drawing,) = radius.draw(records)
    lines = [line for line in drawing.figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 13


def test_without_radii_it_says_what_to_run(make_record: RecordMaker) -> None:
    for records in ([], [make_record()], [make_record(radii={"pgd-curve": on_shares(RADII)}, n=6)]):
        with pytest.raises(BenchError, match=r"no curve over the radius to draw\.\nMeasure some first: .*curve"):
            radius.draw(records)
    measured = make_record(radii={"fmn": RADII}, n=6)
    with pytest.raises(BenchError, match="no curve"):
        radius.draw([measured], ["digits"])


def test_a_command_measures_the_curve_and_another_draws_it(home: Path, bench: Bench, runs: Find, records: Find) -> None:
    (run,) = runs(home, "sat")
    asked = ("--suite", "curve", "--limit", 12, "--checkpoint-of", "best", "--no-checks")
    assert bench("eval", "--run", run.name, *asked, home=home).code == 0
    (file,) = records(home, "curve")
    results = read_record(file).results
    found = {name: unpack_radii(results[name].radii or "", 12) for name in ("fmn", "pgd-curve")}
    for name, radii in found.items():
        assert (unpack(results[name].final, 12) == (radii > results[name].parameters["eps"])).all()
        assert ((radii > 0) == unpack(results["clean"].final, 12)).all()
    grid = [0, *(share * results["pgd-curve"].parameters["eps"] for share in results["pgd-curve"].parameters["shares"])]
    on_it = found["pgd-curve"][np.isfinite(found["pgd-curve"])]
    assert np.abs(on_it[:, None] - np.array(grid)).min(axis=1) == pytest.approx(0, abs=1e-7)
    drawn = bench("figures", "--figure", "radius", home=home)
    assert drawn.code == 0
    (table,) = (home / "results" / "figures").glob("radius_digits_*.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["median"] for row in rows} == {f"{np.median(found['fmn']):.6g}"}
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [(found["fmn"] > float(row["radius"])).mean() for row in rows], abs=1e-5
    )
