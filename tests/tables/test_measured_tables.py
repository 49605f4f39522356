"""From records to cells: what is shown, what is a dash, and what never shares a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.records.record import Record
from bench.stats import wilson_interval
from bench.tables import Table, build_table, build_tables, load_specs
from bench.tables.cell import Cell

from ..helpers.records import RecordMaker

SPECS = load_specs()
DIGITS: dict[str, Any] = {"dataset": "digits", "model": "digits-cnn", "eps": 2 / 16, "total": 360}
DIGITS |= {"setting": "demo, 12 epochs"}


def _texts(table: Table, row: str, section: str | None = None) -> list[str]:
    """A row's cells as text; of the first section unless one is named."""
    chosen = next(each for each in table.sections if section in (None, each.label))
    return [cell.text for cell in next(each for each in chosen.rows if each.label == row).cells]


def _marks(table: Table, column: int, section: int = 0) -> dict[str, str]:
    rows = table.sections[section].rows
    return {row.label: row.cells[column].mark for row in rows if row.cells[column].value is not None}


def _rows(table: Table, section: int = 0) -> list[str]:
    return [row.label for row in table.sections[section].rows]


def _headers(table: Table) -> list[str]:
    return [block.header for block in table.column_groups]


def test_without_records_every_cell_of_the_papers_shape_is_a_dash() -> None:
    table = build_table(SPECS[3], [])
    assert [section.label for section in table.sections] == ["FGSM", "PGD-SAT"]
    assert _headers(table) == ["CIFAR-10", "CIFAR-100"]
    assert [column.label for column in table.columns] == ["Clean", "Robust", "W-R"] * 2
    assert _rows(table)[0] == "SAT"
    assert _rows(table)[-1] == "CIARD"
    assert {cell.text for _, _, _, cell in table.cells()} == {"–"}
    assert table.notes == ("No evaluation record fits this table yet.",)


def test_a_record_fills_its_cells_and_no_other(make_record: RecordMaker) -> None:
    table = build_table(SPECS[3], [make_record({"clean": 80, "fgsm": 61, "pgd-sat": 50})])
    assert _texts(table, "SAT", "FGSM") == ["80.00", "61.00", "70.50", "–", "–", "–"]
    assert _texts(table, "SAT", "PGD-SAT") == ["80.00", "50.00", "65.00", "–", "–", "–"]
    assert _texts(table, "TRADES", "FGSM") == ["–"] * 6
    assert _headers(table)[0] == "CIFAR-10 — official, 300 epochs, n = 100"


def test_a_result_counts_whatever_suite_it_came_from(make_record: RecordMaker) -> None:
    both = make_record({"clean": 80, "fgsm": 60, "transfer:cw-inf": 70, "square": 75})
    assert _texts(build_table(SPECS[3], [both]), "SAT", "FGSM")[1] == "60.00"
    black = build_table(SPECS[5], [both])
    assert _texts(black, "SAT", "CW∞")[1] == "70.00"
    assert _texts(black, "SAT", "Square")[1] == "75.00"
    assert _texts(black, "SAT", "PGD-TRADES") == ["–"] * 6


def test_a_record_without_the_tables_attacks_makes_no_columns(make_record: RecordMaker) -> None:
    table = build_table(SPECS[3], [make_record({"clean": 80, "autoattack": 40}, n=200)])
    assert _headers(table) == ["CIFAR-10", "CIFAR-100"]


def test_weighted_is_the_mean_within_one_record(make_record: RecordMaker) -> None:
    white = make_record({"clean": 80, "fgsm": 60})
    black = make_record({"clean": 90, "square": 70})
    assert _texts(build_table(SPECS[3], [white, black]), "SAT", "FGSM")[:3] == ["80.00", "60.00", "70.00"]
    assert _texts(build_table(SPECS[5], [white, black]), "SAT", "Square")[:3] == ["90.00", "70.00", "80.00"]


