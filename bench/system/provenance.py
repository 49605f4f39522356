"""Where a result came from: versions, git commit, device."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError
from bench.version import __version__

_PACKAGES = ("torch", "torchvision", "torchattacks", "pyautoattack", "numpy", "timm")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions of harness, Python and libraries, the harness's git commit or its release, and the device."""
    return {
        **harness(),
        "python": platform.python_version(),
        "packages": packages(),
        "device": device.type,
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
    }


def packages() -> dict[str, str | None]:
    """The libraries' versions; None for one that is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def harness() -> dict[str, str | None]:
    """The harness's version, and what it is of: a commit, or the release that is installed."""
    return {"bench": __version__, "git": _git_commit(), "release": _release()}


def hardware(device: torch.device) -> str:
    """The processor or GPU by name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _root() -> Path:
    """The folder that holds the package `bench`: a checkout's, or `site-packages`."""
    return Path(__file__).resolve().parents[2]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def told_commit() -> str | None:
    """What BENCH_COMMIT says of a copy without `.git`, in a container image say; a BenchError where it is no commit."""
    said = os.environ.get("BENCH_COMMIT")
    if said is not None and not re.fullmatch("[0-9a-f]{40}", said):
        raise BenchError(f"BENCH_COMMIT={said} is no commit.\nGive all 40 digits: `git rev-parse HEAD`.")
    return said


def _git_commit() -> str | None:
    """The commit of the checkout the harness runs from, with `+changes`; None for an installed package."""
    folder = _root()
    if not (folder / ".git").exists():
        return told_commit()

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        return found.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _release() -> str | None:
    """The version, where the harness runs from an installed package of it; None for a checkout, whose commit tells."""
    try:
        installed = distribution("ard-bench")
    except PackageNotFoundError:
        return None
    here = Path(__file__).resolve()
    checkout = (_root() / "setup.cfg").exists()
    same = Path(str(installed.locate_file("bench/system/provenance.py"))).resolve() == here
    return __version__ if same and not checkout and installed.version == __version__ else None
