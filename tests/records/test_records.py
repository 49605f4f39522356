"""A record says what it was written with, or it is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import BenchError
from bench.records.files import read_record, read_records, write_record
from bench.records.outcomes import pack, pack_radii, unpack, unpack_radii
from bench.records.record import Record, TrainingCost, content_digest
from bench.stats import wilson_interval

N = 10
RIGHT = np.arange(N) < 7


def _result(**changes: Any) -> dict[str, Any]:
    return {
        "parameters": {"eps": 8 / 255, "steps": 20},
        "surrogate": None,
        "final": pack(RIGHT),
        "worst": pack(np.arange(N) < 6),
        "correct": 7,
        "accuracy": 0.7,
        "interval": wilson_interval(7, N),
        "worst_accuracy": 0.6,
        "class_accuracy": [0.9, 0.5, None],
        "batch_size": 5,
        "seconds": 1.5,
        **changes,
    }


def _record(result: dict[str, Any] | None = None, **changes: Any) -> Record:
    content: dict[str, Any] = {
        "id": "digits_sat_seed0",
        "subject": {
            "kind": "student",
            "run": "digits_sat",
            "method": "sat",
            "label": "SAT",
            "overrides": {},
            "role": None,
            "model": "digits-cnn",
            "seed": 0,
            "recipe": "demo",
            "setting": "demo, 12 epochs",
            "selection": "heldout",
            "checkpoint": "ab" * 32,
        },
        "suite": "whitebox",
        "protocol": "official",
        "data": {
            "name": "digits",
            "split": "test",
            "n": N,
            "total": 360,
            "classes": 3,
            "eps": 0.1,
            "fingerprint": "cd" * 32,
        },
        "seed": 0,
        "results": {"pgd-sat": result or _result()},
        "environment": {"bench": "0.1.0"},
        "created": "2026-01-01T12:00:00+00:00",
        "seconds": 2.0,
        **changes,
    }
    return Record.model_validate(content)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = _record()
    path = write_record(record, tmp_path)
    again = read_record(path)
    assert path.name == "digits_sat_seed0.json"
    assert again.model_dump(exclude={"digest"}) == record.model_dump(exclude={"digest"})
    assert unpack(again.results["pgd-sat"].final, N).tolist() == RIGHT.tolist()


def test_records_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_record(_record(id=name), tmp_path)
    assert [record.id for record in read_records(tmp_path)] == ["a", "b", "c"]


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    write_record(_record(), tmp_path)
    with pytest.raises(BenchError, match="never changed"):
        write_record(_record(), tmp_path)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.floats()
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
)
def test_a_record_with_any_hyperparameter_can_be_read_back(value: Any) -> None:
    record = _record(subject=_record().subject.model_dump() | {"overrides": {"x": value}})
    with TemporaryDirectory() as folder:
        again = read_record(write_record(record, Path(folder)))
    assert again.model_dump_json(exclude={"digest"}) == record.model_dump_json(exclude={"digest"})


def test_an_infinite_hyperparameter_is_not_lost(tmp_path: Path) -> None:
    subject = _record().subject.model_dump() | {"overrides": {"lambda": float("inf")}}
    again = read_record(write_record(_record(subject=subject), tmp_path))
    assert again.subject.overrides == {"lambda": "Infinity"}


def _set(*keys: str) -> Callable[[dict[str, Any], Any], None]:
    def change(content: dict[str, Any], value: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("subject", "label"), "CIARD", "digest"),
        (("subject", "seed"), 1, "digest"),
        (("data", "fingerprint"), "00", "digest"),
        (("flags",), ["none at all"], "digest"),
        (("results", "pgd-sat", "seconds"), 0.1, "digest"),
        (("results", "pgd-sat", "accuracy"), 0.8, "pgd-sat"),
        (("results", "pgd-sat", "correct"), 8, "pgd-sat"),
        (("results", "pgd-sat", "final"), pack(np.ones(N, bool)), "pgd-sat"),
        (("results", "pgd-sat", "final"), "?", "base64|padding|Only"),
        (("digest",), "", "digest"),
        (("digest",), "0" * 64, "digest"),
        (("schema_version",), 2, "newer version"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_a_record_edited_by_hand_is_refused(tmp_path: Path, place: tuple[str, ...], value: Any, named: str) -> None:
    path = write_record(_record(), tmp_path)
    content = json.loads(path.read_text())
    _set(*place)(content, value)
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match=named) as caught:
        read_record(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_the_order_of_keys_and_the_layout_do_not_matter(tmp_path: Path) -> None:
    path = write_record(_record(), tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_record(path).id == content["id"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": "\\ud800"}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(BenchError, match=r"broken\.json"):
        read_record(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"interval": (0.0, 1.0)},
        {"class_accuracy": [0.9, 0.5]},
        {"worst_accuracy": None},
        {"worst": None},
        {"worst_accuracy": 0.5},
        {"worst": pack(np.arange(N) >= 4)},  # as many as said, but right where the last iterate is wrong
        {"accuracy": float("nan")},
        {"seconds": float("inf")},
    ],
)
def test_numbers_that_contradict_the_outcomes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _record(_result(**changes))


def test_a_transferred_attack_needs_its_surrogate() -> None:
    with pytest.raises(ValidationError, match="surrogate"):
        _record(results={"transfer:pgd-trades": _result()})
    _record(results={"transfer:pgd-trades": _result(surrogate="ee" * 32)})


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", ".hidden", ""])
def test_an_id_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="id"):
        _record(id=name)


@pytest.mark.parametrize("created", ["yesterday", "2026-01-01T12:00:00", "2026-01-01T12:00:00+02:00"])
def test_the_time_is_in_utc(created: str) -> None:
    with pytest.raises(ValidationError, match="created"):
        _record(created=created)


def test_more_samples_than_the_split_has_are_refused() -> None:
    data = _record().data.model_dump() | {"total": N - 1}
    with pytest.raises(ValidationError, match="samples of a split"):
        _record(data=data)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_outcomes_survive_packing(right: list[bool]) -> None:
    assert unpack(pack(np.array(right)), len(right)).tolist() == right


def test_outcomes_of_another_number_of_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        unpack(pack(np.ones(8, bool)), 9)


def test_a_record_of_an_earlier_version_is_still_valid(tmp_path: Path) -> None:
    """As it was written before the fields on cost and classes were there, with the digest of that content."""
    content = json.loads(_record().model_dump_json(exclude={"digest"}))
    del content["subject"]["training"], content["data"]["class_counts"]
    content["digest"] = content_digest(json.dumps(content))
    (tmp_path / "old.json").write_text(json.dumps(content))
    record = read_record(tmp_path / "old.json")
    assert (record.subject.training, record.data.class_counts) == (None, None)


def test_cost_and_class_counts_come_back(tmp_path: Path) -> None:
    subject = _record().subject.model_dump() | {"training": {"seconds": 12.5, "device": "GPU A"}}
    data = _record().data.model_dump() | {"class_counts": [8, 2, 0]}
    result = _result(class_accuracy=[0.75, 0.5, None])
    record = read_record(write_record(_record(result, subject=subject, data=data), tmp_path))
    assert record.subject.training == TrainingCost(seconds=12.5, device="GPU A")
    assert record.data.class_counts == [8, 2, 0]


@pytest.mark.parametrize(
    ("counts", "accuracies", "named"),
    [
        ([8, 2], [0.75, 0.5, None], "class_counts"),
        ([8, 1, 0], [0.75, 0.5, None], "class_counts"),
        ([9, 2, -1], [0.75, 0.5, None], "class_counts"),
        ([8, 2, 0], [0.75, 0.5, 1.0], "do not add up"),  # an accuracy of no sample
        ([7, 2, 1], [0.75, 0.5, None], "do not add up"),  # none, of a class with one
        ([8, 2, 0], [0.7, 0.5, None], "do not add up"),  # 5.6 samples
        ([8, 2, 0], [0.5, 0.5, None], "do not add up"),  # five right, not seven
    ],
)
def test_classes_that_contradict_the_outcomes_are_refused(
    counts: list[int], accuracies: list[float | None], named: str
) -> None:
    data = _record().data.model_dump() | {"class_counts": counts}
    with pytest.raises(ValidationError, match=named):
        _record(_result(class_accuracy=accuracies), data=data)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(BenchError, match=r"The record .*a\.json is no regular file"):
        read_record(tmp_path / "a.json")


def _of_radii(radii: np.ndarray, **changes: Any) -> dict[str, Any]:
    return _result(worst=None, worst_accuracy=None, radii=pack_radii(radii), **changes)


FAR = np.where(RIGHT, 9 / 255, 0.0)
"""Of each sample a radius that says what the outcomes say."""


def test_radii_come_back(tmp_path: Path) -> None:
    radii = np.where(np.arange(N) < 2, np.inf, FAR)
    write_record(_record(_of_radii(radii)), tmp_path)
    (record,) = read_records(tmp_path)
    (result,) = record.results.values()
    assert unpack_radii(result.radii or "", N).tolist() == radii.astype(np.float32).astype(float).tolist()


@pytest.mark.parametrize(
    ("radii", "changes", "problem"),
    [
        (np.where(np.arange(N) < 6, FAR, 0.0), {}, "radii, eps and the per-sample outcomes do not add up"),
        (np.where(RIGHT, 8 / 255 * 0.999, 0.0), {}, "radii, eps and the per-sample outcomes do not add up"),
        (FAR[::-1], {}, "radii, eps and the per-sample outcomes do not add up"),
        (np.where(np.arange(N) == 8, np.nan, FAR), {}, "radii are no distances"),
        (np.where(np.arange(N) == 8, -1.0, FAR), {}, "radii are no distances"),
        (FAR, {"parameters": {"steps": 20}}, "no eps to hold them against"),
        (FAR, {"parameters": {"eps": "8/255"}}, "no eps to hold them against"),
        (FAR[:-1], {}, "36 bytes of radii cannot hold 10 samples"),
        (np.append(FAR, 0.0), {}, "44 bytes of radii cannot hold 10 samples"),
    ],
)
def test_radii_that_contradict_the_outcomes_are_refused(
    radii: np.ndarray, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        _record(_of_radii(radii, **changes))