def test_halves_are_rounded_up_as_in_the_paper(make_record: RecordMaker) -> None:
    record = make_record({"clean": 8420, "fgsm": 5559}, n=10_000)
    assert _texts(build_table(SPECS[3], [record]), "SAT", "FGSM")[:3] == ["84.20", "55.59", "69.90"]
    for right in range(10_000):
        mean = (right / 10_000 + (right + 1) / 10_000) / 2
        assert Cell(value=100 * mean).shown == (right + 1) / 100


@pytest.mark.parametrize(
    "other",
    [
        {"model": "mobilenet_v2"},
        {"split": "train"},
        {"kind": "teacher", "role": "robust"},
        {"dataset": "digits", "model": "resnet18"},
    ],
)
def test_what_does_not_belong_stays_out(make_record: RecordMaker, other: dict[str, Any]) -> None:
    table = build_table(SPECS[3], [make_record(**other)])
    assert {cell.text for _, _, _, cell in table.cells()} == {"–"}


def test_best_and_second_best_are_marked_and_ties_share_a_mark(make_record: RecordMaker) -> None:
    fgsm = {"sat": 50, "trades": 60, "ard": 60, "rslad": 55, "mtard": 55, "ciard": 40}
    records = [make_record({"clean": 80, "fgsm": right}, method=name) for name, right in fgsm.items()]
    table = build_table(SPECS[3], records)
    assert _marks(table, column=1) == {
        "SAT": "",
        "TRADES": "best",
        "ARD": "best",
        "RSLAD": "second",
        "MTARD": "second",
        "CIARD": "",
    }
    assert set(_marks(table, column=0).values()) == {"best"}


def test_a_tie_is_a_tie_of_the_numbers_shown(make_record: RecordMaker) -> None:
    n = 100_000
    records = [
        make_record({"clean": n, "fgsm": right}, method=name, n=n, total=n)
        for name, right in {"sat": 50_001, "trades": 50_004, "ard": 49_000}.items()
    ]
    assert _marks(build_table(SPECS[3], records), 1) == {"SAT": "best", "TRADES": "best", "ARD": "second"}


def test_a_lone_number_is_not_marked(make_record: RecordMaker) -> None:
    assert _marks(build_table(SPECS[3], [make_record()]), column=1) == {"SAT": ""}


def test_settings_are_columns_of_their_own_and_are_not_compared(make_record: RecordMaker) -> None:
    records = [
        make_record(method="sat"),
        make_record({"clean": 90, "fgsm": 70}, method="trades", setting="demo, 12 epochs"),
    ]
    table = build_table(SPECS[3], records)
    assert _headers(table) == [
        "CIFAR-10 — demo, 12 epochs, n = 100",
        "CIFAR-10 — official, 300 epochs, n = 100",
        "CIFAR-100",
    ]
    assert _texts(table, "TRADES", "FGSM")[:6] == ["90.00", "70.00", "80.00", "–", "–", "–"]
    assert all(not cell.mark for _, _, _, cell in table.cells())


@pytest.mark.parametrize(
    ("difference", "headers"),
    [
        ({"n": 200}, ["n = 200", "n = 100"]),
        ({"protocol": "paper"}, ["n = 100, official protocol", "n = 100, paper protocol"]),
        ({"eps": 4 / 255}, ["n = 100, eps = 4/255", "n = 100, eps = 8/255"]),
        ({"fingerprint": "0" * 64}, ["n = 100, images 00000000", "n = 100, images ffffffff"]),
    ],
)
def test_conditions_that_differ_are_columns_of_their_own(
    make_record: RecordMaker, difference: dict[str, Any], headers: list[str]
) -> None:
    table = build_table(SPECS[3], [make_record(), make_record(method="trades", **difference)])
    assert _headers(table)[:2] == [f"CIFAR-10 — official, 300 epochs, {text}" for text in headers]
    assert all(not cell.mark for _, _, _, cell in table.cells())


