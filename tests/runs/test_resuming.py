"""The state to go on from: what is damaged is named and passed over, and nothing in it can run code."""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.runs import resume

from ..helpers.commands import Mount


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": {"w": torch.full((1000,), float(step))}, "none": None, "list": [1, (2.5, "x")]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the states of steps 1 and 2."""
    resume.save(tmp_path, state(1))
    resume.save(tmp_path, state(2))
    return tmp_path


def loaded(folder: Path) -> tuple[int, list[str]]:
    """The step of the state that is gone on from, and what is said."""
    said: list[str] = []
    found = resume.load(folder, said.append)
    assert found is not None
    assert torch.equal(found["weights"]["w"], torch.full((1000,), float(found["step"])))
    return found["step"], said


def sealed(content: bytes, version: int = resume.VERSION) -> bytes:
    return b"ard-bench state %d %s\n" % (version, hashlib.sha256(content).hexdigest().encode()) + content


def test_the_last_state_comes_back_as_it_was(folder: Path) -> None:
    found = resume.load(folder, pytest.fail)
    assert found is not None
    assert torch.equal(found.pop("weights")["w"], torch.full((1000,), 2.0))
    assert found == {"step": 2, "none": None, "list": [1, (2.5, "x")]}


def test_nothing_saved(tmp_path: Path) -> None:
    assert resume.load(tmp_path, pytest.fail) is None
    assert not resume.exists(tmp_path)


def test_any_flipped_bit_and_any_cut_is_noticed(folder: Path) -> None:
    path = folder / resume.LAST
    whole = path.read_bytes()
    draw = random.Random(0)
    places = [*range(0, 90, 7), *(draw.randrange(len(whole)) for _ in range(60))]
    flipped = [whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :] for at in places]
    for content in [*flipped, *(whole[:length] for length in (0, 1, 50, 90, len(whole) // 2, len(whole) - 1))]:
        path.write_bytes(content)
        if content[:16] == whole[:16] and content[16:17] in (b"3", b"5", b"9"):
            continue  # version 1 has become a newer one: see below
        step, said = loaded(folder)
        assert step == 1
        assert str(path) in said[0]
        assert "is damaged" in said[0]
        assert "the state saved before it is taken instead" in said[0]


def test_without_a_whole_state_the_last_is_named(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BenchError, match=r"resume\.pt is damaged \(its checksum is wrong\)") as caught:
        resume.load(folder, pytest.fail)
    assert "--restart" in str(caught.value)


def test_a_newer_version_is_not_taken_for_damage(folder: Path) -> None:
    path = folder / resume.LAST
    _, content = path.read_bytes().split(b"\n", 1)
    path.write_bytes(sealed(content, version=resume.VERSION + 1))
    with pytest.raises(BenchError, match="newer version of ard-bench") as caught:
        resume.load(folder, pytest.fail)
    assert "Update ard-bench" in str(caught.value)


def test_killed_between_the_two_renames(folder: Path) -> None:
    os.replace(folder / resume.LAST, folder / resume.BEFORE)
    assert resume.exists(folder)
    assert loaded(folder) == (2, [])


class Bomb:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("seal", [True, False])
def test_code_in_it_is_not_run(folder: Path, seal: bool) -> None:
    content = io.BytesIO()
    torch.save({"step": 3, "weights": Bomb(folder / "it-ran")}, content)
    torch.load(io.BytesIO(content.getvalue()), weights_only=False)
    os.rmdir(folder / "it-ran")  # so it is a bomb
    for name in (resume.LAST, resume.BEFORE):
        (folder / name).write_bytes(sealed(content.getvalue()) if seal else content.getvalue())
    with pytest.raises(BenchError, match="is damaged"):
        resume.load(folder, lambda text: None)
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize("content", [[1, 2], 5, torch.zeros(1)])
def test_a_sealed_file_of_something_else(folder: Path, content: object) -> None:
    stream = io.BytesIO()
    torch.save(content, stream)
    (folder / resume.LAST).write_bytes(sealed(stream.getvalue()))
    assert loaded(folder)[0] == 1


@pytest.fixture
def small_disk(mounted: Mount) -> Iterator[Path]:
    """A file system of 256 KB."""
    with mounted("-t", "tmpfs", "-o", "size=256k", "tmpfs") as place:
        yield place


def test_a_full_disk_leaves_both_states(small_disk: Path) -> None:
    resume.save(small_disk, state(1))
    resume.save(small_disk, state(2))
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    with pytest.raises(BenchError, match=r"Cannot write .*resume\.pt: No space left on device"):
        resume.save(small_disk, state(3) | {"large": torch.zeros(100_000)})
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
    assert loaded(small_disk) == (2, [])
