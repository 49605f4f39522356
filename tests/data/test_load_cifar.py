"""cifar10 and cifar100: torchvision's layout with checksums of small files; nothing here needs a network."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from bench.data import cifar, load_dataset
from bench.errors import BenchError

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def pickled(file: Path, content: dict[str, Any]) -> list[str]:
    """Write a batch as CIFAR's authors did; its entry in torchvision's list of checksums."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=2))
    return [file.name, md5(file)]


@pytest.fixture
def pixels() -> np.ndarray:
    """Uint8, shape (4, 3, 32, 32)."""
    return np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (CIFAR10, CIFAR100):
        monkeypatch.setattr(source, "url", "http://127.0.0.1:9/nothing.tar.gz")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def published(tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small CIFAR-10, unpacked and as an archive; torchvision takes it for the real one."""
    folder = tmp_path / "published" / FOLDER
    rows = pixels.reshape(4, 3072)
    train = [
        pickled(folder / "data_batch_1", {"data": rows[:2], "labels": [3, 1]}),
        pickled(folder / "data_batch_2", {"data": rows[2:3], "labels": [0]}),
    ]
    test = [pickled(folder / "test_batch", {"data": rows[3:], "labels": [2]})]
    meta = pickled(folder / "batches.meta", {"label_names": ["airplane", "automobile", "bird", "cat"]})
    archive = folder.parent / ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER)
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    return folder.parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "home" / "data"
    root.mkdir(parents=True)
    return root


def leftovers(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_the_unpacked_folder(published: Path, root: Path, pixels: np.ndarray) -> None:
    shutil.copytree(published / FOLDER, root / FOLDER)
    data = load_dataset("cifar10", root)
    assert (data.name, data.classes) == ("cifar10", ("airplane", "automobile", "bird", "cat"))
    assert np.array_equal(data.train.images.numpy(), pixels[:3])
    assert np.array_equal(data.test.images.numpy(), pixels[3:])
    assert data.train.images.is_contiguous()
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([3, 1, 0], [2])
    assert (data.padding, data.flip, data.eps) == (4, True, 8 / 255)


def test_cifar100_has_its_fine_labels(root: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = root / "cifar-100-python", pixels.reshape(4, 3072)
    train = pickled(folder / "train", {"data": rows[:3], "fine_labels": [1, 1, 0], "coarse_labels": [5, 5, 5]})
    test = pickled(folder / "test", {"data": rows[3:], "fine_labels": [0], "coarse_labels": [5]})
    meta = pickled(folder / "meta", {"fine_label_names": ["apple", "bear"], "coarse_label_names": ["x"]})
    monkeypatch.setattr(CIFAR100, "train_list", [train])
    monkeypatch.setattr(CIFAR100, "test_list", [test])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta[1]})
    data = load_dataset("cifar100", root)
    assert (data.name, data.classes, data.train.labels.tolist()) == ("cifar100", ("apple", "bear"), [1, 1, 0])


def test_an_archive_is_unpacked(published: Path, root: Path) -> None:
    shutil.copy(published / ARCHIVE, root)
    assert len(load_dataset("cifar10", root).train) == 3
    assert leftovers(root) == {ARCHIVE, FOLDER}


def test_a_truncated_archive_is_named_and_not_unpacked(published: Path, root: Path) -> None:
    (root / ARCHIVE).write_bytes((published / ARCHIVE).read_bytes()[:-100])
    with pytest.raises(BenchError, match=rf"{root / ARCHIVE} is damaged or truncated.*\nDelete it"):
        load_dataset("cifar10", root)
    assert leftovers(root) == {ARCHIVE}


def test_no_room_to_unpack(published: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(archive: str, to: str) -> None:
        raise OSError(28, "No space left on device")

    shutil.copy(published / ARCHIVE, root)
    monkeypatch.setattr(cifar, "extract_archive", full)
    with pytest.raises(BenchError, match=r"Cannot unpack .*No space left"):
        load_dataset("cifar10", root)
    assert leftovers(root) == {ARCHIVE}


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
@pytest.mark.parametrize(("size", "state"), [(-1, "is damaged or truncated"), (None, "is missing")])
def test_a_damaged_or_missing_file_is_named(
    published: Path, root: Path, name: str, size: int | None, state: str
) -> None:
    shutil.copytree(published / FOLDER, root / FOLDER)
    file = root / FOLDER / name
    if size is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BenchError, match=rf"{file} {state}\.\nDelete the folder"):
        load_dataset("cifar10", root)


def test_files_that_may_not_be_read(published: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(CIFAR10):
        def __init__(self, *args: object, **kwargs: object) -> None:
            raise PermissionError(13, "Permission denied", "data_batch_1")

    shutil.copytree(published / FOLDER, root / FOLDER)
    monkeypatch.setitem(cifar._SOURCES, "cifar10", Forbidden)
    with pytest.raises(BenchError, match="Cannot read data_batch_1: Permission denied"):
        load_dataset("cifar10", root)


def test_a_download_is_verified_unpacked_and_silent(
    published: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CIFAR10, "url", (published / ARCHIVE).as_uri())
    assert len(load_dataset("cifar10", root / "new").train) == 3
    assert leftovers(root / "new") == {ARCHIVE, FOLDER}
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_download_of_something_else_leaves_nothing(
    published: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (published / "page.html").write_text("Please log in to this network")
    monkeypatch.setattr(CIFAR10, "url", (published / "page.html").as_uri())
    with pytest.raises(BenchError, match=rf"not the published file.*\nPut {ARCHIVE} or"):
        load_dataset("cifar10", root)
    assert leftovers(root) == set()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_offline_it_says_what_to_put_where(root: Path, name: str) -> None:
    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    started = time.monotonic()
    with pytest.raises(BenchError) as caught:
        load_dataset(name, root)
    assert time.monotonic() - started < 10
    for part in ("refused", source.filename, source.base_folder, str(root), "with --home DIR: into DIR/data"):
        assert part in str(caught.value)
    assert leftovers(root) == set()


def test_an_address_that_does_not_exist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", "https://nowhere.invalid/cifar.tar.gz")
    started = time.monotonic()
    with pytest.raises(BenchError, match=r"fetching https://nowhere\.invalid/cifar\.tar\.gz failed"):
        load_dataset("cifar10", root)
    assert time.monotonic() - started < 10


def test_a_name_server_that_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **kwargs: object) -> None:
        time.sleep(5)

    assert cifar.ANSWER_SECONDS < 10
    monkeypatch.setattr(cifar, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(cifar, "urlopen", hang)
    started = time.monotonic()
    with pytest.raises(BenchError, match=r"no answer within 0\.2 s"):
        load_dataset("cifar10", root)
    assert time.monotonic() - started < 4


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that accepts connections and says nothing by itself."""
    monkeypatch.setattr(cifar, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.getsockname()[1]}/cifar.tar.gz")
        yield server


def test_a_server_that_does_not_answer(root: Path, silent_server: socket.socket) -> None:
    with pytest.raises(BenchError, match=r"no answer within|timed out"):
        load_dataset("cifar10", root)
    assert leftovers(root) == set()


@pytest.mark.parametrize("close", [True, False])
def test_a_connection_that_breaks_off(root: Path, silent_server: socket.socket, close: bool) -> None:
    begun = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000

    def answer() -> None:
        connection, _ = silent_server.accept()
        connection.recv(1000)
        connection.sendall(begun)
        if close:
            connection.close()
        else:
            kept.append(connection)

    kept: list[socket.socket] = []
    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(BenchError, match=r"failed: .*(broke off|not the published file).*\nPut "):
        load_dataset("cifar10", root)
    assert leftovers(root) == set()
    for connection in kept:
        connection.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(BenchError, match=r"Cannot write .*\n.*--home DIR"):
        load_dataset("cifar10", tmp_path / "data")
