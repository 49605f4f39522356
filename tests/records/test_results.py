"""`bench results`: what is refused, and what is taken in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.records import files, index, merge, problems, read_all
from bench.records.index import folder_facts
from bench.records.outcomes import pack, unpack
from bench.records.record import content_digest
from bench.system.locks import held

from ..helpers.places import DEMO_RECORDS

WHITEBOX = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*whitebox*.json"))
BLACKBOX = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*blackbox*.json"))
AUTOATTACK = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*autoattack*.json"))
Change = Callable[[dict[str, Any]], Any]


def changed(source: Path, folder: Path, change: Change, name: str = "", seal: bool = True) -> Path:
    """A copy of a record with a change, its digest made anew (as by someone who knows how) unless told otherwise."""
    content = json.loads(source.read_text(encoding="utf-8"))
    change(content)
    text = json.dumps(content)
    if seal:
        content["digest"] = content_digest(text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{content['id']}.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def lines(*paths: Path) -> list[str]:
    return [f"{problem.kind}: {problem.text}" for problem in problems(read_all(paths))]


def test_the_demos_records_add_up() -> None:
    assert lines(DEMO_RECORDS) == []


def set_result(name: str, key: str, value: Any) -> Change:
    return lambda content: content["results"][name].__setitem__(key, value)


def future(content: dict[str, Any]) -> None:
    content["created"] = (datetime.now(timezone.utc) + timedelta(days=3)).isoformat()


def best_class(content: dict[str, Any]) -> None:
    content["data"]["class_counts"] = None  # as in records of earlier versions; with them, reading it notices
    content["results"]["fgsm"]["class_accuracy"] = [0.1] * 10


def rising(content: dict[str, Any]) -> None:
    content["results"]["autoattack"]["components"]["fab-t"] = 1.0


def last_component(content: dict[str, Any]) -> None:
    content["results"]["autoattack"]["components"]["square"] = 0.0


def first_component(content: dict[str, Any]) -> None:
    content["results"]["autoattack"]["components"]["clean"] = 1.0


def parameter(attack: str, name: str, value: Any) -> Change:
    return lambda content: content["results"][attack]["parameters"].__setitem__(name, value)


def no_clean(content: dict[str, Any]) -> None:
    del content["results"]["clean"]


def right_when_attacked(content: dict[str, Any]) -> None:
    """Right on all iterates of FGSM, whose first is the image, yet wrong on an image."""
    result = content["results"]["fgsm"]
    n = content["data"]["n"]
    result |= {"worst": pack(unpack(result["final"], n) | True), "worst_accuracy": 1.0, "accuracy": 1.0, "correct": n}
    result |= {
        "final": result["worst"],
        "interval": [n / (n + 1.959963984540054**2), 1.0],
        "class_accuracy": [1.0] * 10,
    }


ERRORS: list[tuple[Path, Change, str]] = [
    (WHITEBOX, lambda c: c.update(id="a b"), "its id holds other letters"),
    (WHITEBOX, future, "created in the future"),
    (WHITEBOX, lambda c: c["environment"].update(packages={}), "its environment names no version of torch"),
    (WHITEBOX, lambda c: c["environment"].update(packages="torch"), "its environment names no version of torch"),
    (WHITEBOX, lambda c: c["environment"].pop("device"), "its environment names no device"),
    (WHITEBOX, no_clean, "no clean accuracy"),
    (WHITEBOX, best_class, "fgsm: the accuracy is outside the range of the classes' accuracies"),
    (WHITEBOX, set_result("fgsm", "correct", 1), "do not add up"),
    (WHITEBOX, right_when_attacked, "fgsm: right on every iterate of an attack that starts at the image"),
    (BLACKBOX, set_result("transfer:cw-inf", "surrogate", "0" * 64), "crafted on different surrogates"),
    (AUTOATTACK, rising, "autoattack: robust accuracy rises from one component to the next"),
    (AUTOATTACK, first_component, "autoattack: the clean accuracy among its components is not the record's"),
    (AUTOATTACK, lambda c: c.update(id="anonymous"), "only the first 50 of 360 samples were attacked, and its id"),
    (WHITEBOX, parameter("pgd-sat", "steps", 7), "pgd-sat: parameters are not the official protocol's: steps = 7"),
    (WHITEBOX, parameter("pgd-sat", "eps", 0.1), "eps = 0.1 instead of 0.125"),
    (BLACKBOX, parameter("transfer:cw-inf", "confidence", 0.0), "transfer:cw-inf: parameters are not the official"),
    (BLACKBOX, lambda c: c.update(protocol="paper"), "parameters are not the paper protocol's: clamp_each_step"),
    (WHITEBOX, lambda c: c["subject"].update(label="\x1b[31mSAT"), "subject.label holds control characters"),
    (WHITEBOX, lambda c: c["subject"].update(setting="a\u202eb"), "subject.setting holds control characters"),
    (WHITEBOX, lambda c: c.update(suite="white\nbox"), "suite holds control characters"),
    (WHITEBOX, lambda c: c["environment"].update({"a\x07": 1}), "a name in environment holds control characters"),
    (WHITEBOX, lambda c: c.update(flags=["\x9b2J"]), "flags holds control characters"),
    (AUTOATTACK, last_component, "autoattack: the last component's robust accuracy is not the attack's"),
    (WHITEBOX, lambda c: c.update(schema_version=99), "written by a newer version (schema 99, this one reads 1)"),
    (WHITEBOX, lambda c: c.update(schema_version="x"), "is not valid: schema_version"),
    (WHITEBOX, lambda c: c.pop("subject"), "is not valid: subject"),
]


@pytest.mark.parametrize(("source", "change", "message"), ERRORS)
def test_what_does_not_add_up_is_an_error_and_is_not_taken_in(
    tmp_path: Path, source: Path, change: Change, message: str
) -> None:
    path = changed(source, tmp_path / "in", change)
    assert any(line.startswith("error: ") and message in line for line in lines(path))
    with pytest.raises(BenchError, match="Nothing was taken in"):
        merge([path], tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_change_by_hand_is_noticed(tmp_path: Path) -> None:
    path = changed(WHITEBOX, tmp_path, lambda content: content["subject"].update(label="Better"), seal=False)
    assert lines(path) == ["error: it was changed after it was written: its digest does not match its content."]


def test_no_json_at_all(tmp_path: Path) -> None:
    for name, content in (("a.json", b"{"), ("b.json", b"\xff\xfe"), ("c.json", b"[]")):
        (tmp_path / name).write_bytes(content)
    assert len(lines(tmp_path)) == 3


def test_a_file_has_its_records_name(tmp_path: Path) -> None:
    assert "the file should be called" in lines(changed(WHITEBOX, tmp_path, lambda content: None, "other.json"))[0]


WARNINGS: list[tuple[Change, str]] = [
    (lambda c: c["environment"].update(git=None), "names no commit"),
    (parameter("fgsm", "momentum", 0.9), "fgsm: parameters that only one version of the attack has: momentum"),
    (lambda c: c["results"]["fgsm"]["parameters"].pop("start"), "only one version of the attack has: start"),
    (lambda c: c["results"].update(mine=c["results"].pop("fgsm")), "mine: no attack of that name is installed here"),
]


@pytest.mark.parametrize(("change", "message"), WARNINGS)
def test_what_is_odd_is_a_warning_and_is_taken_in(tmp_path: Path, change: Change, message: str) -> None:
    path = changed(WHITEBOX, tmp_path / "in", change)
    (line,) = lines(path)
    assert line.startswith("warning: ")
    assert message in line
    merged = merge([path], tmp_path / "home")
    assert (merged.new, len(merged.warnings)) == ((path.name,), 1)


def test_a_release_is_as_good_as_a_commit(tmp_path: Path) -> None:
    released = changed(WHITEBOX, tmp_path / "in", lambda c: c["environment"].update(git=None, release="0.1.0"))
    assert lines(released) == []


def other_surrogate(content: dict[str, Any]) -> None:
    for name in ("transfer:pgd-trades", "transfer:cw-inf"):
        content["results"][name]["surrogate"] = "0" * 64


RIVAL = next(DEMO_RECORDS.glob("digits_digits-cnn_rslad_*blackbox*.json"))
CONTRADICTIONS: list[tuple[Change, str]] = [
    (lambda c: c["data"].update(fingerprint="0" * 64), "has other images than the other records under digits (test"),
    (lambda c: c["data"].update(total=361), "has another number of samples or classes than in the other records"),
    (lambda c: c["subject"].update(checkpoint="0" * 64), "has other weights than the other records of the run digits"),
    (lambda c: c.update(seconds=1.0), "another record has the id digits_digits-cnn_sat"),
    (other_surrogate, "its transferred images were crafted on another model than the others' on digits (demo recipe"),
]


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS)
def test_records_that_contradict_each_other(tmp_path: Path, change: Change, message: str) -> None:
    """Neither is wrong alone."""
    path = changed(BLACKBOX, tmp_path / "in", change)
    if "number of samples" not in message:  # 360 of 361 is to be said in the id, where 360 of 360 may
        assert lines(path) == []
    others = (WHITEBOX, RIVAL, BLACKBOX) if "has the id" in message else (WHITEBOX, RIVAL)
    listed = lines(*others, path)
    assert any(line.startswith("error: ") and message in line for line in listed), listed
    home = _copied(tmp_path / "home", *others)
    before = {file.name: file.read_bytes() for file in home.iterdir()}
    with pytest.raises(BenchError, match="Nothing was taken in") as caught:
        merge([path], home)
    assert message in str(caught.value)
    assert {file.name: file.read_bytes() for file in home.iterdir()} == before


def test_the_records_here_are_believed_against_a_majority(tmp_path: Path) -> None:
    def other_images(content: dict[str, Any]) -> None:
        content["data"]["fingerprint"] = "0" * 64

    sent = [changed(path, tmp_path / "in", other_images) for path in DEMO_RECORDS.glob("*_rslad*n360.json")]
    home = _copied(tmp_path / "home", WHITEBOX)
    with pytest.raises(BenchError, match=r"Nothing was taken in: in/digits_.*_rslad_.* \(and 3 more\)\."):
        merge(sent, home)


def test_of_a_pair_alone_the_first_is_believed(tmp_path: Path) -> None:
    path = changed(BLACKBOX, tmp_path, lambda content: content["data"].update(fingerprint="0" * 64))
    (problem,) = problems(read_all([WHITEBOX, path]))
    assert problem.file == f"{tmp_path.name}/{path.name}"


def _copied(folder: Path, *paths: Path) -> Path:
    folder.mkdir()
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_records_here_that_do_not_add_up_are_not_blamed_on_the_contributor(tmp_path: Path) -> None:
    home = _copied(tmp_path / "home", WHITEBOX)
    changed(BLACKBOX, home, lambda content: content["data"].update(fingerprint="0" * 64))
    with pytest.raises(BenchError, match=r"the records here do not add up: home/.*\nSee `bench results validate`"):
        merge([AUTOATTACK], home)


def test_records_here_that_are_from_a_fast_clock_or_damaged_block_no_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    changed(WHITEBOX, home, future)
    (home / "damaged.json").write_text("{")
    assert merge([BLACKBOX], home).new == (BLACKBOX.name,)
    assert "damaged.json is not valid" in capsys.readouterr().err


def test_a_damaged_record_here_is_not_taken_for_the_one_that_comes(tmp_path: Path) -> None:
    home = _copied(tmp_path / "home", BLACKBOX)
    (home / WHITEBOX.name).write_text("{")
    with pytest.raises(BenchError, match="is here, and is not right"):
        merge([WHITEBOX, AUTOATTACK], home)
    assert sorted(path.name for path in home.iterdir()) == sorted([WHITEBOX.name, BLACKBOX.name])


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED_NS", 0)
    home = tmp_path / "results" / "records"
    new = [path for path in DEMO_RECORDS.glob("*.json") if "_sat_" not in path.name]
    merge(new, home)
    folder_facts(home)  # the first command that reads them keeps an index
    read: list[str] = []

    def reading(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    real = files.read_bytes
    monkeypatch.setattr(index, "read_bytes", reading)
    assert merge([WHITEBOX], home).new == (WHITEBOX.name,)
    assert read == []


@pytest.mark.parametrize("call", range(1, 6))
def test_a_merge_that_is_killed_is_all_or_nothing(tmp_path: Path, call: int) -> None:
    """The process ends, without a chance to clean up, before it has moved a file for the first time, the second, ..."""
    home = _copied(tmp_path / "home", WHITEBOX)
    process = os.fork()
    if process == 0:  # pragma: no cover (the process that dies)
        calls, replace = list[object](), os.replace

        def dying(*paths: Any) -> None:
            calls.append(paths)
            if len(calls) == call:
                os._exit(9)
            replace(*paths)

        os.replace = dying  # type: ignore[assignment]
        merge([BLACKBOX, AUTOATTACK, RIVAL], home)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == (9 if call < 5 else 0)
    there = {path.name for path in (BLACKBOX, AUTOATTACK, RIVAL)} if call > 1 else set()
    assert set(folder_facts(home)) == {WHITEBOX.name} | there
    assert {path.name for path in home.iterdir()} == {WHITEBOX.name} | there


def test_two_merges_at_once_do_not_meet(tmp_path: Path) -> None:
    with held(tmp_path / "home" / ".incoming.lock", "x"), pytest.raises(BenchError, match="are being taken in"):
        merge([WHITEBOX], tmp_path / "home")
    assert merge([WHITEBOX], tmp_path / "home").new == (WHITEBOX.name,)


def test_the_same_record_twice_is_one(tmp_path: Path) -> None:
    copy = _copied(tmp_path / "in", WHITEBOX) / WHITEBOX.name
    assert lines(WHITEBOX, copy) == []
    assert merge([WHITEBOX, copy], tmp_path / "home").new == (WHITEBOX.name,)


def test_a_disk_that_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _copied(tmp_path / "home", WHITEBOX)
    replace, calls = os.replace, list[object]()

    def failing(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(BenchError, match="No space left on device"):
        merge([DEMO_RECORDS], home)
    assert len(calls) > 3  # it takes back what it had placed
    assert [path.name for path in home.iterdir()] == [WHITEBOX.name]


def test_merging_takes_in_what_is_new_byte_by_byte(tmp_path: Path) -> None:
    home = tmp_path / "records"
    assert merge([WHITEBOX], home, dry_run=True).new == (WHITEBOX.name,)
    assert not home.exists()
    assert merge([WHITEBOX], home).new == (WHITEBOX.name,)
    merged = merge([DEMO_RECORDS], home)
    assert merged.known == (WHITEBOX.name,)
    assert len(merged.new) == len(list(DEMO_RECORDS.glob("*.json"))) - 1
    assert all((home / path.name).read_bytes() == path.read_bytes() for path in DEMO_RECORDS.glob("*.json"))


def test_one_bad_record_keeps_all_out(tmp_path: Path) -> None:
    changed(WHITEBOX, tmp_path / "in", future)
    (tmp_path / "in" / BLACKBOX.name).write_bytes(BLACKBOX.read_bytes())
    with pytest.raises(BenchError, match="created in the future"):
        merge([tmp_path / "in"], tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="There is nothing at"):
        read_all([tmp_path / "none"])
    with pytest.raises(BenchError, match="There is no record"):
        read_all([tmp_path])


def test_a_contributors_text_sends_no_codes_to_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[31mred\x1b]0;title\x07\nsecond line"
    path = changed(
        WHITEBOX, tmp_path / "in", lambda content: content["results"].update({evil: content["results"].pop("fgsm")})
    )
    listed = problems(read_all([path]))
    assert any("no attack of that name" in problem.text for problem in listed)
    assert all(letter.isprintable() for problem in listed for letter in problem.line)
    path.rename(path.with_name("\x1b[2J.json"))
    with pytest.raises(BenchError) as caught:
        merge([tmp_path / "in"], tmp_path / "home")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["../escaped", "..\\escaped", "/tmp/escaped", ".hidden", "a b", ""])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path = changed(WHITEBOX, tmp_path / "in", lambda content: content.update(id=name), "x.json")
    with pytest.raises(BenchError, match="Nothing was taken in"):
        merge([path], tmp_path / "home")
    assert [found.name for found in tmp_path.rglob("*.json")] == ["x.json"]


def test_a_file_that_no_record_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert lines(tmp_path) == ["error: it is not valid: Invalid JSON: recursion limit exceeded at line 1 column 202."]
    monkeypatch.setattr(files, "_MOST_BYTES", 1000)
    assert lines(WHITEBOX)[0].startswith("error: it is larger than")


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        assert any("no regular file" in line for line in lines(path))
