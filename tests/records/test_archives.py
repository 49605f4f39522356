"""Archives of records: what is taken from them, and those that mean harm."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records import archives, merge, unpacked

from ..helpers.places import DEMO_RECORDS

WHITEBOX = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*whitebox*.json"))
Make = Callable[[Path, Mapping[str, bytes]], Path]


def zipped(folder: Path, members: Mapping[str, bytes]) -> Path:
    path = folder / "sent.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(folder: Path, members: Mapping[str, bytes], *special: tarfile.TarInfo, suffix: str = "tar.gz") -> Path:
    path = folder / f"sent.{suffix}"
    with tarfile.open(path, "w" if suffix == "tar" else "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in special:
            archive.addfile(member)
    return path


def plain_tar(folder: Path, members: Mapping[str, bytes]) -> Path:
    return tarred(folder, members, suffix="tar")


both = pytest.mark.parametrize("make", [zipped, tarred])


def refused(archive: Path, reason: str) -> None:
    """The archive is refused with this reason, in two lines of printable text."""
    with pytest.raises(BenchError, match=reason) as caught, unpacked([archive]):
        pass
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    assert all(letter.isprintable() or letter == "\n" for letter in message)


@pytest.mark.parametrize("make", [zipped, tarred, plain_tar])
def test_records_in_any_folder_of_an_archive_are_taken_in(tmp_path: Path, make: Make) -> None:
    content = WHITEBOX.read_bytes()
    members = {f"results/{WHITEBOX.name}": content, "README.md": b"hello", "x/._a.json": b"not mine"}
    with unpacked([make(tmp_path, members), DEMO_RECORDS]) as places:
        assert [path.name for path in places[0].iterdir()] == [WHITEBOX.name]
        assert places[1] == DEMO_RECORDS
        assert merge(places[:1], tmp_path / "home").new == (WHITEBOX.name,)
    assert (tmp_path / "home" / WHITEBOX.name).read_bytes() == content
    assert not places[0].exists()


def test_folders_of_an_archive_are_no_members_to_refuse(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("results")
    folder.type = tarfile.DIRTYPE
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("results")
    with unpacked([tarred(tmp_path, {"results/a.json": b"{}"}, folder), tmp_path / "a.zip"]) as places:
        assert [len(list(place.iterdir())) for place in places] == [1, 0]


@both
@pytest.mark.parametrize(
    "name",
    ["../../evil.json", "/tmp/evil.json", "..\\evil.json", "a/../../evil.json", "..", "../README", "\x1b[2Jevil.json"],
)
def test_an_unsafe_name_is_refused(tmp_path: Path, make: Make, name: str) -> None:
    archive = make(tmp_path, {"good.json": b"{}", name: b"{}"})
    refused(archive, "it holds a file with the unsafe name")
    assert [path for path in tmp_path.rglob("*") if path != archive] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("link.json")
    member.type, member.linkname = kind, "/etc/passwd"
    refused(tarred(tmp_path, {}, member), "it holds a link or a device, 'link.json'")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_a_device_in_a_zip_is_refused(tmp_path: Path, kind: int) -> None:
    link = zipfile.ZipInfo("link.json")
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "a.zip", "it holds a link or a device, 'link.json'")


@both
@pytest.mark.parametrize("name", ["a.json", "README.md"])
def test_a_bomb_is_refused_by_the_size_it_declares(
    tmp_path: Path, make: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = make(tmp_path, {name: b" " * 1_000_000})
    assert bomb.stat().st_size < 2000
    monkeypatch.setattr(archives, "_MOST_BYTES", 100_000)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: pytest.fail("something was unpacked"))
    refused(bomb, "it is larger than")


def test_a_zip_that_declares_less_than_it_holds_gives_no_more_than_that(tmp_path: Path) -> None:
    content = zipped(tmp_path, {"a.json": b" " * 1_000_000}).read_bytes()
    size = (1_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    (tmp_path / "sent.zip").write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    refused(tmp_path / "sent.zip", "it is damaged")


def test_a_bomb_in_the_headers_of_a_tar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = tarfile.TarInfo("a.json")
    member.pax_headers = {"comment": " " * 1_000_000}
    with tarfile.open(tmp_path / "a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    monkeypatch.setattr(archives, "_MOST_BYTES", 100_000)
    refused(tmp_path / "a.tgz", "it is larger than")


@both
def test_too_many_files_are_refused(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_FILES", 2)
    refused(make(tmp_path, {f"{i}.txt": b"" for i in range(3)}), "it is larger than 500 MB or 2 files")


def test_an_archive_that_is_large_itself_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive" * 100)
    monkeypatch.setattr(archives, "_MOST_BYTES", 100)
    refused(tmp_path / "a.zip", "it is larger than")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar", "a.tgz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", b"\x1f\x8b\x08 no gzip"])
def test_a_damaged_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "it is damaged")


@both
def test_an_archive_that_was_cut_short(tmp_path: Path, make: Make) -> None:
    archive = make(tmp_path, {WHITEBOX.name: WHITEBOX.read_bytes()})
    archive.write_bytes(archive.read_bytes()[:-600])
    refused(archive, "it is damaged")


@both
def test_two_files_of_one_name(tmp_path: Path, make: Make) -> None:
    refused(make(tmp_path, {"x/a.json": b"", "y/a.json": b""}), r"two files called 'a\.json'")
