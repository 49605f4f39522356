"""`bench duel`: stopped and continued it does nothing twice, and it says what `bench compare` says."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.jobs.session import Session
from bench.sweep import run_here
from bench.sweep.perform import Failure
from bench.sweep.perform import perform as perform_it
from bench.sweep.plan import Task
from bench.system.signals import Interrupted

from ..helpers.commands import DIGITS, Bench, Result
from ..helpers.homes import Contents, Find, once_for_all

STUDENTS = ("duel", "sat", "ciard", "--student", "digits-cnn", *DIGITS)
DUEL = (*STUDENTS, "--suite", "fgsm", "--limit", "16", "--seeds", "3")
"""Of which `trained` has the two teachers and the students of seed 0."""
TASKS = 2 + 2 * 3 * 2
"""Two teachers, and of each defense three students with an evaluation each."""


class Duelled(NamedTuple):
    """A home in which `DUEL` was stopped after three tasks and then continued.

    Attributes:
        changed: files that were there when it was stopped, and are not as they were.
    """

    home: Path
    stopped: Result
    finished: Result
    changed: list[str]

    @property
    def said(self) -> list[str]:
        """Its last words but the page's path: the home has moved since."""
        return self.finished.out.splitlines()[:-1]

    @property
    def page(self) -> str:
        (page,) = (self.home / "results" / "duels").iterdir()
        return page.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def duelled(bench: Bench, trained: Path, contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Duelled:
    begun: list[Task] = []

    def perform(session: Session, task: Task) -> None:
        begun.append(task)
        if len(begun) > 3:
            raise Interrupted("Stopped.", 15)
        perform_it(session, task)

    def make(folder: Path) -> None:
        home = Path(shutil.copytree(trained, folder / "home"))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(run_here, "perform", perform)
            stopped = bench(*DUEL, home=home)
        between = contents(home)
        finished = bench(*DUEL, home=home)
        after = contents(home)
        changed = [name for name in between if after.get(name) != between[name]]
        (folder / "said.json").write_text(json.dumps([stopped, finished, changed]), encoding="utf-8")

    made = once_for_all(tmp_path_factory, "duelled", make)
    stopped, finished, changed = json.loads((made / "said.json").read_text(encoding="utf-8"))
    return Duelled(made / "home", Result(*stopped), Result(*finished), changed)


def table_rows(page: str) -> list[list[str]]:
    """The texts of the cells of each row of a page's tables; drawings have none."""
    rows = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in cells]


def test_stopped_and_continued_it_does_nothing_twice(duelled: Duelled, records: Find) -> None:
    assert duelled.stopped.code == 128 + 15
    assert not duelled.stopped.out
    done = re.findall(r"^\[(\d+)/14\]", duelled.stopped.err, re.MULTILINE)
    again = re.findall(r"^\[(\d+)/14\]", duelled.finished.err, re.MULTILINE)
    assert len(done) == 4
    assert again == [done[-1], *again[1:]]
    assert len({*done, *again}) == TASKS - 4  # the teachers and the students of seed 0 were there
    assert duelled.changed == []
    assert len(records(duelled.home, "__fgsm-official-n16")) == 6


