"""Completion: what a shell offers for `bench`, by click's own classes and by a real bash; and how soon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from click.shell_completion import BashComplete

from bench.cli.main import COMMANDS, cli, main
from bench.cli.sources import hyperparameters
from bench.recipes.hyperparameters import defaults, method_class
from bench.records.files import write_record
from bench.registry import names
from bench.system.home import Home

from ..helpers.commands import Bench
from ..helpers.records import RecordMaker

RECORDED = "digits_digits-cnn_trades_demo_s0_4d5e6f70"


def offered(*words: str) -> list[str]:
    """What click's bash completion offers for a command line; the last word is the one that is typed."""
    *before, incomplete = words
    completion = BashComplete(cli, {}, "bench", "_BENCH_COMPLETE")
    return [item.value for item in completion.get_completions(before, incomplete)]


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """A home with three runs, and a record of a run whose folder is elsewhere."""
    for name in ("digits_sat_s0_1a", "digits_sat_s1_2b", "cifar10_ciard_s0_3c"):
        folder = tmp_path / "results" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    (tmp_path / "results" / "runs" / "no_run_at_all").mkdir()
    (tmp_path / "results" / "records").mkdir()
    (tmp_path / "results" / "records" / f"{RECORDED}__whitebox-official-n360.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run --method cia", ["ciard"]),
        ("run --student resnet1", ["resnet18"]),
        ("run --dataset dig", ["digits"]),
        ("run --recipe ", ["brief-cifar10", "demo", "official", "paper", "rehearsal", "short", "short-cifar10", "vit"]),
        ("run --logger tens", ["tensorboard"]),
        ("profile --methods sat,", [name for name in sorted(names("methods")) if name != "sat"]),
        ("profile --methods al", ["all"]),
        ("profile --methods sat,al", []),
        ("teacher train --recipe off", ["official"]),
        ("explain b-", ["b-mtard"]),
        ("sweep tab", ["table7", "table8", "tables"]),
        ("compare x y --attack pgd-s", ["pgd-sat"]),
        ("power x y --attack pgd-s", ["pgd-sat"]),
        ("list met", ["methods"]),
        ("eval --suite pgd-", ["pgd-20", "pgd-curve", "pgd-sat", "pgd-trades"]),
        ("eval --suite white", ["whitebox"]),
        ("run --method ciard --set pus", ["push=", "push_temperature=", "push_weight=", "push_form="]),
        ("run --method ciard --set push=", ["push=true", "push=false"]),
        ("run --method ciard --set push_form=r", ["push_form=released"]),
        ("run --set start=uniform --method trades --set be", ["beta="]),
        ("run --method sat --set training.optimizer.l", ["training.optimizer.lr="]),
        ("run --method ciard --set steps=", []),
        ("run --method no-such --set ", []),
        ("run --set ", []),
        ("comp", ["compare", "completion"]),
        ("run --prec", ["--precision"]),
        ("no-such-command x", []),
        ("run --method no-such", []),
    ],
)
def test_names(line: str, found: list[str]) -> None:
    values = offered(*line.split(" "))
    if line.startswith("profile --methods sat,") and found:
        found = [f"sat,{name}" for name in found]
    assert values == found


def test_patterns_are_no_names() -> None:
    assert "digits-cnn" in offered("run", "--student", "")
    assert not [name for name in offered("run", "--student", "") if "*" in name]


