"""Networks of a method's own, a run of which is killed: it ends the same, and keeps them beside the student."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bench.recipes import hyperparameters

from ..cli.test_exact_resume import final_state
from ..helpers.commands import Bench
from ..helpers.homes import Find
from ..helpers.killing import ended_the_same
from .test_averaging import EMA, command_of

CASES = {
    "peer": ("peeraid", (*EMA, "training.awp.gamma=0.01", "training.optimizer.clip=1.0", "steps=1")),
    "guide": ("lbgat", ("guide=digits-mobile", "steps=1")),
    "mean-teacher": ("adr", ("steps=1",)),
}  # fmt: skip


def _own(method: str) -> list[str]:
    """Networks of a method's own."""
    return list(hyperparameters.make(method, {}).companions())


@pytest.mark.parametrize("case", CASES)
def test_a_run_keeps_average_and_plain_network_and_ends_the_same_when_killed(
    case: str, bench: Bench, tmp_path: Path, runs: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, settings = CASES[case]
    command = command_of(method, *settings)
    one = ended_the_same(command, case, bench, tmp_path, runs, monkeypatch)
    files = {path.stem: path for path in one.glob("*.safetensors")}
    final = final_state(one)
    assert ("companions" in final) == (case in _own(method))
    assert files.keys() - {case} == {"best", "last", *(("best-plain", "last-plain") if "average" in final else ())}
    for name, path in files.items():
        with safe_open(path, framework="pt") as file:
            assert ("average" in file.metadata()) == (name in ("best", "last") and "average" in final)
    for name in _own(method):
        torch.testing.assert_close(load_file(files[name]), dict(final["companions"][name]), rtol=0, atol=0)
        assert all("running" not in key or value.abs().max() > 0 for key, value in final["companions"][name].items())
    if "average" not in final:
        torch.testing.assert_close(load_file(files["last"]), dict(final["student"]), rtol=0, atol=0)
        return
    torch.testing.assert_close(load_file(files["last-plain"]), dict(final["student"]), rtol=0, atol=0)
    average = {name.removeprefix("network."): value for name, value in final["average"]["network"].items()}
    torch.testing.assert_close(load_file(files["last"]), average, rtol=0, atol=0)
    plain = load_file(files["last-plain"])
    assert any(not torch.equal(value, plain[name]) for name, value in load_file(files["last"]).items())
