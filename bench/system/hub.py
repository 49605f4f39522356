"""Files of Hugging Face's hub, by the package `huggingface_hub` (the extra `hf`): `hf:ORG/REPO[@REVISION]/FILE`.

Where the hub is (HF_ENDPOINT), who asks (HF_TOKEN, `hf auth login`) and where files are kept are that package's to say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bench.errors import BenchError
from bench.system.text import one_line

PREFIX = "hf:"
_NAME = r"[\w.-]+/[\w.-]+"
_REASONS = {
    "GatedRepoError": "its owner has to grant you access first",
    "RepositoryNotFoundError": "there is no such repository, or none that you may see (hf auth login)",
    "RevisionNotFoundError": "the repository has no such revision",
    "EntryNotFoundError": "the repository has no such file",
    "RemoteEntryNotFoundError": "the repository has no such file",
    "LocalEntryNotFoundError": "the hub cannot be reached, and the file is not among those that were downloaded",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE forbids to ask the hub",
}


class HubFile(NamedTuple):
    """A file of a repository; revision: a branch, a tag or a commit, None for the newest of its main branch."""

    repo: str
    revision: str | None
    path: str

    @classmethod
    def parse(cls, text: str) -> HubFile:
        """`hf:ORG/REPO[@REVISION]/FILE`; FILE may lie in folders.

        Raises:
            BenchError: it has not this form.
        """
        found = re.fullmatch(rf"{PREFIX}({_NAME})(?:@([\w.-]+))?/(.+)", text)
        if found is None or not _inside(found[3]):
            raise BenchError(f"{text!r} is no file of the hub.\nWrite hf:ORG/REPO/FILE or hf:ORG/REPO@REVISION/FILE.")
        return cls(found[1], found[2], found[3])

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}/{self.path}"

    def fetch(self, ask: bool = True) -> tuple[Path, HubFile]:
        """Where the file is on this disk, downloaded if it has to be; and the same with the commit as its revision.

        Args:
            ask: whether the hub may be asked; else the newest that was downloaded counts.

        Raises:
            BenchError: the package is missing, or there is no such file, or the hub does not answer.
        """
        hub = _package()
        try:
            found = hub.hf_hub_download(
                self.repo, self.path, revision=self.revision, local_files_only=not ask, endpoint=_endpoint()
            )
        except Exception as error:  # whatever the package or the network raises
            raise _refused(str(self), error, "read") from error
        # The package keeps a file as .../snapshots/COMMIT/FILE.
        commit = Path(found).parts[-1 - len(PurePosixPath(self.path).parts)]
        return Path(found), self._replace(revision=commit)


class HubFolder(NamedTuple):
    """A folder of a repository to write to; path "" for its root."""

    repo: str
    path: str

    @classmethod
    def parse(cls, text: str) -> HubFolder:
        """`hf:ORG/REPO[/FOLDER]`.

        Raises:
            BenchError: it has not this form, or the package is missing.
        """
        found = re.fullmatch(rf"{PREFIX}({_NAME})(?:/(.*))?", text)
        path = (found[2] or "").strip("/") if found else ""
        if found is None or (path and not _inside(path)):
            raise BenchError(f"{text!r} is no place on the hub.\nWrite hf:ORG/REPO or hf:ORG/REPO/FOLDER.")
        _package()
        return cls(found[1], path)

    def __str__(self) -> str:
        return "/".join(filter(None, (f"{PREFIX}{self.repo}", self.path)))

    def check(self) -> None:
        """Make the repository, a private one, where it does not exist; a `BenchError` where that is not allowed."""
        try:
            _package().HfApi(endpoint=_endpoint()).create_repo(self.repo, private=True, exist_ok=True)
        except Exception as error:
            raise _refused(str(self), error, "written") from error

    def upload(self, folder: Path, names: list[str], message: str) -> str:
        """Upload files of a folder in one commit; the address of that commit.

        Raises:
            BenchError: the hub refuses, or does not answer.
        """
        hub = _package()
        operations = [
            hub.CommitOperationAdd(f"{self.path}/{name}" if self.path else name, folder / name) for name in names
        ]
        try:
            done = hub.HfApi(endpoint=_endpoint()).create_commit(self.repo, operations, commit_message=message)
        except Exception as error:
            raise _refused(str(self), error, "written") from error
        return str(done.commit_url)


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise BenchError(
            f"What begins with {PREFIX} needs the package huggingface_hub.\nInstall it: pip install 'ard-bench[hf]'."
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _inside(path: str) -> bool:
    """Whether a path stays within the repository."""
    return all(part not in ("", ".", "..") for part in path.split("/")) and one_line(path) == path


def _refused(name: str, error: Exception, done: str) -> BenchError:
    """The error for what the package raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = _REASONS.get(type(error).__name__)
    if reason is None and status in (401, 403):
        reason = "you are not logged in (hf auth login), or your token may not do this"
    reason = reason or one_line(lines[0] if lines else type(error).__name__)[:200].rstrip(".")
    return BenchError(f"{name} cannot be {done}: {reason}.\nCheck its name; HF_ENDPOINT says which hub is asked.")