def test_other_datasets_follow_with_their_own_student(make_record: RecordMaker) -> None:
    records = [make_record(**DIGITS), make_record(dataset="parquet:mine")]
    table = build_table(SPECS[3], records)
    assert _headers(table) == [
        "CIFAR-10",
        "CIFAR-100",
        "digits — demo, 12 epochs, n = 100, student digits-cnn",
        "parquet:mine — official, 300 epochs, n = 100, student resnet18",
    ]
    assert _texts(table, "SAT", "FGSM")[6:9] == ["80.00", "60.00", "70.00"]


def test_students_of_another_architecture_are_shown_where_asked_for_and_named(make_record: RecordMaker) -> None:
    records = [make_record(), make_record({"clean": 70, "fgsm": 40}, model="resnet20"), make_record(**DIGITS)]
    (table,) = build_tables(records, [3], student="resnet20")
    assert table.title == "White-box adversarial robustness: resnet20 (%, measured)"
    assert _headers(table) == ["CIFAR-10 — official, 300 epochs, n = 100"]
    assert _texts(table, "SAT", "FGSM")[:3] == ["70.00", "40.00", "55.00"]
    assert build_tables(records, [3], student="resnet18") == build_tables(records, [3])
    (teachers,) = build_tables(records, [2], student="resnet20")
    assert teachers == build_tables(records, [2])[0]
    with pytest.raises(BenchError, match="Did you mean 'resnet20'"):
        build_tables(records, [3], student="resnet2")
    with pytest.raises(BenchError, match="its own students"):
        build_tables(records, [3], "paper", student="resnet20")


def test_the_newest_record_counts_and_a_note_says_so(make_record: RecordMaker) -> None:
    new = make_record({"clean": 80, "fgsm": 70}, minute=30)
    old = make_record({"clean": 80, "fgsm": 60}, minute=20)
    table = build_table(SPECS[3], [new, old])
    assert _texts(table, "SAT", "FGSM")[1] == "70.00"
    assert f"Newer records of the same row and seed count in place of: {old.id}." in table.provenance


def test_the_same_record_twice_counts_once(make_record: RecordMaker) -> None:
    record = make_record()
    table = build_table(SPECS[3], [record, record])
    assert _texts(table, "SAT", "FGSM")[1] == "60.00"
    assert not any("Newer" in line for line in table.provenance)


def test_a_method_of_table_8_has_its_row_there_alone(make_record: RecordMaker) -> None:
    numbers = {"clean": 80, "fgsm": 61, "pgd-sat": 50}
    records = [make_record(numbers, method=method, run=f"run-{method}") for method in ("adaad", "mine", "sat")]
    assert _rows(build_table(SPECS[3], records))[10:] == ["MINE"]
    assert _texts(build_table(SPECS[8], records), "AdaAD")[:3] == ["80.00", "61.00", "70.50"]
    assert _rows(build_table(SPECS[4], [make_record(numbers, method="adaad", model="mobilenet_v2")]))[-1] == "ADAAD"


def test_further_methods_follow_the_papers_rows(make_record: RecordMaker) -> None:
    records = [
        make_record(method="natural", label="Natural"),
        make_record(method="dard", label="DARD"),
        make_record(method="ciard", label="CIARD", overrides={"freeze_epochs": 25}),
        make_record(kind="checkpoint", method="downloaded", label="downloaded", seed=None),
    ]
    rows = _rows(build_table(SPECS[3], records))
    assert rows[10:] == ["CIARD (freeze_epochs=25)", "DARD", "downloaded", "Natural"]
    assert _texts(build_table(SPECS[3], records), "CIARD") == ["–"] * 6


def test_a_file_from_elsewhere_takes_no_methods_row(make_record: RecordMaker) -> None:
    stranger = make_record(kind="checkpoint", method="sat", label="SAT", seed=None, checkpoint="ee" * 32)
    table = build_table(SPECS[3], [stranger])
    assert _texts(table, "SAT") == ["–"] * 6
    assert _rows(table)[-1] == "SAT [eeeeeeee]"


def test_files_of_the_same_name_are_not_averaged(make_record: RecordMaker) -> None:
    records = [
        make_record(kind="checkpoint", method="model", label="model", seed=None, checkpoint=name * 32)
        for name in ("aa", "bb")
    ]
    assert _rows(build_table(SPECS[3], records))[10:] == ["model [aaaaaaaa]", "model [bbbbbbbb]"]