def test_every_command_is_offered() -> None:
    assert offered("") == list(COMMANDS)


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_runs_are_those_of_the_home_that_the_line_names(
    crowd: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ["--home", str(crowd)] if where == "before" else []
    after = ["--home", str(crowd)] if where == "after" else []
    if where == "environment":
        monkeypatch.setenv("BENCH_HOME", str(crowd))
    assert offered(*before, "eval", *after, "--run", "digits") == ["digits_sat_s0_1a", "digits_sat_s1_2b"]
    assert offered(*before, "export", *after, "cif") == ["cifar10_ciard_s0_3c"]
    # To compare, a run needs records and no folder; its method stands for all of its seeds.
    assert offered(*before, "compare", *after, "") == [RECORDED, "trades"]
    assert offered(*before, "power", *after, "") == [RECORDED, "trades"]


@pytest.mark.parametrize("name", names("methods"))
def test_settings_are_those_of_the_class(name: str) -> None:
    """They are read from the source, without an import."""
    method = method_class(name)
    found, hints = hyperparameters(name), get_type_hints(method)
    assert list(found) == list(defaults(method))
    for field, values in found.items():
        named = ("true", "false") if hints[field] is bool else get_args(hints[field])
        assert values == tuple(value for value in named if isinstance(value, str)), field


def test_a_source_that_is_strange_offers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strange.py").write_text("from strange import Method\n", encoding="utf-8")  # for ever
    (tmp_path / "broken.py").write_text("class Method(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("strange", "broken", "nowhere"):
        entry = EntryPoint("sat", f"{module}:Method", "bench.methods")
        monkeypatch.setattr("bench.registry.find", lambda *_, entry=entry: entry)
        assert offered("run", "--method", "sat", "--set", "") == []


def test_what_has_records_is_offered(
    make_record: RecordMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    teacher: dict[str, Any] = {"kind": "teacher", "model": "wrn-34-10"}
    for changes in ({}, {"model": "resnet20"}, {"dataset": "digits"}, teacher):
        write_record(make_record(**changes), home.records)
    (home.records / "damaged.json").write_text("{", encoding="utf-8")
    for command in (("tables",), ("report",), ("figures",)):
        assert offered("--home", str(tmp_path), *command, "--datasets", "") == ["cifar10", "digits"]
    assert offered("--home", str(tmp_path), "tables", "--datasets", "digits,ci") == ["digits,cifar10"]
    assert offered("--home", str(tmp_path), "tables", "--student", "") == ["resnet18", "resnet20"]
    assert offered("--home", str(tmp_path), "tables", "--table", "")[:2] == ["0", "1"]
    assert capfd.readouterr().err == ""  # of the damaged one it is `bench tables` that speaks


def test_a_home_that_is_none_offers_nothing() -> None:
    assert offered("--home", "~nobody-of-this-name", "export", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(bench: Bench, shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    result = bench("completion", shell)
    assert result.code == 0, result
    assert f"_BENCH_COMPLETE={shell}_complete" in result.out
    assert "bench" in result.out


def test_the_other_script_is_called_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["/usr/bin/ard-bench", *words])
        with suppress(SystemExit):
            main()
        return "".join(capsys.readouterr())

    assert printed("status", "--help").startswith("Usage: ard-bench status [OPTIONS]")
    assert "`ard-bench run --help` lists" in printed("run", "--no-such-option")
    assert "_ARD_BENCH_COMPLETE=zsh_complete ard-bench" in printed("completion", "zsh")


def test_another_shell_is_a_mistake(bench: Bench) -> None:
    assert "'bash', 'zsh', 'fish'" in bench("completion", "csh").mistake


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds this `bench`, and says which modules each call imported."""
    script = tmp_path / "bin" / "bench"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom bench.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        f"    open({str(tmp_path / 'modules')!r}, 'w').write('\\n'.join(sys.modules))\n"
    )
    script.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "PYTHON"))}
    return environment | {"PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("bench run --method cia", {"ciard"}),
        ("bench run --method ciard --set push_f", {"push_form="}),
        ("bench --home HOME eval --run digits_sat_s1", {"digits_sat_s1_2b"}),
    ],
)
def test_a_real_bash_completes_without_pytorch(
    on_path: dict[str, str], crowd: Path, tmp_path: Path, line: str, found: set[str]
) -> None:
    words = line.replace("HOME", str(crowd)).split()
    script = (
        'eval "$(bench completion bash)"\n'
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'\n"
        "_bench_completion bench\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    shell = subprocess.run(["bash", "-c", script], env=on_path, capture_output=True, text=True, timeout=60)
    assert shell.stderr == ""
    assert set(shell.stdout.split()) == found
    modules = set((tmp_path / "modules").read_text().split())
    assert "bench.cli.completing" in modules
    assert not {"torch", "numpy", "pandas", "rich.console"} & modules


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_calls_the_function_that_the_test_calls(bench: Bench) -> None:
    assert re.search(r"complete .*-F _bench_completion bench", bench("completion", "bash").out)


@pytest.mark.parametrize("command", ["tables", "compare", "figures", "eval", "sweep"])
def test_which_weights_of_a_run_are_offered(command: str) -> None:
    either = ["best", "last"]
    assert offered(command, "--checkpoint-of", "") == [*either, *["both"] * (command in ("eval", "sweep"))]
