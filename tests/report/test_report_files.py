"""What a report holds: every number from the records, every table in three formats, the same every time."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from bench.cost.profile import Profile, write_profile
from bench.errors import BenchError
from bench.evaluation import sanity
from bench.recipes.schedule import Schedule
from bench.recipes.training import Augmentation, Average, Optimizer, WeightPerturbation
from bench.records.files import read_records
from bench.records.wording import seeds_text
from bench.report import checks, classes, leaderboard, overview, site, training
from bench.report.examples import MOST_RUNS, gallery
from bench.runs.config import ExtraRef
from bench.runs.folder import RunFolder
from bench.stats import wilson_interval
from bench.system.home import Home
from bench.tables import build_overview

from ..helpers.records import RecordMaker
from .homes import EXAMPLES, keep, make_run, session_of

EPS = 8 / 255
PROFILE = Profile(
    method="sat",
    variant="official",
    student="resnet18",
    teachers={},
    dataset="cifar10",
    train_images=50_000,
    image_shape=(3, 32, 32),
    classes=10,
    batch_size=128,
    recipe="official",
    epochs=300,
    precision="32",
    device="GPU A",
    device_type="cuda",
    threads=1,
    steps=5,
    seconds_per_step=0.25,
    seconds_spread=0.01,
    flops_per_image=1e10,
    shares={"attack": 0.8, "teachers": 0.0, "update": 0.2},
    peak_memory=10**9,
    peak_flops=1e13,
    environment={},
    created="2026-01-01T00:00:00+00:00",
)


def test_every_demo_result_is_in_the_leaderboard(demo_records: Path) -> None:
    records = {record.id: record for record in read_records(demo_records)}
    found = leaderboard.entries(list(records.values()))
    expected = {
        (record.id, attack)
        for record in records.values()
        for attack in record.results
        if attack != "clean" and record.subject.kind == "student"
    }
    assert {(entry.robust.records[0], entry.attack) for entry in found} == expected
    for entry in found:
        record = records[entry.robust.records[0]]
        result, clean = record.results[entry.attack], record.results["clean"]
        assert entry.robust.value == pytest.approx(100 * result.accuracy)
        assert entry.robust.interval == pytest.approx([100 * bound for bound in result.interval])
        assert entry.clean.value == pytest.approx(100 * clean.accuracy)
        assert entry.weighted.value == pytest.approx(50 * (result.accuracy + clean.accuracy))
        assert entry.group.n == record.data.n
    teachers = leaderboard.entries(list(records.values()), "teacher")
    assert {entry.label for entry in teachers} == {"Clean teacher (digits-teacher)", "Robust teacher (digits-teacher)"}


def test_the_overview_has_the_strongest_first_and_a_worst_over_fewer_attacks_last(make_record: RecordMaker) -> None:
    counts = {"clean": 90, "fgsm": 60, "pgd-sat": 50}
    records = [
        *(make_record({**counts, "pgd-sat": right}, seed=seed) for seed, right in enumerate((40, 50, 60))),
        make_record(counts | {"pgd-sat": 55}, method="trades"),
        make_record({"clean": 90, "fgsm": 80}, method="ard"),
        make_record(counts, model="vgg16"),
        make_record(counts, kind="teacher", role="robust"),
    ]
    shown = overview.facts(build_overview(records))
    assert shown["attacks"] == ["Worst", "Clean", "FGSM", "PGD-SAT"]
    assert shown["filters"]["Student"] == ["resnet18", "vgg16", "teachers"]
    rows = [([str(Markup(cell).striptags()) for cell in row.cells], row.group) for row in shown["rows"].in_page]
    assert [(row[0], row[6], row[-1], group) for row, group in rows] == [
        ("TRADES", "55.0045.2–64.4", "1 (0)", 0),
        ("SAT", "50.00± 10.00", "3 (0-2)", 0),
        ("ARD", "80.00*71.1–86.7", "1 (0)", 0),
        ("SAT", "50.0040.4–59.6", "1 (0)", 1),
        ("Robust teacher (resnet18)", "50.0040.4–59.6", "1 (0)", 2),
    ]
    assert shown["rows"].in_page[2].cells[6].startswith('<span class="partial">')


def test_seeds_are_shown_as_their_mean_and_each_by_itself(make_record: RecordMaker) -> None:
    three = [make_record({"clean": 80, "fgsm": right}, seed=seed) for seed, right in enumerate((50, 60, 70))]
    alone = make_record({"clean": 80, "fgsm": 55}, method="trades")
    found = leaderboard.entries([*three, alone])
    assert [(entry.label, entry.view, entry.seed_text, entry.robust.text) for entry in found] == [
        ("SAT", "network", "1 (2)", "70.00"),
        ("SAT", "mean", "3 (0-2)", "60.00 ± 10.00 (3)"),
        ("SAT", "network", "1 (1)", "60.00"),
        ("TRADES", "both", "1 (0)", "55.00"),
        ("SAT", "network", "1 (0)", "50.00"),
    ]
    assert found[0].robust.interval == pytest.approx([100 * bound for bound in wilson_interval(70, 100)])
    assert found[1].robust.interval is None
    assert found[1].robust.mark == "best"
    assert found[0].robust.mark == ""


@pytest.mark.parametrize(
    ("seeds", "text"), [([], ""), ([0], "1 (0)"), ([1, 0], "2 (0, 1)"), ([7, 2, 1, 0], "4 (0-2, 7)"), ([0, 0], "1 (0)")]
)
def test_seeds_are_how_many_then_which(seeds: list[int], text: str) -> None:
    assert seeds_text(seeds) == text


def test_the_newest_record_of_a_network_counts(make_record: RecordMaker) -> None:
    new, old = (make_record({"clean": 80, "fgsm": right}, minute=minute) for right, minute in ((60, 2), (50, 1)))
    other = make_record({"clean": 80, "fgsm": 40}, minute=0, seed=1)
    found = leaderboard.entries([new, old, other])
    assert [(entry.view, entry.robust.text, entry.robust.records) for entry in found] == [
        ("network", "60.00", (new.id,)),
        ("mean", "50.00 ± 14.14 (2)", (new.id, other.id)),
        ("network", "40.00", (other.id,)),
    ]


def test_all_test_images_come_before_a_part_of_them(make_record: RecordMaker) -> None:
    part = make_record({"clean": 90, "autoattack": 80}, n=100, total=200)
    whole = make_record({"clean": 90, "fgsm": 80}, n=200, total=200)
    assert [entry.samples for entry in leaderboard.entries([part, whole])] == ["200", "100 of 200"]


def test_classes_are_those_of_the_outcomes(make_record: RecordMaker) -> None:
    labels = np.arange(100) % 10
    right = (labels != 3) & (np.arange(100) < 80)
    record = make_record({"clean": 90, "fgsm": right}, labels=labels)
    unknown = make_record({"clean": 90, "fgsm": 50}, method="trades")  # of an earlier version: no accuracies of classes
    found = classes.class_accuracies(leaderboard.entries([record, unknown]), {r.id: r for r in (record, unknown)})
    assert [(one.entry.label, one.attack_label) for one in found] == [("SAT", "FGSM"), ("SAT", classes.CLEAN)]
    assert (found[0].worst, found[0].accuracies[3], found[0].interval(3)) == (3, 0.0, wilson_interval(0, 10))
    names = {"cifar10": ["cat", "dog", "owl", "eel", *"456789"]}
    (row,) = classes.worst_table(found, names).rows
    assert row[-4:] == ("eel", "0.00", "0.0 to 45.0", "10")  # 1 - (1 - 0.975 ** 0.1) ** 0.1: any of ten classes
    drawn = classes.chart(found, names)
    assert drawn["choices"][0]["networks"][0]["values"] == [8, 8, 8, 0, 8, 8, 8, 8, 8, 8]
    low, high = wilson_interval(8, 10)
    assert drawn["intervals"]["8/10"] == (round(100 * low, 1), round(100 * high, 1))


def test_curves_are_those_of_the_log_and_longer_ones_are_thinned(tmp_path: Path) -> None:
    home = Home(tmp_path)
    pair = [make_run(home, "mtard").id, make_run(home, "ciard").id]
    long = make_run(home, "rslad")
    for epoch in range(4, 254):
        accuracy = {"student": {"clean": epoch / 1000, "robust": 0.0}}
        long.append_metrics({"kind": "epoch", "epoch": epoch, "step": 10, "terms": {}, "accuracy": accuracy})
    runs = training.runs_of(home, None)
    assert training.figure_3(home, runs) == pair
    drawn = {run["id"]: run for run in training.chart(runs)}
    accuracies, terms = drawn[pair[0]]["accuracies"], drawn[pair[0]]["terms"]
    assert accuracies["epoch"] == terms["epoch"] == [1, 2, 3]
    assert accuracies["step"] == 1
    assert accuracies["values"]["student, clean"] == [10, 20, 30]
    assert accuracies["values"]["student, robust"] == [5, 10, 15]
    assert terms["values"]["loss"] == [1, 0.5, 0.3333]
    assert terms["values"]["endless"] == [None, None, None]
    thinned = drawn[long.id]["accuracies"]
    assert thinned["epoch"] == [*range(1, 253, 3), 253]
    assert thinned["values"]["student, clean"][-1] == 25.3
    assert thinned["values"]["clean teacher, clean"][:3] == [90, None, None]
    many = [*runs, *[(long, long.config())] * 200]
    shares = {run["id"]: len(run["accuracies"]["epoch"]) for run in training.chart(many)}
    assert shares[long.id] == pytest.approx(training.ALL_POINTS / len(many), abs=2)
    assert len(training.chart(many, [long.id])[-1]["accuracies"]["epoch"]) == len(thinned["epoch"])


def test_a_run_s_options_stand_beside_its_curves(tmp_path: Path) -> None:
    home = Home(tmp_path)
    adamw = Optimizer(kind="adamw", lr=1e-3, weight_decay=0.05, decay_norms=False, clip=1.0)
    options: dict[str, Any] = {
        "optimizer": adamw,
        "schedule": Schedule(kind="cosine", warmup=2),
        "average": Average(kind="ema", decay=0.99),
        "awp": WeightPerturbation(from_epoch=3),
        "augmentation": Augmentation(kind="cutout"),
    }
    extra = ExtraRef(name="npz:more", spec="npz:/more.npz", fingerprint="f", n=40, share=0.7)
    plain = make_run(home, "sat")
    data = plain.config().data.model_copy(update={"extra": extra})
    whole = make_run(home, "sat", seed=1, data=data, **options)
    said = (
        "adamw, rate 0.001; decay 0.05, not of norms and biases; gradients up to 1; cosine after 2 epochs of warm-up; "
        "cutout; average: ema, decay 0.99; AWP 0.01 from epoch 3"
    )
    runs = training.runs_of(home, None)
    drawn = {run["id"]: run for run in training.chart(runs)}
    assert drawn[whole.id]["trained"] == said
    assert drawn[plain.id]["trained"] == "sgd, rate 0.1; decay 0.0005; one-cycle; crop-flip"
    assert "the student being its average (ema, decay 0.99)" in drawn[whole.id]["looked"]
    assert "average" not in drawn[plain.id]["looked"]
    assert "70 % additional images of npz:more" in drawn[whole.id]["about"]
    cells = {row[-2]: row for row in training.table(runs).rows}
    assert said in cells[whole.id]
    html = site.write_report(home, tmp_path / "out").with_name("training.html").read_text(encoding="utf-8")
    assert said in html


def test_a_damaged_log_is_a_mistake_with_a_remedy(tmp_path: Path) -> None:
    folder = make_run(Home(tmp_path), "mtard")
    folder.append_metrics({"kind": "epoch", "epoch": 4, "step": 1, "accuracy": {"student": "good"}})
    with pytest.raises(BenchError, match=r"metrics.jsonl has no accuracies in its line of epoch 4\.\nRestore"):
        site.write_report(Home(tmp_path), tmp_path / "out")


def test_every_flag_that_a_check_can_raise_is_explained(make_record: RecordMaker) -> None:
    right = {"clean": 95, "fgsm": 10, "pgd-sat": 60, "pgd-trades": 20, "autoattack": 90, "transfer:pgd-sat": 5}
    results = dict(make_record(right).results)
    components = {"clean": 0.9, "apgd-ce": 0.8, "square": 0.5}
    results["autoattack"] = results["autoattack"].model_copy(update={"components": components})
    all_right, none = np.ones(64, bool), np.zeros(64, bool)
    stuck = {"reference": none, "longer": all_right, "queries": none, "noise": none, "vanished": all_right}
    stuck |= {"clean": all_right, "again": none, "eps=0.5": none, "eps=1.0": all_right, "everywhere": all_right}
    weak = {**dict.fromkeys(stuck, all_right), "noise": none, "queries": none}
    results["fgsm"] = results["fgsm"].model_copy(update={"parameters": {"eps": 0.1}})
    guessing = {"clean": make_record({"clean": 12}).results["clean"]}
    flags = [flag for probes in (stuck, weak) for flag in sanity.flags(results, 100, probes)]
    flags += [*sanity.flags(guessing, 100, {"probabilities": all_right}), *sanity.other_radii(results, 8 / 255)]
    near, far = np.full(100, 0.1 * EPS), np.full(100, np.inf)
    flags += sanity.flags(make_record(radii={"fmn": far, "pgd-curve": near}).results, 100, {})
    flags.append(sanity.UNCHECKED)
    found = [checks.explained(flag) for flag in flags]
    assert None not in found, flags
    assert {check.key for check in found if check} == {check.key for check in checks.CHECKS}
    assert checks.explained("something of a plug-in's") is None


def test_examples_are_what_the_record_says(demo_report: Path) -> None:
    home = Home(demo_report.parent)
    runs = training.runs_of(home, None)
    found = gallery(session_of(home), runs, list(read_records(home.records)), 20)
    assert [example.place for example in found.examples] == list(range(1, 21))
    records = {r.subject.label: r for r in read_records(home.records) if r.suite == "pgd-sat"}
    assert [network.label for network in found.networks] == sorted(records) == ["Natural", "SAT"]
    for i, label in enumerate(sorted(records)):
        answers = [example.answers[i] for example in found.examples]
        assert {answer.network.label for answer in answers} == {label}
        assert all(answer.as_recorded for answer in answers)
        assert sum(answer.after.right for answer in answers) == records[label].results["pgd-sat"].correct
        assert sum(answer.before.right for answer in answers) == records[label].results["clean"].correct
    assert {"digits-cnn", "PGD-SAT", "official protocol", "eps = 0.125"} <= set(found.shared)
    assert found.classes == {"digits": tuple("0123456789")}
    again = gallery(session_of(home), runs, list(read_records(home.records)), 20)
    assert again == found


def test_pictures_are_files_and_those_of_an_earlier_report_are_removed(
    demo_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = (demo_report / "examples.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="examples/([^"]+)"', html)
    assert len(pictures) == EXAMPLES * (
        1 + 2 * 2
    )  # the original, and of two networks the attacked image and difference
    assert {path.name for path in (demo_report / "examples").iterdir()} == set(pictures)
    assert html.index("Natural</h3>") < html.index("SAT</h3>") < html.index("test image 2 of digits")
    (tmp_path / "examples").mkdir()
    for name in ("0123456789ab.png", "my.png"):
        (tmp_path / "examples" / name).touch()
    site.write_report(Home(tmp_path / "home"), tmp_path)
    assert [path.name for path in (tmp_path / "examples").iterdir()] == ["my.png"]


def test_examples_say_what_is_not_at_hand(demo_report: Path, tmp_path: Path) -> None:
    home = Home(demo_report.parent)
    records, runs = list(read_records(home.records)), training.runs_of(home, None)
    missing = dict(gallery(session_of(home), runs, records, 2).missing)
    assert len(missing) > MOST_RUNS
    assert set(missing.values()) == {"its run folder is not here, so there are no weights"}
    trained = next((folder, config) for folder, config in runs if folder.best.exists())
    moved = RunFolder(tmp_path / trained[0].id)
    assert gallery(session_of(home), [(moved, trained[1])], records, 2).examples == []
    other = trained[1].model_copy(update={"data": trained[1].data.model_copy(update={"spec": "cifar10"})})
    reasons = dict(gallery(session_of(home), [(trained[0], other)], records, 2).missing)
    assert "the images of cifar10 are not here" in reasons.values()


def test_every_page_and_every_table_in_three_formats(demo_report: Path) -> None:
    for page in site.PAGES:
        html = (demo_report / f"{page}.html").read_text(encoding="utf-8")
        assert html.startswith("<!DOCTYPE html>")
        for address in re.findall(r'(?:src|href)="([^"]*)"', html):
            path = address.partition("#")[0]
            assert path.startswith("data:") or not path or (demo_report / path).is_file(), address
        for name in re.findall(r'href="tables/([^"]+)\.csv"', html):
            assert {(demo_report / "tables" / f"{name}.{suffix}").is_file() for suffix in site.FORMATS} == {True}
    lines: list[dict[str, str]] = []
    for name in ("leaderboard", "teachers"):
        with (demo_report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            lines += csv.DictReader(stream)
    html = (demo_report / "index.html").read_text(encoding="utf-8")
    assert len(lines) == html.count("<tr data-view=")
    shown = next(line for line in lines if line["Defense"] == "TRADES" and line["Attack"] == "PGD-SAT")
    assert f"{shown['Robust %']}" in html


def test_published_numbers_are_on_their_page_alone(demo_report: Path) -> None:
    published = "59.10"  # CIARD under FGSM in the paper's Table 1
    assert published in (demo_report / "paper.html").read_text(encoding="utf-8")
    cell = re.search(rf'<td class="([^"]*)">[^/]*{published}', (demo_report / "paper.html").read_text(encoding="utf-8"))
    assert cell is not None
    assert "paper" in cell[1].split()
    for page in set(site.PAGES) - {"paper"}:
        html = (demo_report / f"{page}.html").read_text(encoding="utf-8")
        assert 'class="num paper' not in html
        assert published not in html


def test_the_same_home_gives_the_same_report(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path)
    make_run(home, "ciard")
    for method in ("sat", "trades"):
        keep(home, make_record(method=method))
    first, second = (site.write_report(home, tmp_path / name).parent for name in ("a", "b"))
    assert files_of(first) == files_of(second)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("comes_to_grief", [False, True])
def test_a_second_process_makes_the_tables_of_a_large_home_or_this_one_does(
    tmp_path: Path, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch, comes_to_grief: bool
) -> None:
    home = Home(tmp_path / "home")
    for method in ("sat", "trades"):
        keep(home, make_record(method=method))
    alone = site.write_report(home, tmp_path / "alone").parent
    asked: list[str] = []

    class Other(nullcontext[Any]):
        """What the second process is to do, done in this one."""

        def __init__(self, function: str, items: list[str]) -> None:
            super().__init__(self)
            asked.extend([function, *items])

        def results(self) -> dict[str, Any]:
            return {} if comes_to_grief else {asked[1]: json.loads(json.dumps(site.tables_pages(asked[1])))}

    monkeypatch.setattr(site, "LEAST", 2)
    monkeypatch.setattr(site, "Helper", Other)
    together = site.write_report(home, tmp_path / "together").parent
    assert asked[0] == f"{site.tables_pages.__module__}:{site.tables_pages.__name__}"
    assert files_of(together) == files_of(alone)


def test_the_command(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path / "home")
    for dataset in ("cifar10", "cifar100"):
        keep(home, make_record(dataset=dataset))

    command = [sys.executable, "-m", "bench", "--home", str(home.root), "report", "--datasets", "cifar100"]
    written = subprocess.run([*command, "--examples", "0"], capture_output=True, text=True, timeout=120)
    assert (written.returncode, written.stderr) == (0, "")
    page = Path(written.stdout.strip())
    assert page == home.root / "results" / "report" / "index.html"
    html = page.read_text(encoding="utf-8")
    assert "<td>cifar100</td>" in html
    assert "<td>cifar10</td>" not in html
    with pytest.raises(BenchError, match="Did you mean 'cifar100'"):
        site.write_report(home, tmp_path / "out", ["cifar1000"])


def test_costs_are_those_of_records_and_profiles(tmp_path: Path, make_record: RecordMaker) -> None:
    home = Home(tmp_path)
    keep(home, make_record(overrides={"beta": 2}, hours=1.5, device="GPU A"))
    write_profile(home, PROFILE)
    write_profile(home, PROFILE.model_copy(update={"method": "trades", "off": ("folding",)}))
    out = site.write_report(home, tmp_path / "out").parent
    html = (out / "costs.html").read_text(encoding="utf-8")
    assert re.search(r'<th scope="row">SAT \(beta=2\)</th>(<td>[^<]*</td>)+<td>GPU A</td><td>0</td><td>1.50</td>', html)
    assert '<th scope="row">SAT (official)</th>' in html
    assert "TRADES" not in html  # without a speed-up: no cost of the method's
    assert "SAT (official)" in (out / "tables" / "costs.csv").read_text(encoding="utf-8")


def test_without_plotly_there_is_all_but_the_charts(
    tmp_path: Path, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch, bench: Any
) -> None:
    home = Home(tmp_path)
    keep(home, make_record())
    whole = files_of(site.write_report(home, tmp_path / "whole").parent)
    monkeypatch.setitem(sys.modules, "plotly", None)
    written = bench("report", "--examples", "0", "--out", tmp_path / "out", home=home.root)
    assert "Plotly is not installed: no charts." in written.err
    assert "pip install 'ard-bench[report]'" in written.err
    without = files_of(tmp_path / "out")
    assert set(whole) - set(without) == {Path("assets/plotly.min.js")}
    assert {path for path in without if without[path] != whole[path]} == {Path("index.html")}
    assert b"plotly.min.js" not in without[Path("index.html")]


def test_an_empty_home_has_a_report_that_says_what_to_do(tmp_path: Path) -> None:
    page = site.write_report(Home(tmp_path), tmp_path / "out", examples=2, session=session_of(Home(tmp_path)))
    assert "Train and attack one first" in page.read_text(encoding="utf-8")
    assert "bench run" in (page.parent / "training.html").read_text(encoding="utf-8")


def test_data_in_a_page_cannot_end_its_element(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_run(home, "ciard", label="</script><script>hacked()</script>\u2028")
    html = site.write_report(home, tmp_path / "out").with_name("training.html").read_text(encoding="utf-8")
    assert "hacked()</script>" not in html
    (text,) = re.findall(r'<script type="application/json" id="runs-data">(.*?)</script>', html, re.DOTALL)
    assert json.loads(text)[0]["name"] == "</script><script>hacked()</script>\u2028"
    assert "\u2028" not in html


def test_the_last_weights_are_in_the_robust_overfitting_alone(tmp_path: Path, make_record: RecordMaker) -> None:
    home, ends = Home(tmp_path), (("best", 60), ("last", 48))
    for which, right in ends:
        outcomes = {"clean": 90, "autoattack": right}
        keep(home, make_record(outcomes, run="run-0", checkpoint_of=which))  # type: ignore[arg-type]
    contents = site._contents(home, None)
    assert [record.subject.checkpoint_of for record in contents.records] == ["best"]
    headline = site._tables_files(contents)["tables/table0.md"]
    assert "Robust overfitting" in headline
    assert "-12.00" in headline
    assert "48.00" not in headline
    assert site._contents(home, ["cifar10"]).last == contents.last
