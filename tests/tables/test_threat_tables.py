"""Unseen threats, their union and their mean; corruptions by kind and by severity, and mCE."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.records.record import Record
from bench.tables import Table, build_overview, build_tables, render_tables, write_tables
from bench.tables.cell import Cell
from bench.tables.threats import build_corruptions, build_unseen
from bench.vocabulary import CORRUPTIONS, SEVERITIES

from ..helpers.latex import set_by_latex
from ..helpers.records import RecordMaker

N = 40
OUTSIDE = {"in_ball": False}


def _cell(table: Table, row: str, column: str) -> Cell:
    i = [each.label for each in table.columns].index(column)
    return next(each for each in table.sections[0].rows if each.label == row).cells[i]


def _but(*wrong: int) -> np.ndarray:
    return ~np.isin(np.arange(N), wrong)


def _unseen(make_record: RecordMaker, seed: int, *wrong: int, corrupted: bool = True) -> list[Record]:
    own = {"run": f"run-{seed}", "seed": seed, "n": N}
    attacks = {"clean": _but(), "apgd@1.5x": _but(0, *wrong), "apgd@l2:0.5": _but(1), "apgd@l1:12": _but(2, 3)}
    kinds = {f"corruption-{kind}-3": _but(*range(4, 5 + i % 3)) for i, kind in enumerate(CORRUPTIONS)}
    records = [make_record({"pgd-sat": _but(9), **attacks}, **own)]  # type: ignore[arg-type]
    more = {"clean": _but(), "geometric": _but(0, 8), **(kinds if corrupted else {})}
    return [*records, make_record(more, parameters=OUTSIDE, **own)]  # type: ignore[arg-type]


class TestUnseen:
    def test_in_latex_it_has_its_own_name(self, make_record: RecordMaker, tmp_path: Path) -> None:
        render_tables(_unseen(make_record, 0), formats=["latex"], out=tmp_path)
        document = (tmp_path / "tables.tex").read_text(encoding="utf-8")
        captions = re.findall(r"thetable\}\{\((\w+)\)\}\n\\input\{(\w+)\.tex\}", document)
        assert captions == [(name, name) for name in ("overview", "unseen", "corruptions")]
        set_by_latex(tmp_path / "tables.tex")

    def test_a_column_a_threat_then_union_and_mean(self, make_record: RecordMaker) -> None:
        table = build_unseen(_unseen(make_record, 0), None)
        names = ["Clean", "eps x 1.5", "L1 12", "L2 0.5", "Geometric", "Corruptions", "Union", "Mean"]
        assert [column.label for column in table.columns] == names
        values = [_cell(table, "SAT", name).value for name in names]
        corrupted = 100 * (1 - 2 / N)  # one, two and three wrong, each of five kinds
        threats = [97.5, 95.0, 97.5, 95.0, corrupted]
        union = 100 * (1 - 8 / N)  # 0 to 6 and 8
        assert values == pytest.approx([100.0, *threats, union, np.mean(threats)])
        assert _cell(table, "SAT", "Corruptions").interval is None
        assert "Union: right under all" in table.notes[0]
        assert table.number == "unseen"
        assert "Geometric" not in build_unseen(_unseen(make_record, 0)[:1], None).notes[0]
        assert all(word in table.notes[0] for word in ("Geometric", "Corruptions"))

    def test_of_seeds_the_mean_is_each_one_s_and_then_theirs(self, make_record: RecordMaker) -> None:
        one, other = _unseen(make_record, 0), _unseen(make_record, 1, 20, 21, 22, 23)
        mean = _cell(build_unseen([*one, *other], None), "SAT", "Mean")
        alone = [_cell(build_unseen(each, None), "SAT", "Mean").value or 0 for each in (one, other)]
        assert (mean.value, mean.std) == pytest.approx((np.mean(alone), np.std(alone, ddof=1)))
        assert mean.seeds == 2
        assert alone[0] - alone[1] == pytest.approx(2.0)  # a tenth of one of five threats

    def test_what_is_missing_makes_no_mean(self, make_record: RecordMaker) -> None:
        whole = _unseen(make_record, 0)
        part = [make_record({"clean": _but(), "apgd@l2:0.5": _but()}, n=N, method="trades", run="t")]
        table = build_unseen([*whole, *part], None)
        assert _cell(table, "TRADES", "Mean").value is None
        union = _cell(table, "TRADES", "Union")
        assert (union.value, union.partial) == (100.0, True), "marked: over one of many, and no rival"

    def test_the_overview_s_worst_is_within_the_threat_alone(self, make_record: RecordMaker) -> None:
        table = build_overview(_unseen(make_record, 0))
        assert _cell(table, "SAT", "Worst").over == {"pgd-sat"}
        assert _cell(table, "SAT", "Worst").value == 97.5
        assert not any("orruption" in column.label for column in table.columns)


def _corrupted(
    make_record: RecordMaker, wrong: int = 0, severities: tuple[int, ...] = SEVERITIES, **own: object
) -> Record:
    """The i-th kind at severity s fools i + s samples, and a few more."""
    results: dict[str, int | np.ndarray] = {"clean": N}
    for i, kind in enumerate(CORRUPTIONS):
        results |= {f"corruption-{kind}-{s}": N - (i + s + wrong) for s in severities}
    return make_record(results, parameters=OUTSIDE, n=N, **own)  # type: ignore[arg-type]


class TestCorruptions:
    def test_means_over_severities_and_over_kinds(self, make_record: RecordMaker) -> None:
        table = build_corruptions([_corrupted(make_record)], None)
        assert _cell(table, "SAT", "Gaussian noise").value == pytest.approx(100 * (1 - 3 / N))
        assert _cell(table, "SAT", "Jpeg compression").value == pytest.approx(100 * (1 - 17 / N))
        assert _cell(table, "SAT", "Severity 5").value == pytest.approx(100 * (1 - 12 / N))
        assert _cell(table, "SAT", "Mean").value == pytest.approx(100 * (1 - 10 / N))
        assert len(table.columns) == 1 + 15 + 5 + 1

    def test_mce_is_relative_to_a_record(self, make_record: RecordMaker) -> None:
        baseline = _corrupted(make_record, 2, method="natural", label="natural")
        own = _corrupted(make_record)
        table = build_corruptions([baseline, own], None, baseline=baseline)
        assert _cell(table, "natural", "mCE").value == pytest.approx(100)
        ratios = [(5 * i + 15) / (5 * i + 25) for i in range(15)]
        assert _cell(table, "SAT", "mCE").value == pytest.approx(100 * np.mean(ratios))
        assert baseline.id in table.notes[0]
        with pytest.raises(BenchError, match="has no corruption-gaussian_noise-4"):
            build_corruptions([own], None, baseline=_corrupted(make_record, severities=(1, 2, 3)))

    def test_published_arrays_stand_apart(self, make_record: RecordMaker) -> None:
        published = make_record({"clean": N, "published-corruption-fog-1": 30}, n=N, parameters=OUTSIDE)
        table = build_corruptions([_corrupted(make_record), published], None)
        assert [section.label.endswith("published arrays") for section in table.sections] == [False, True]


def test_they_are_written_where_there_is_something(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [*_unseen(make_record, 0), _corrupted(make_record, method="trades")]
    tables = build_tables(records)
    assert [table.number for table in tables][:3] == ["overview", "unseen", "corruptions"]
    named = build_tables(records, ["corruptions"])
    assert [table.number for table in named] == ["corruptions"]
    for path in write_tables(tables, "measured", ("markdown", "latex", "csv", "json"), tmp_path):
        assert path.read_text(encoding="utf-8")
