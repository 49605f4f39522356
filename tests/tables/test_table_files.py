"""The files: Markdown that parses, LaTeX that compiles, CSV with everything; and no name that breaks them."""

from __future__ import annotations

import csv
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.errors import BenchError
from bench.records.record import Record
from bench.system import escape
from bench.tables import render_tables

from ..helpers.latex import set_by_latex
from ..helpers.records import RecordMaker

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b \\| c \\",
    r"\input{/etc/passwd} \end{tabular} $x^2$ 100% #1 & ~ {",
    "__bold__ *star* `code` [link](http://x) ![i](y) ~~gone~~",
    "two\nlines\r\n\n# heading",
    "[x] * \\\\ --- ``quoted'' \"text\"",
    "naïve Å ł ß 中文 α ∞ \u202eevil \x00\x1b[31m",
)


def _tables(markdown: str) -> list[list[list[str]]]:
    """The text of each cell of each Markdown table, row by row, as a reader sees it."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and token.level == 4:
            assert token.children is not None
            markup = {child.type for child in token.children} - {"text", "text_special", "html_inline"}
            assert markup <= {"strong_open", "strong_close"}, markup
            html = {child.content for child in token.children if child.type == "html_inline"}
            assert html <= {"<br>", "<u>", "</u>"}
            tables[-1][-1].append("".join(child.content for child in token.children if child.type != "html_inline"))
    return tables


@pytest.fixture
def records(make_record: RecordMaker) -> list[Record]:
    """Some of everything: seeds, settings, datasets, flags, and names that nobody should use."""
    strangers = [
        make_record(kind="checkpoint", method=name, label=name, seed=None, setting=name, flags=[name], selection=name)
        for name in HOSTILE
    ]
    ours = [make_record(method=name, seed=seed) for name in ("sat", "ciard") for seed in range(2)]
    digits = [
        make_record(method=name, dataset="digits", model="digits-cnn", selection="test")
        for name in ("sat", "trades", "ard")
    ]
    return [*strangers, *ours, *digits]


def _numbers(values: str) -> range:
    """All tables that can be rendered; the headline has no published numbers."""
    return range(0 if values == "measured" else 1, 8)


def test_files_are_named_by_what_they_show(records: list[Record], tmp_path: Path) -> None:
    names = {
        values: [path.name for path in render_tables(records, [3, 7], values, out=tmp_path)]
        for values in ("measured", "paper", "compare")
    }
    assert names == {
        "measured": ["table3.md", "table3.tex", "table7.md", "table7.tex", "provenance.md", "tables.tex"],
        "paper": [
            *("table3-paper.md", "table3-paper.tex", "table7-paper.md", "table7-paper.tex"),
            *("provenance-paper.md", "tables-paper.tex"),
        ],
        "compare": [
            *("table3-compare.md", "table3-compare.tex", "table7-compare.md", "table7-compare.tex"),
            *("provenance-compare.md", "tables-compare.tex"),
        ],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(chain(*names.values()))


def test_by_default_the_overview_and_those_of_tables_0_and_3_to_8_are_written_that_have_a_number(
    records: list[Record], tmp_path: Path
) -> None:
    def names(*arguments: Any, **more: Any) -> list[str]:
        more |= {"formats": ["csv"], "out": tmp_path / "new" / "folder"}
        return [path.stem for path in render_tables(*arguments, **more)]

    assert names([]) == ["overview"]
    assert names(records) == ["overview", "table3", "table7"]
    assert names([], all_rows=True) == ["overview", *(f"table{number}" for number in (0, 3, 4, 5, 6, 7, 8))]
    assert names([], [4]) == ["table4"]
    assert names([], values="paper") == [f"table{number}-paper" for number in (3, 4, 5, 6, 7, 8)]


def test_the_same_records_give_the_same_files(records: list[Record], tmp_path: Path) -> None:
    formats = ["markdown", "latex", "csv"]
    first = [path.read_bytes() for path in render_tables(records, formats=formats, out=tmp_path)]
    again = [path.read_bytes() for path in render_tables(reversed(records), formats=formats, out=tmp_path)]
    assert first == again


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"numbers": [99]}, "no table 99"),
        ({"values": "guessed"}, "guessed"),
        ({"formats": ["docx"]}, "docx"),
        ({"datasets": ["imagenet"]}, "imagenet"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(tmp_path: Path, arguments: dict[str, object], named: str) -> None:
    with pytest.raises(BenchError, match=named) as caught:
        render_tables([], out=tmp_path, **arguments)  # type: ignore[arg-type]
    assert "Known:" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_markdown_shows_best_and_second_best(make_record: RecordMaker, tmp_path: Path) -> None:
    records = [
        make_record({"clean": clean, "fgsm": right}, method=name)
        for name, clean, right in (("sat", 80, 50), ("trades", 80, 60), ("ard", 79, 40))
    ]
    path, _ = render_tables(records, [3], formats=["markdown"], datasets=["cifar10"], out=tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "## Table 3. White-box adversarial robustness: ResNet-18 (%, measured)"
    assert lines[2:6] == [
        "CIFAR-10 — official, 300 epochs, n = 100; FGSM",
        "",
        "| Defense | Clean | Robust | W-R |",
        "|---|---:|---:|---:|",
    ]
    assert "| SAT | **80.00≈** | <u>50.00</u> | <u>65.00</u> |" in lines
    assert "| TRADES | **80.00≈** | **60.00** | **70.00** |" in lines
    assert "| ARD | <u>79.00</u> | 40.00 | 59.50 |" in lines
    assert not any("RSLAD" in line for line in lines)
    path, _ = render_tables(records, [3], formats=["markdown"], datasets=["cifar10"], out=tmp_path, all_rows=True)
    assert "| FGSM | RSLAD | – | – | – |" in path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("values", ["measured", "paper", "compare"])
def test_markdown_parses_into_rows_of_equal_length(records: list[Record], tmp_path: Path, values: str) -> None:
    *paths, _ = render_tables(records, _numbers(values), values, formats=["markdown"], out=tmp_path)
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert _tables(text) or "No evaluation record fits this table yet." in text
        for rows in _tables(text):
            assert len(rows) > 1
            assert {len(row) for row in rows} == {len(rows[0])}


def test_hostile_names_appear_in_markdown_as_they_are(records: list[Record], tmp_path: Path) -> None:
    path, _ = render_tables(records, [3], formats=["markdown"], out=tmp_path)
    names = {row[1] for rows in _tables(path.read_text(encoding="utf-8")) for row in rows}
    for name in HOSTILE[:4]:
        assert name in names
    assert "two lines # heading" in names
    assert "naïve Å ł ß 中文 α ∞ evil [31m" in names


@given(st.text(max_size=30))
def test_escaped_markdown_is_one_plain_cell(text: str) -> None:
    escaped = escape.markdown(text)
    (rows,) = _tables(f"| a | b |\n|---|---|\n| x{escaped}x | y |\n")
    assert rows[1][1] == "y"
    assert "".join(rows[1][0].split()) == "".join(
        mark for mark in f"x{text}x" if escape.markdown(mark) and not mark.isspace()
    )


@given(st.text(max_size=30))
def test_escaped_latex_is_ascii_with_balanced_braces(text: str) -> None:
    escaped = escape.latex(text)
    assert escaped.isascii()
    assert "\n" not in escaped
    plain = escaped.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")


def test_latex_knows_what_names_are_made_of() -> None:
    assert escape.latex("a_b & 5%") == r"a\_b \& 5\%"
    assert escape.latex("CW∞ ± é") == r"CW$_\infty$ $\pm$ \'{e}"
    assert escape.latex("中") == "{[}U+4E2D{]}"
    assert escape.latex("--set") == "-{}-set"


@pytest.mark.parametrize("values", ["measured", "paper", "compare"])
def test_latex_compiles(records: list[Record], tmp_path: Path, values: str) -> None:
    *_, document = render_tables(records, _numbers(values), values, formats=["latex"], out=tmp_path)
    said = set_by_latex(document)
    assert "Float too large" not in said
    assert "Overfull" not in said


def test_csv_has_every_cell_with_its_origin(records: list[Record], tmp_path: Path) -> None:
    (path,) = render_tables(records, [3], "compare", formats=["csv"], out=tmp_path)
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    measured = [line for line in lines if line["source"] == "measured" and line["value"]]
    published = [line for line in lines if line["source"] == "paper" and line["value"]]
    assert len(published) == 40 * 3
    assert {line["setting"] for line in published} == {"as published in Lu et al. 2025"}
    assert {line["n"] for line in published} == {"10000"}
    assert {*HOSTILE[:4], "two lines # heading"} <= {line["row"] for line in measured}
    assert all(line["records"].startswith("record-") for line in measured)
    sat = next(
        line for line in measured if (line["row"], line["dataset"], line["quantity"]) == ("SAT", "digits", "robust")
    )
    assert (sat["attack"], sat["value"], sat["selection"], sat["seeds"]) == ("fgsm", "60.0000", "test", "1")
    assert float(sat["low"]) == pytest.approx(50.2, abs=0.05)
    assert float(sat["high"]) == pytest.approx(69.1, abs=0.05)


def test_wide_tables_come_in_parts_that_keep_a_dataset_together(records: list[Record], tmp_path: Path) -> None:
    path, *_ = render_tables(
        records[-7:], [3], "compare", ["latex"], datasets=["cifar10", "cifar100"], out=tmp_path, all_rows=True
    )
    first, second = path.read_text().split(r"\end{table}")[:2]
    assert [part.count("Measured: CIFAR-100") for part in (first, second)] == [0, 1]
    assert [part.count("Paper: CIFAR-100") for part in (first, second)] == [0, 1]
    assert "continued" not in first
    assert "continued" in second


def test_tables_are_rendered_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bench.tables import render_tables;"
        "render_tables([], out=Path(sys.argv[1]));"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
