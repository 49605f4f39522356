"""How soon the command answers: what it imports before it knows what is asked, in processor time."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


def processor_seconds(*arguments: str) -> float:
    """What a fresh interpreter takes, the best of three: waiting for other work is not in it, cold caches are."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("arguments", [("-c", "import bench"), ("-m", "bench", "--help")], ids=" ".join)
def test_it_answers_within_half_a_second(arguments: tuple[str, ...]) -> None:
    assert processor_seconds(*arguments) < 0.5
