"""bench compare and bench tables --audit as a user calls them, on records of networks that were trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.records.files import write_record
from bench.records.record import Record
from bench.tables import build_table, load_specs
from bench.tables.cell import Cell

from ..helpers.commands import Bench
from ..helpers.homes import Contents, Find
from ..helpers.records import RecordMaker


@pytest.fixture
def pair(trained: Path, runs: Find) -> list[str]:
    """The ids of the SAT and the CIARD run."""
    return [runs(trained, name)[0].name for name in ("_sat_", "_ciard_")]


def test_two_runs_are_compared_in_words(bench: Bench, trained: Path, pair: list[str]) -> None:
    result = bench("compare", *pair, home=trained)
    assert result.code == 0, result
    first = result.out.splitlines()[2]
    assert result.out.startswith(f"## SAT against CIARD\n\n{first}\n\n- SAT: ")
    assert re.fullmatch(r"((SAT|CIARD) is better|In|Under) .*(points|found|been).*\.", first), first
    assert "On the first 16 of digits" in result.out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.out.splitlines() if "|" in line]
    assert rows[0] == ["Attack", "Number", "SAT", "CIARD", "Difference", "p", "Verdict"]
    assert "Other seeds" not in result.out
    assert {row[0] for row in rows[2:]} == {"clean", "fgsm", "pgd-sat", "pgd-trades", "cw-inf", "worst"}
    assert "speaks of these networks alone" in result.out


def test_in_a_file_it_is_markdown(bench: Bench, trained: Path, pair: list[str]) -> None:
    text = bench("compare", *pair, home=trained).out
    assert text == "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    table = text[text.index("| Attack") :].split("\n\n")[0].splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert all(line.split("|")[1].strip() for line in table)  # no row is folded into a second line


def test_machines_get_the_same_as_json(bench: Bench, trained: Path, pair: list[str], records: Find) -> None:
    content = json.loads(bench("compare", *pair, "--format", "json", home=trained).out)
    assert [side["runs"] for side in content["sides"]] == [[run] for run in pair]
    (record,) = (json.loads(path.read_text()) for path in records(trained, "_sat_"))
    (found,) = [each for each in content["contrasts"] if (each["attack"], each["quantity"]) == ("pgd-sat", "robust")]
    assert found["accuracies"][0]["value"] == record["results"]["pgd-sat"]["accuracy"]
    assert found["accuracies"][0]["interval"] == pytest.approx(record["results"]["pgd-sat"]["interval"])
    assert found["condition"]["fingerprint"] == record["data"]["fingerprint"]
    assert (found["family"], len(content["contrasts"])) == (1, 11)
    assert re.fullmatch(r"not significant \(p > 0.05\)|(SAT|CIARD) is better", found["verdict"])
    assert (found["detectable"] is None) == (found["p_holm"] <= 0.05)
    assert [each["sides"] for each in content["answers"]] == [["SAT", "CIARD"]]


def test_record_files_are_compared_from_anywhere(bench: Bench, trained: Path, records: Find, tmp_path: Path) -> None:
    files = [*records(trained, "_sat_"), *records(trained, "_ciard_")]
    result = bench("compare", *files, "--attack", "fgsm", home=tmp_path)
    assert result.code == 0, result
    assert "fgsm" in result.out
    assert "cw-inf" not in result.out


def test_a_number_is_rounded_as_in_the_tables(bench: Bench, make_record: RecordMaker, tmp_path: Path) -> None:
    """Halves go up: a W-R of 32.175 was 32.17 here and 32.18 in Table 3."""
    files = []
    for method, clean in (("sat", 4435), ("trades", 4535)):
        record = make_record({"clean": clean, "pgd-sat": 2000}, method=method, n=10_000)
        files.append(write_record(record, tmp_path))
    compared = bench("compare", *files, "--attack", "pgd-sat", home=tmp_path)
    assert " 32.18 [" in compared.out
    assert "32.17" not in compared.out


def _best(records: list[Record], number: int) -> Cell:
    """The best robust accuracy under FGSM in a table."""
    table = build_table(load_specs()[number], records)
    cells = [
        cell for section, _, column, cell in table.cells() if (section.attack, column.quantity) == ("fgsm", "robust")
    ]
    return next(cell for cell in cells if cell.mark == "best")


def test_a_table_of_two_rows_and_a_comparison_of_them_agree(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    """Seven images ahead, p = 0.0156: enough of two, whatever else they were measured with."""
    counts = {"clean": 80, "pgd-sat": 50, "pgd-trades": 50, "cw-inf": 50}
    records = [make_record({**counts, "fgsm": right}, method=name) for name, right in (("sat", 57), ("ard", 50))]
    best = _best(records, 3)
    assert best.text == "57.00"
    files = [write_record(record, tmp_path) for record in records]
    result = bench("compare", *files, home=tmp_path)
    (row,) = [line for line in result.out.splitlines() if line.startswith("| fgsm") and "robust" in line]
    assert row.split("|")[-3:-1] == [" 0.0156 (mcnemar) ", " SAT is better              "]
    assert result.out.splitlines()[2].startswith("SAT is better under FGSM by 7.0 points (")
    content = json.loads(bench("compare", *files, "--json", home=tmp_path).out)
    (robust,) = [each for each in content["contrasts"] if (each["attack"], each["quantity"]) == ("fgsm", "robust")]
    assert best.lead is not None
    assert best.lead.p == pytest.approx(robust["p_holm"])


def test_a_table_of_more_rows_corrects_for_them_and_the_comparison_says_so(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    """Seven images ahead of each of four rivals, none of them compared but one."""
    names = ("sat", "ard", "rslad", "trades", "mtard")
    records = [make_record({"clean": 80, "fgsm": 57 if name == "sat" else 50}, method=name) for name in names]
    best = _best(records, 3)
    assert best.text == "57.00≈"
    files = [write_record(record, tmp_path) for record in records]
    out = bench("compare", *files[:2], "--attack", "fgsm", home=tmp_path).out
    assert "SAT is better under FGSM" in out
    assert "Tables correct over all rows of a column, so ≈ can stand there where fewer are compared here." in out
    assert best.lead is not None
    assert best.lead.p == pytest.approx(4 * 2 / 2**7)
    three = bench("compare", *files[:3], "--attack", "fgsm", home=tmp_path).out
    assert "p (Holm, 3)" in three
    assert "after Holm's correction over the 3 pairs of each number" in three


def test_seeds_that_had_one_teacher_are_named(bench: Bench, make_record: RecordMaker, tmp_path: Path) -> None:
    files = [
        write_record(
            make_record(
                {"fgsm": right + seed},
                method=method,
                seed=seed,
                teachers={"robust": f"{own * seed}a" * 32, "clean": f"{own * seed}b" * 32},
                teacher_seeds=bool(own),
                checkpoint=f"{seed}{method[0]}" * 32,
            ),
            tmp_path,
        )
        for method, right, own in (("ciard", 60, 0), ("ard", 50, 1))
        for seed in range(3)
    ]
    out = bench("compare", *files, home=tmp_path).out
    assert "All 3 seeds of CIARD learned from one clean and one robust teacher" in out
    assert "All 3 seeds of ARD" not in out
    assert "## CIARD against ARD" in out  # one comparison: its seeds are one side, whoever taught them


def test_from_three_seeds_on_the_interval_over_other_images_stands_beside_welchs(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    files = [
        write_record(make_record({"fgsm": right + seed}, method=method, seed=seed), tmp_path)
        for method, right in (("sat", 60), ("ard", 50))
        for seed in range(3)
    ]
    out = bench("compare", *files, home=tmp_path).out
    (titles,) = [line for line in out.splitlines() if line.startswith("| Attack")]
    assert [each.strip() for each in titles.split("|")[5:7]] == ["Difference", "Other seeds and images"]
    (row,) = [line.split("|") for line in out.splitlines() if line.startswith("| fgsm")]
    (found,) = json.loads(bench("compare", *files, "--attack", "fgsm", "--json", home=tmp_path).out)["contrasts"]
    low, high = (100 * end for end in found["two_level"])
    assert row[6].strip() == f"[{low:+.2f}, {high:+.2f}]"
    assert low < 100 * found["difference"]["low"]
    assert "Other seeds and images: the 95 % interval of the difference where test images vary, too." in out


def test_an_interval_without_0_beside_a_test_that_finds_nothing_is_explained(
    bench: Bench, make_record: RecordMaker, tmp_path: Path
) -> None:
    """Five images against none: the score interval excludes 0, McNemar's exact test has p = 0.0625."""
    files = [
        write_record(make_record({"fgsm": right}, method=name), tmp_path) for name, right in (("sat", 55), ("ard", 50))
    ]
    out = bench("compare", *files, home=tmp_path).out
    (row,) = [line for line in out.splitlines() if line.startswith("| fgsm")]
    assert "[+" in row
    assert "not significant (p > 0.05)" in row
    assert "can exclude 0 where the verdict is not significant" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "only one network"),
        (("nowhere",), "Unknown run"),
        (("missing.json",), "cannot be read"),
        (("--attack", "pgd-sad"), "pgd-sat"),
    ],
)
def test_mistakes_are_named(
    bench: Bench, trained: Path, pair: list[str], options: tuple[str, ...], message: str
) -> None:
    runs = pair if "--attack" in options else pair[:1]
    assert message in bench("compare", *runs, *options, home=trained).mistake


