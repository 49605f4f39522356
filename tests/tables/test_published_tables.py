"""The paper's numbers: all of them, as printed, and never in a column with ours."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.record import Record
from bench.tables import Table, build_table, build_tables, load_specs
from bench.tables.cell import UNPROVEN
from bench.tables.spec import table_files
from bench.tables.table import Values

from ..helpers.records import RecordMaker

SPECS = load_specs()
ABLATION = {
    ("no", "no"): "without ITT, without push loss",
    ("yes", "no"): "with ITT, without push loss",
    ("yes", "yes"): "with ITT, with push loss",
}


def _published() -> Iterator[tuple[int, str, str, str, str, str]]:
    """Every number of the CSV files: table, dataset, attack, row, quantity, and the number as printed."""
    for name in ("robustness", "overview", "ablation", "teachers"):
        with (table_files("paper") / f"{name}.csv").open() as stream:
            for line in csv.DictReader(stream):
                number, dataset = int(line["table"]), line["dataset"]
                if name == "teachers":
                    row = f"{line['role'].capitalize()} ({line['model']})"
                    yield number, dataset, "", row, "clean", line["clean"]
                    for attack in ("fgsm", "pgd_sat", "pgd_trades", "cw_inf"):
                        yield number, dataset, attack.replace("_", "-"), row, "robust", line[attack]
                    continue
                if name == "ablation":
                    row = ABLATION[line["iterative_teacher_training"], line["push_loss"]]
                    line |= {"attack": "pgd-trades", "robust": line["pgd_trades"]}
                else:
                    teachers = {"single": " (one teacher)", "dual": " (two teachers)"}
                    row = line["defense"] + teachers.get(line.get("teachers", ""), "")
                for quantity in ("clean", "robust", "weighted"):
                    if quantity in line:
                        yield number, dataset, line["attack"], row, quantity, line[quantity]


def _shown(table: Table) -> dict[tuple[str, str, str, str], str]:
    """The paper's cells of a table by dataset, attack, row and quantity."""
    found: dict[tuple[str, str, str, str], str] = {}
    for section, row, column, cell in table.cells():
        group = column.group or section.group
        assert group is not None
        attack = (column.attack or section.attack or "").removeprefix("transfer:")
        if column.source == "paper":
            found[group.dataset, attack, row.label, column.quantity] = cell.text.removesuffix(UNPROVEN)
    return found


def _since() -> list[dict[str, str]]:
    """The lines of Table 8's CSV that are of its student."""
    with (table_files("paper") / "since.csv").open() as stream:
        return [line for line in csv.DictReader(stream) if line["student"] == "resnet18"]


def _row_of(line: dict[str, str]) -> str:
    return "RSLAD, LTD teacher" if line["defense"] == "RSLAD" else line["defense"]


@pytest.mark.parametrize("values", ["paper", "compare"])
def test_numbers_of_several_papers_are_shown_with_where_each_is_from(values: Values) -> None:
    table = build_table(SPECS[8], [], values)
    shown = _shown(table)
    for line in _since():
        for quantity in ("clean", "robust"):
            place = (line["dataset"], "autoattack", _row_of(line), quantity)
            assert shown.pop(place) == (f"{float(line[quantity]):.2f}" if line[quantity] else "–")
    assert set(shown.values()) == {"–"}
    told = " ".join(table.notes)
    for line in _since():
        assert f"{_row_of(line)}: {line['source']}, {line['teacher']}, {line['checkpoint']}" in told


def test_numbers_of_several_papers_are_rivals_of_none(make_record: RecordMaker) -> None:
    records = [make_record({"clean": 90, "autoattack": 9}, method="mart"), make_record({"clean": 80, "autoattack": 8})]
    table = build_table(SPECS[8], [*records, make_record({"clean": 80, "autoattack": 8}, method="iad")], "compare")
    marks = {(column.source, cell.mark) for _, _, column, cell in table.cells() if cell.mark}
    assert marks == {("measured", "best"), ("measured", "second")}
    assert {row.label for row in table.sections[2].rows if row.cells[0].value is not None} == {"MART", "IAD"}


def test_a_row_that_is_published_alone_takes_no_record(make_record: RecordMaker) -> None:
    table = build_table(SPECS[8], [make_record({"clean": 90, "autoattack": 9}, method="rslad")])
    assert not [cell for _, _, _, cell in table.cells() if cell.value is not None]


@pytest.mark.parametrize("values", ["paper", "compare"])
def test_every_number_of_the_paper_is_shown_as_printed(values: str) -> None:
    shown = {table.number: _shown(table) for table in build_tables([], range(1, 8), values)}
    published = list(_published())
    assert len(published) == 164 * 3 + 5 * 2 + 3 * 3 + 4 * 5
    for number, dataset, attack, row, quantity, printed in published:
        assert shown[number].pop((dataset, attack, row, quantity)) == f"{float(printed):.2f}"
    assert all(set(rest.values()) <= {"–"} for rest in shown.values())


def test_the_papers_own_marks_come_out() -> None:
    table = build_table(SPECS[3], [], "paper")
    marks = {row.label: [cell.mark for cell in row.cells] for row in table.sections[0].rows}
    assert marks["CIARD"] == ["best", "best", "best", "best", "", "best"]
    assert marks["B-MTARD"] == ["second", "second", "second", "second", "", "second"]
    assert marks["ABSLD"] == ["", "", "", "", "best", ""]
    assert marks["RSLAD"] == ["", "", "", "", "second", ""]


