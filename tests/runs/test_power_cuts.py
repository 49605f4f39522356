"""What a power cut leaves: disks copied from under a process that stands still at every call that reaches them.

A copy of an image holds what the file system has given to the disk so far, and nothing of what the system still has in
memory: what the next start of a machine would find.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.models.checkpoints import REQUIRED_METADATA, read_state_dict
from bench.runs import resume
from bench.runs.folder import RunFolder, Summary
from bench.system.files import flush_to_disk

from ..helpers.commands import Mount

EPOCHS = 3
SUMMARY = Summary(checkpoint="c", selected_epoch=1, selected_on="last", accuracy=None, seconds=1.0, finished="now")


def line(epoch: int) -> dict[str, Any]:
    return {"kind": "epoch", "epoch": epoch, "step": 10, "terms": {"loss": 0.1 * epoch}, "accuracy": None}


def train(folder: RunFolder) -> None:
    """What a run writes, in its order; the process stops itself before every call that reaches the disk."""
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, standing_still_before(getattr(os, name)))
    student = torch.nn.Linear(2, 2)
    for epoch in range(1, EPOCHS + 1):
        folder.append_metrics(line(epoch))
        folder.save_weights("best", student, dict.fromkeys(REQUIRED_METADATA, "1"))
        if epoch < EPOCHS:
            folder.save_resume({"epoch": epoch + 1, "step": 0})
    folder.save_weights("last", student, dict.fromkeys(REQUIRED_METADATA, "1"))
    folder.finish(SUMMARY)
    flush_to_disk(folder.path / "summary.json")  # as the system does within seconds
    os.kill(os.getpid(), signal.SIGSTOP)


def standing_still_before(call: Callable[..., Any]) -> Callable[..., Any]:
    def stopped(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        return call(*arguments, **options)

    return stopped


def copies(image: Path, folder: RunFolder) -> Iterator[Path]:
    """A copy of the image at each stop of a process that trains into `folder`."""
    child = os.fork()
    if child == 0:
        try:
            train(folder)
            os._exit(0)
        finally:
            os._exit(1)
    try:
        while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
            yield Path(shutil.copy(image, image.with_name("copy.img")))
            os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(status) == 0
        child = 0
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_no_state_outlives_the_lines_before_it(mounted: Mount, tmp_path: Path) -> None:
    mkfs = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/sbin:/usr/sbin")
    if mkfs is None:
        pytest.skip("there is no mkfs.ext4 here")
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(4 << 20)
    subprocess.run([mkfs, "-q", "-F", "-b", "1024", image], check=True, capture_output=True)
    found: list[int | str] = []
    with mounted("-o", "loop,data=ordered", image) as disk:
        folder = RunFolder(disk / "run")
        folder.path.mkdir()
        subprocess.run(["sync", "-f", disk], check=True)
        (tmp_path / "after").mkdir()
        for copy in copies(image, folder):
            found.append(left_on(copy, tmp_path / "after"))
    # The states of all epochs and the end were met, else nothing was tried.
    assert set(found) == {"nothing", *range(2, EPOCHS + 1), "summary"}
    assert len(found) > 5 * EPOCHS


def left_on(copy: Path, place: Path) -> int | str:
    """What there is to go on from after a power cut, once all before it was found whole."""
    subprocess.run(["mount", "-o", "loop", copy, place], check=True)
    try:
        folder = RunFolder(place / "run")
        if folder.finished:
            assert folder.metrics() == [line(epoch) for epoch in range(1, EPOCHS + 1)]
            for weights in (folder.best, folder.last):
                read_state_dict(weights)
            assert folder.summary() == SUMMARY
            return "summary"
        state = resume.load(folder.path, pytest.fail)
        if state is None:
            return "nothing"
        assert folder.forget_metrics_after(state["epoch"], state["step"]) == []
        assert folder.metrics() == [line(epoch) for epoch in range(1, state["epoch"])]
        read_state_dict(folder.best)
        return int(state["epoch"])
    finally:
        subprocess.run(["umount", place], check=True)