def test_once_more_it_only_compares(
    bench: Bench, duelled: Duelled, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.sweep.done.account", pytest.fail)
    monkeypatch.setattr(Session, "dataset", pytest.fail)  # nor does it need the images
    before, page = contents(duelled.home), duelled.page
    again = bench(*DUEL, home=duelled.home)
    assert (again.code, again.out.splitlines()[:-1], again.err) == (0, duelled.said, "")
    after = contents(duelled.home)
    assert {Path(name).parent.name for name in after if after[name] != before.get(name)} == {"duels"}
    assert duelled.page == page


def test_verdict_and_numbers_are_those_of_compare(bench: Bench, duelled: Duelled) -> None:
    *_, line = re.findall(r"<pre><code>(bench compare .*)</code></pre>", duelled.page)
    result = bench(*shlex.split(html.unescape(line))[1:], "--format", "json", home=duelled.home)
    assert result.code == 0, result
    found: dict[str, Any] = json.loads(result.out)
    assert [side["seeds"] for side in found["sides"]] == [[0, 1, 2]] * 2
    (answer,) = found["answers"]
    assert answer["text"] in duelled.finished.out
    assert answer["text"] in html.unescape(duelled.page)
    heads = next(row for row in table_rows(duelled.page) if row[:2] == ["Attack", "Number"])
    rows = {(row[0], row[1]): row for row in table_rows(duelled.page) if len(row) > 2}
    assert [(each["attack"], each["quantity"]) for each in found["contrasts"]] == [
        *(("clean", "clean"), ("fgsm", "robust"), ("fgsm", "weighted")),
    ]
    for contrast, number in zip(found["contrasts"], ("clean accuracy", "robust accuracy", "W-R"), strict=True):
        row = rows[contrast["attack"], number]
        for cell, accuracy in zip(row[2:4], contrast["accuracies"], strict=True):
            assert re.fullmatch(rf"[\d.]+ ± [\d.]+ \({accuracy['seeds']}\)", cell)
            assert float(cell.split()[0]) == pytest.approx(100 * accuracy["value"], abs=0.00501)
            assert float(cell.split()[2]) == pytest.approx(100 * accuracy["std"], abs=0.00501)
        difference = contrast["difference"]
        ends = [float(number) for number in re.findall(r"[+-][\d.]+", row[4])]
        assert ends == pytest.approx([100 * difference[name] for name in ("value", "low", "high")], abs=0.00501)
        assert float(row[heads.index("p")].split()[0]) == pytest.approx(difference["p"], rel=0.01)
        least = contrast["detectable"]
        could = "" if least is None else f"{100 * least:.2f} could have been found"
        assert row[-1] == contrast["verdict"] + could


def test_the_page_says_what_it_is_about(duelled: Duelled) -> None:
    text = html.unescape(re.sub(r"<[^>]*>", "", duelled.page.split("</style>")[1]))
    for words in (
        "SAT against CIARD",
        "demo recipe, 1 epoch, first 100 training images",
        "seeds of each: 3 (0-2)",
        "16 of 360 test images of digits",
        "It is a claim about the defenses as they are here",
        "All 3 seeds of CIARD learned from one clean and one robust teacher",
        "AutoAttack is not among the attacks",
        "Teachers, each trained once: Natural digits-teacher, clean teacher, seed 0",
        "bench duel sat ciard --student digits-cnn --dataset digits --recipe demo --seeds 3 --suite fgsm",
    ):
        assert words in text
    assert "http" not in duelled.page.replace("http://www.w3.org", "")  # it opens from a disk, whole


def test_every_network_and_failed_check_stands_on_the_page(duelled: Duelled, records: Find) -> None:
    text = html.unescape(duelled.page)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in records(duelled.home, "__fgsm-official-n16")]
    rows = {row[-1]: row for row in table_rows(duelled.page)}
    for record in found:
        row = rows[record["subject"]["run"]]
        accuracies = [f"{100 * record['results'][name]['accuracy']:.2f}" for name in ("clean", "fgsm")]
        assert row[:-1] == [record["subject"]["label"], str(record["subject"]["seed"]), *accuracies]
        assert all(flag in text for flag in record["flags"])
    flagged = sum(bool(record["flags"]) for record in found)
    assert (f"Checks of {flagged} evaluations failed" in duelled.finished.out) == bool(flagged)


def test_the_line_on_the_page_finds_all_of_it_done(bench: Bench, duelled: Duelled) -> None:
    (line, _) = re.findall(r"<pre><code>(bench .*)</code></pre>", duelled.page)
    words = shlex.split(html.unescape(line))[1:]
    result = bench(*words, "--plan", "--json", home=duelled.home)
    assert [task["done"] for task in json.loads(result.out)] == [True] * TASKS
    assert bench(*words, home=duelled.home).out.splitlines()[:-1] == duelled.said