def test_the_ablation_has_its_rows_by_overrides(make_record: RecordMaker) -> None:
    def ciard(right: int, **overrides: Any) -> Record:
        counts = {"clean": 90, "pgd-trades": right}
        return make_record(counts, method="ciard", label="CIARD", overrides=overrides)

    records = [
        ciard(50, push=False, itt=False),
        ciard(52, push=False),
        ciard(54),
        ciard(53, freeze_epochs=25),
    ]
    table = build_table(SPECS[7], [*records, make_record(method="trades")])
    assert [column.label for column in table.columns] == ["Robust", "Clean", "W-R"]
    assert [(row.label, row.cells[0].shown) for row in table.sections[0].rows] == [
        ("without ITT, without push loss", 50),
        ("with ITT, without push loss", 52),
        ("with ITT, with push loss", 54),
        ("CIARD (freeze_epochs=25)", 53),
    ]


def test_teachers_are_shown_by_dataset_and_not_compared(make_record: RecordMaker) -> None:
    shared: dict[str, Any] = {"kind": "teacher", "model": "digits-teacher", "dataset": "digits", "eps": 2 / 16}
    records = [
        make_record(method="natural", role="clean", setting="natural, 20 epochs", **shared),
        make_record(method="trades", role="robust", setting="TRADES, 30 epochs", **shared),
        make_record(method="sat"),
    ]
    table = build_table(SPECS[2], records)
    assert [section.label for section in table.sections] == ["CIFAR-10", "CIFAR-100", "digits — n = 100"]
    assert [column.label for column in table.columns] == ["Clean", "FGSM", "PGD-SAT", "PGD-TRADES", "CW∞"]
    assert _rows(table, 2) == ["Clean (digits-teacher)", "Robust (digits-teacher)"]
    assert _texts(table, "Clean (digits-teacher)", "digits — n = 100") == [
        *("80.00", "60.00", "50.00", "50.00", "40.00")
    ]
    assert all(not cell.mark for _, _, _, cell in table.cells())
    assert any("natural, 20 epochs" in line and "TRADES, 30 epochs" in line for line in table.provenance)


def test_only_the_datasets_asked_for_are_shown(make_record: RecordMaker) -> None:
    records = [make_record(), make_record(**DIGITS)]
    (table,) = build_tables(records, [3], datasets=["digits"])
    assert (table.title, _headers(table)) == (
        "White-box adversarial robustness: digits-cnn (%, measured)",
        ["digits — demo, 12 epochs, n = 100"],
    )
    shape = build_tables([], [4, 7], datasets=["cifar10", "cifar100"], all_rows=True)
    assert [_headers(table) for table in shape] == [["CIFAR-10", "CIFAR-100"], ["CIFAR-10", "cifar100"]]


def test_a_dataset_nobody_knows_is_an_error(make_record: RecordMaker) -> None:
    with pytest.raises(BenchError, match=r"'digit'.*\n.*cifar10.*digits"):
        build_tables([make_record(**DIGITS)], datasets=["digit"])


def test_signs_and_notes_tell_what_a_reader_must_know(make_record: RecordMaker) -> None:
    environment = {"bench": "0.1.0", "git": None, "packages": {"torch": "2.6.0"}, "device": "cuda"}
    records = [
        make_record(selection="test", environment=environment),
        make_record(method="trades", flags=["FGSM breaks more than PGD-SAT"]),
    ]
    table = build_table(SPECS[3], records)
    assert _texts(table, "SAT", "FGSM")[0] == "80.00≈†"
    assert _texts(table, "TRADES", "FGSM")[0] == "80.00≈‡"
    assert len(table.notes) == 4
    notes = "\n".join((*table.notes, *table.provenance))
    assert "† The checkpoint was chosen on the test set" in notes
    assert "‡ Sanity checks of the evaluation failed or were left out." in table.notes[2]
    assert "Sanity checks of the evaluation: TRADES on CIFAR-10: FGSM breaks more" in notes
    assert "official protocol; eps = 8/255; the first 100 of 10,000 test samples" in notes
    assert "bench: 0.1.0; device: cpu, cuda; torch: 2.6.0" in notes
    low, high = wilson_interval(50, 100)
    assert f"± {50 * (high - low):.2f} points" in notes