def test_a_damaged_record_is_named_and_its_run_has_none(
    bench: Bench, home: Path, pair: list[str], records: Find
) -> None:
    (path,) = records(home, "_sat_")
    path.write_text(path.read_text().replace('"whitebox"', '"whatever"', 1))
    result = bench("compare", *pair, home=home)
    assert result.code == 2
    assert f"Left out: The record {path} was changed after it was written" in result.err
    assert f"Error: Unknown run (none of its records are here) {pair[0]!r}." in result.err


def test_new_records_say_what_training_took_and_how_many_samples_a_class_has(
    trained: Path, runs: Find, records: Find
) -> None:
    (folder,), (path,) = runs(trained, "_sat_"), records(trained, "_sat_")
    record, summary = json.loads(path.read_text()), json.loads((folder / "summary.json").read_text())
    hardware = json.loads((folder / "environment.json").read_text())["hardware"]
    assert record["subject"]["training"] == {"seconds": summary["seconds"], "device": hardware}
    assert sum(record["data"]["class_counts"]) == record["data"]["n"] == 16


def test_a_run_without_its_environment_is_evaluated_without_a_cost(
    bench: Bench, home: Path, runs: Find, records: Find
) -> None:
    (folder,) = runs(home, "_sat_")
    (folder / "environment.json").write_text("{")
    command = ("eval", "--suite", "fgsm", "--limit", 8, "--run", folder.name)
    assert "environment.json is damaged" in bench(*command, home=home).mistake
    (folder / "environment.json").unlink()
    assert bench(*command, home=home).code == 0
    (path,) = records(home, "__fgsm-")
    assert json.loads(path.read_text())["subject"]["training"] is None


def test_the_audit_prints_and_writes_nothing(bench: Bench, home: Path, contents: Contents) -> None:
    before = contents(home)
    result = bench("tables", "--audit", home=home)
    assert result.code == 0, result
    assert "## Table 3." in result.out
    assert "In all: " in result.out
    content = json.loads(bench("tables", "--audit", "--format", "json", "--table", 3, home=home).out)
    assert [table["number"] for table in content["tables"]] == [3]
    assert contents(home) == before


def test_the_papers_audit_needs_no_records(bench: Bench, tmp_path: Path) -> None:
    content = json.loads(bench("tables", "--audit", "--values", "paper", "--format", "json", home=tmp_path).out)
    found = [finding for table in content["tables"] for finding in table["findings"]]
    assert sum(finding["kind"] == "contradiction" for finding in found) == 5
