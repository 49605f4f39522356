"""Defenses under names of their own: what they compute is another's, and their name is theirs everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.sources import hyperparameters
from bench.defense import Defense, named
from bench.recipes import recipe
from bench.recipes.hyperparameters import defaults, method_class
from bench.tables import build_table, load_specs
from methods.akd import AKD
from methods.sat import SAT
from methods.trades import TRADES

from ..helpers.commands import DIGITS, Bench
from ..helpers.records import RecordMaker

OTHERS: dict[str, type[Defense]] = {"kd-swa": AKD, "sat-awp": SAT, "sat-wa": SAT, "trades-awp": TRADES}


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_computes_nothing_itself(name: str) -> None:
    found, other = method_class(name), OTHERS[name]
    assert issubclass(found, other)
    assert not [key for key, value in vars(found).items() if callable(value)]
    assert defaults(found) == defaults(other)
    assert list(hyperparameters(name)) == list(defaults(other))
    assert found.roles == other.roles
    assert found.label != other.label


def test_the_other_one_stays_as_it_is() -> None:
    name = named(SAT, "X", source="me", differs="with nothing", training={"awp": {"gamma": 1}}, horizon=3)
    assert (name.label, name.horizon, name.variants) == ("X", 3, SAT.variants)
    assert (SAT.label, SAT.horizon, SAT.training) == ("SAT", 300, {})
    assert (name.__doc__ or "").startswith("SAT with nothing.\n\nCE(s(x*), y)")


def test_it_is_trained_and_kept_under_its_name(bench: Bench, tmp_path: Path) -> None:
    options = ("--student", "digits-cnn", *DIGITS, "--set", "steps=1", "--set", "training.awp.gamma=0.02")
    done = bench("run", "--method", "trades-awp", *options, home=tmp_path)
    assert done.code == 0, done
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["method"], config["label"]) == ("trades-awp", "TRADES-AWP")
    assert config["awp"] == {"gamma": 0.02, "from_epoch": 2}  # epoch 10 of 200, in a recipe of 12
    assert "trades-awp" in folder.name
    assert "TRADES-AWP (steps=1" in bench("status", home=tmp_path).out


def test_of_one_epoch_there_is_no_average(bench: Bench, tmp_path: Path) -> None:
    options = ("--student", "digits-cnn", *DIGITS)
    assert "of one epoch is none" in bench("run", "--method", "sat-wa", *options, home=tmp_path).mistake
    assert recipe.load("rehearsal").resolve("sat-wa", "cifar10", "resnet18").training.average is None


def test_what_belongs_to_a_name_is_explained(bench: Bench) -> None:
    told = bench("explain", "trades-awp").out
    assert "TRADES with adversarial weight perturbation" in told
    found = json.loads(bench("explain", "kd-swa", "--json").out)
    official = next(each for each in found["schedules"] if each["recipe"] == "official")
    assert official["options"] == {"average": {"kind": "swa", "from_epoch": 56}}
    assert "training.average.from_epoch=56" in " ".join(bench("explain", "kd-swa").out.split())


def test_its_row_is_its_own(make_record: RecordMaker) -> None:
    records = [
        make_record({"clean": 80 + i, "fgsm": 60}, method=name) for i, name in enumerate(("trades", "trades-awp"))
    ]
    (row,) = (row for row in build_table(load_specs()[8], records).sections[0].rows if row.cells[0].value is not None)
    assert (row.label, row.cells[0].text) == ("TRADES-AWP", "81.00")
    rows = {row.label: row.cells[0].text for row in build_table(load_specs()[3], records).sections[0].rows}
    assert rows["TRADES"] == "80.00"