def test_different_surrogates_or_parameters_are_noted(make_record: RecordMaker) -> None:
    counts = {"clean": 80, "transfer:pgd-trades": 70}
    first, second = make_record(counts), make_record(counts, method="trades", surrogate="cd" * 32)
    third = make_record(counts, method="ard", parameters={"steps": 40})
    alone, surrogates, parameters = (build_table(SPECS[5], [first, *each]) for each in ([], [second], [third]))
    assert any("crafted on model abababababab." in line for line in alone.provenance)
    assert any("those rows do not compare" in line for line in surrogates.provenance)
    assert any("different parameters" in line for line in parameters.provenance)
    assert "Not all rows of a column compare: their surrogates differ." in surrogates.notes[-1]
    assert "Not all rows of a column compare: their parameters differ." in parameters.notes[-1]


def test_the_provenance_names_the_teachers(make_record: RecordMaker) -> None:
    teachers = {"robust": "aa" * 32, "clean": "bb" * 32}
    names = {"robust": "Chen2021LTD_WRN34_10", "clean": "org/repo/clean"}
    records = [
        make_record({"clean": 80, "fgsm": 61}, method="ciard", teachers=teachers, teacher_names=names),
        make_record({"clean": 80, "fgsm": 61}, method="rslad", teachers={"robust": "cc" * 32}),  # of an earlier version
    ]
    provenance = "\n".join(build_table(SPECS[3], records).provenance)
    assert "teachers Chen2021LTD_WRN34_10 (robust, aaaaaaaaaaaa); org/repo/clean (clean, bbbbbbbbbbbb)." in provenance
    assert "cccccccccccc taught RSLAD" in provenance
    assert "teachers" not in "\n".join(build_table(SPECS[3], [make_record({"clean": 80, "fgsm": 61})]).provenance)


def test_an_own_table_needs_no_code(make_record: RecordMaker, tmp_path: Path) -> None:
    (tmp_path / "headline.yaml").write_text(
        "number: 9\ntitle: Headline\naccess: white-box\nmodels: {default: resnet18}\n"
        "datasets: {cifar10: CIFAR-10}\ncolumns: [clean, robust]\n"
        "attacks: [{result: autoattack, label: AutoAttack}]\nrows: [{method: sat, label: SAT}]\n"
    )
    records = [make_record({"clean": 80, "autoattack": 44})]
    tables = build_tables(records, extra_specs=tmp_path)
    assert [table.number for table in tables] == ["overview", 0, 9]
    assert _texts(tables[-1], "SAT", "AutoAttack") == ["80.00", "44.00"]
    with pytest.raises(BenchError, match="Table 9 has no published numbers"):
        build_tables(records, [9], "paper", extra_specs=tmp_path)
    assert len(build_tables(records, values="paper", extra_specs=tmp_path)) == 6


def test_the_provenance_says_how_many_looks_a_checkpoint_is_the_best_of(make_record: RecordMaker) -> None:
    """0 of a last epoch, and what is not known of records of earlier versions, are left out."""
    counts = {"clean": 80, "fgsm": 60}
    looks = {"sat": 0, "trades": 5, "ard": 97, "rslad": 97, "ciard": None}
    records = [make_record(counts, method=method, selection="test", looks=of) for method, of in looks.items()]
    (said,) = [line for line in build_table(SPECS[3], records).provenance if "selection" in line]
    assert said == "Checkpoint selection: test; the best of 5 looks (TRADES), of 97 looks (ARD, RSLAD)."
    (said,) = [line for line in build_table(SPECS[3], records[-1:]).provenance if "selection" in line]
    assert said == "Checkpoint selection: test."