def test_a_plan_shows_what_is_left(bench: Bench, trained: Path, contents: Contents) -> None:
    before = contents(trained)
    result = bench(*DUEL, "--plan", home=trained)
    assert "14 tasks, 4 done; left: 4 students, 6 evaluations." in result.out
    assert contents(trained) == before


def test_scripts_for_slurm_hold_what_is_left(bench: Bench, trained: Path, tmp_path: Path) -> None:
    result = bench(*DUEL, "--target", "slurm", "--out", tmp_path / "jobs", home=trained)
    assert result.code == 0, result
    text = "".join(path.read_text() for path in (tmp_path / "jobs").glob("students-*.sbatch"))
    runs = re.findall(r"exec (bench run .*) ;;", text)
    assert sorted((line.split()[3], line.split()[-1]) for line in runs) == [
        *(("ciard", seed) for seed in "12"),
        *(("sat", seed) for seed in "12"),
    ]
    assert result.out.splitlines()[-1] == str(tmp_path / "jobs" / "submit.sh")


def test_too_few_seeds_are_warned_of_before_anything_is_trained(
    bench: Bench, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then the verdict is of the networks; here all is there already but the evaluation."""
    result = bench(*STUDENTS, "--suite", "whitebox", "--limit", "16", "--seeds", "1", "--plan", home=home)
    assert result.err.startswith("Warning: with 1 seed of each the verdict will be about these networks alone;")
    done = bench(*STUDENTS, "--suite", "whitebox", "--limit", "16", "--seeds", "1", home=home)
    assert done.code == 0, done
    assert "It is a claim about these networks alone" in done.out
    assert "seeds of each: 1 (0)" in done.out


def test_what_fails_ends_in_no_verdict(bench: Bench, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(session: Session, task: Task) -> None:
        raise Failure("Out of luck.")

    monkeypatch.setattr(run_here, "perform", perform)
    result = bench(*STUDENTS, "--suite", "square", "--limit", "4", "--seeds", "1", home=home)
    assert "2 of 6 tasks failed" in result.mistake
    assert not result.out
    assert not (home / "results" / "duels").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("duel sat --student digits-cnn --dataset digits", "two defenses or more"),
        ("duel sat sat --student digits-cnn --dataset digits", "sat comes twice"),
        ("duel sat cird --student digits-cnn --dataset digits", "Did you mean 'ciard'"),
        ("duel sat ciard --dataset digits", "Missing option '--student'"),
        ("duel sat ciard --student digits-cn --dataset digits", "Did you mean 'digits-cnn'"),
        ("duel sat ciard --student digits-cnn --dataset digit", "Did you mean 'digits'"),
        ("duel sat ciard --student digits-cnn --dataset parquet:/nowhere", "/nowhere is not a folder"),
        ("duel sat ciard --student digits-cnn --dataset tiny-imagenet", "Put the folder tiny-imagenet-200"),
        ("duel sat ciard --student digits-cnn --dataset digits --recipe dmo", "Did you mean 'demo'"),
        ("duel sat ciard --student digits-cnn --dataset digits --suite clean", "has no attack"),
        ("duel sat ciard --student digits-cnn --dataset digits --suite fgsn", "Did you mean 'fgsm'"),
        ("duel sat ciard --student digits-cnn --dataset digits --suite=", "suite"),
        ("duel sat ciard --student digits-cnn --dataset digits --seeds 0", "'--seeds'"),
        ("duel sat ciard --student digits-cnn --dataset digits --teacher robst=x", "write --teacher robust=FILE"),
        ("duel sat ciard --student digits-cnn --dataset digits --threat l2:1 --eps 1/255", "Give one of them"),
        ("duel sat ciard --student digits-cnn --dataset digits --json", "--plan"),
        ("duel sat ciard --student digits-cnn --dataset digits --plan --workers 2", "exclude"),
        ("duel sat ciard --student digits-cnn --dataset digits --target slurm", "--out"),
    ],
)
def test_mistakes(bench: Bench, tmp_path: Path, words: str, says: str) -> None:
    assert says in bench(*words.split(), home=tmp_path).mistake
    assert not list(tmp_path.glob("results/*"))