def test_the_paper_is_named_wherever_its_numbers_are() -> None:
    alone, beside = build_table(SPECS[3], [], "paper"), build_table(SPECS[3], [], "compare")
    assert "as published in Lu et al. 2025, not measured here" in alone.title
    assert all("as published in Lu et al. 2025" in block.header for block in alone.column_groups)
    assert "measured beside the numbers published in Lu et al. 2025" in beside.title
    assert any("they were not measured here" in note for note in beside.notes)
    assert "Lu et al." not in str(build_table(SPECS[3], []))


def test_the_papers_five_contradictions_are_noted() -> None:
    tables = build_tables([], None, "paper")
    noted = [line for table in tables for line in table.provenance if line.startswith("W-R that is printed")]
    assert sum(any("of the paper's W-R are not the mean" in note for note in table.notes) for table in tables) == 4
    assert len(noted) == 4
    assert sum(note.count("the mean is") for note in noted) == 5
    assert any("Square TRADES on CIFAR-10 (62.69; the mean is 72.69)" in note for note in noted)


def test_paper_mode_shows_nothing_measured(make_record: RecordMaker) -> None:
    records = [make_record(), make_record(method="dard"), make_record(dataset="parquet:mine")]
    assert build_table(SPECS[3], records, "paper") == build_table(SPECS[3], [], "paper")


def test_measured_mode_shows_nothing_published(make_record: RecordMaker) -> None:
    table = build_table(SPECS[3], [make_record()])
    assert {column.source for column in table.columns} == {"measured"}
    assert sum(cell.value is not None for _, _, _, cell in table.cells()) == 6


def test_compare_keeps_the_columns_apart(make_record: RecordMaker) -> None:
    digits = make_record(dataset="digits", model="digits-cnn", eps=2 / 16)
    table = build_table(SPECS[3], [make_record({"clean": 80, "fgsm": 60}), digits], "compare")
    assert [block.header for block in table.column_groups] == [
        "Measured: CIFAR-10 — official, 300 epochs, n = 100, student resnet18",
        "Paper: CIFAR-10 — as published in Lu et al. 2025, n = 10,000",
        "Measured minus paper: CIFAR-10 — official, 300 epochs, n = 100, student resnet18",
        "Measured: CIFAR-100",
        "Paper: CIFAR-100 — as published in Lu et al. 2025, n = 10,000",
        "Measured minus paper: CIFAR-100",
        "Measured: digits — official, 300 epochs, n = 100, student digits-cnn",
    ]
    sat, trades = table.sections[0].rows[:2]
    assert [cell.text for cell in sat.cells[:9]] == [
        *("80.00", "60.00", "70.00"),
        *("84.20", "55.59", "69.90"),
        *("-4.20", "+4.41", "+0.10"),
    ]
    assert [cell.text for cell in trades.cells[:3]] == ["–"] * 3
    assert [cell.text for cell in trades.cells[6:9]] == ["–"] * 3


def test_compare_marks_measured_and_paper_separately_and_no_difference(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 99, "fgsm": 1}, method="sat"),
        make_record({"clean": 98, "fgsm": 2}, method="trades"),
    ]
    table = build_table(SPECS[3], records, "compare")
    marks = {row.label: [cell.mark for cell in row.cells[:9]] for row in table.sections[0].rows}
    assert marks["SAT"] == ["best", "second", "best", "", "", "", "", "", ""]
    assert marks["TRADES"] == ["second", "best", "best", "", "", "", "", "", ""]
    assert marks["CIARD"] == ["", "", "", "best", "best", "best", "", "", ""]


def test_a_measured_teacher_meets_the_papers_only_where_it_is_the_same_model(
    make_record: RecordMaker,
) -> None:
    def teacher(model: str) -> Record:
        return make_record(kind="teacher", role="clean", method="natural", model=model)

    table = build_table(SPECS[2], [teacher("resnet56"), teacher("resnet20")], "compare")
    rows = {row.label: [cell.text for cell in row.cells] for row in table.sections[0].rows}
    assert rows["Clean (resnet56)"][0::5] == ["80.00", "93.18", "-13.18"]
    assert rows["Clean (resnet20)"][0::5] == ["80.00", "–", "–"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("defense,dataset,clean\nSAT,cifar10,84.20\n", "no column 'robust'"),
        ("defense,dataset,clean,robust\nSAT,cifar10,84.20,high\n", "'high' where a percentage"),
        ("defense,dataset,clean,robust\nSAT,cifar10,84.20,inf\n", "'inf' where a percentage"),
        ("defense,dataset,clean,robust\nSAT,cifar10,84.20,120\n", "'120' where a percentage"),
        ("defense,dataset,clean,robust\nSAT,cifar10,1,2\nSAT,cifar10,3,4\n", "has 2 lines"),
    ],
)
def test_a_wrong_csv_of_ones_own_is_named(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "mine.csv").write_text(content)
    (tmp_path / "own.yaml").write_text(
        "number: 9\ntitle: Own\naccess: white-box\nmodels: {default: resnet18}\n"
        "datasets: {cifar10: CIFAR-10}\ncolumns: [clean, robust]\n"
        "attacks: [{result: fgsm, label: FGSM}]\nrows: [{method: sat, label: SAT}]\n"
        "paper: {file: mine.csv, citation: Me 2026, n: 100, where: {dataset: '{dataset}'},"
        " values: {clean: clean, robust: robust}}\n"
    )
    with pytest.raises(BenchError, match=named) as caught:
        build_tables([], [9], "paper", extra_specs=tmp_path)
    assert "mine.csv" in str(caught.value)
