"""`bench.evaluate` on models from anywhere."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bench
from attacks.square import Square
from bench.data import load_dataset
from bench.data.dataset import Dataset
from bench.errors import BenchError
from bench.models import build_model
from bench.records.files import read_record, write_record
from bench.records.record import Record

from ..helpers.networks import DigitsModel


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", Path("data"))


@pytest.fixture
def sat(digits_model: DigitsModel) -> nn.Module:
    return digits_model("sat")


@pytest.fixture
def natural(digits_model: DigitsModel) -> nn.Module:
    return digits_model("natural")


def outcomes(record: Record) -> dict[str, Any]:
    return {name: result.model_dump(exclude={"seconds"}) for name, result in record.results.items()} | {
        "flags": record.flags
    }


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_same_seed_gives_the_same_record_and_float64_stays_float64(
    sat: nn.Module, digits: Dataset, precision: torch.dtype
) -> None:
    seen: list[torch.dtype] = []
    model = nn.Sequential(sat).to(precision)
    hook = model.register_forward_hook(
        lambda network, args, output: seen.append(args[0].dtype) if type(args[0]) is Tensor else None
    )
    first, second = (bench.evaluate(model, digits, "whitebox", limit=16) for _ in range(2))
    assert set(seen) == {precision}
    assert outcomes(first) == outcomes(second)
    other = bench.evaluate(model, digits, "fgsm", limit=4, seed=1)
    assert other.seed == 1
    hook.remove()
    sat.float()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_comes_back_as_it_was_given(digits: Dataset, fails: bool) -> None:
    network = build_model("digits-cnn", 10, 1).train()
    network[0].eval() if isinstance(network, nn.Sequential) else next(network.children()).eval()
    flags = [index % 2 == 0 for index, _ in enumerate(network.parameters())]
    for value, flag in zip(network.parameters(), flags, strict=True):
        value.requires_grad_(flag)
    modes = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    if fails:
        with pytest.raises(BenchError, match="needs a surrogate"):
            bench.evaluate(network, digits, "blackbox", limit=10)
    else:
        bench.evaluate(network, digits, "fgsm", limit=10)
    assert [module.training for module in network.modules()] == modes
    assert [value.requires_grad for value in network.parameters()] == flags
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(value.grad is None for value in network.parameters())


def test_a_surrogate_makes_the_transferred_images(sat: nn.Module, natural: nn.Module, digits: Dataset) -> None:
    record = bench.evaluate(natural, digits, "blackbox", limit=40, surrogate=sat, name="mine")
    assert record.results["transfer:pgd-trades"].surrogate is not None
    assert record.subject.label == "mine"
    assert record.results["transfer:pgd-trades"].accuracy < record.results["clean"].accuracy


def test_names_and_sizes_that_do_not_fit(digits: Dataset, natural: nn.Module) -> None:
    with pytest.raises(BenchError, match="Did you mean 'whitebox'"):
        bench.evaluate(natural, digits, "whitbox")
    with pytest.raises(BenchError, match="cannot take images"):
        bench.evaluate(build_model("resnet20", 10, 3), digits)
    with pytest.raises(BenchError, match=r"not \(1, 10\) logits"):
        bench.evaluate(build_model("digits-cnn", 7, 1), digits)
    with pytest.raises(AttributeError, match="evalute"):
        bench.evalute  # noqa: B018


def test_importing_bench_does_not_import_torch() -> None:
    code = """if True:
        import sys, bench
        bench.BenchError, bench.compare, bench.load_records, dir(bench)
        assert "torch" not in sys.modules
        bench.evaluate, bench.train, bench.Dataset
        assert "torch" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_offered_is_listed() -> None:
    offered = {"evaluate", "train", "compare", "load_records", "Dataset", "Split", "BenchError"}
    assert offered < set(dir(bench))
    assert set(bench.__all__) == offered | {"__version__"}
    assert bench.BenchError is BenchError
    assert bench.Dataset is Dataset


def test_preparing_a_device_does_not_import_pytorchs_compiler() -> None:
    """It takes more than a second, for nothing."""
    code = (
        "import sys; from bench.compute import device; device.prepare(device.choose_device('cpu')); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "torch" in done.stdout.split()
    assert "torch._inductor" not in done.stdout.split()


class Cut(nn.Module):
    """A network with a quantiser in front that leaves autograd."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((16 * x).to(torch.uint8).to(x.dtype) / 16)


def test_autoattack_of_a_model_without_a_gradient_is_refused_in_words(natural: nn.Module, digits: Dataset) -> None:
    with pytest.raises(BenchError, match=r"AutoAttack needs a gradient.*\n.*--suite square"):
        bench.evaluate(Cut(natural), digits, "autoattack", limit=5)
    assert "clean" in bench.evaluate(Cut(natural), digits, "square", limit=5).results


def test_half_precision_and_inference_mode_are_refused_in_words(natural: nn.Module, digits: Dataset) -> None:
    with torch.inference_mode(), pytest.raises(BenchError, match="inference mode"):
        bench.evaluate(natural, digits, "fgsm", limit=10)
    with pytest.raises(BenchError, match=r"bfloat16.*\n.*\.float\(\)"):
        bench.evaluate(copy.deepcopy(natural).bfloat16(), digits, "fgsm", limit=10)


def test_a_surrogate_of_another_precision_crafts_in_its_own(natural: nn.Module, digits: Dataset) -> None:
    surrogate = copy.deepcopy(natural).double()
    record = bench.evaluate(natural, digits, "blackbox", limit=20, surrogate=surrogate)
    same = bench.evaluate(natural, digits, "blackbox", limit=20, surrogate=copy.deepcopy(natural))
    assert record.results["transfer:cw-inf"].final == same.results["transfer:cw-inf"].final


def test_another_seed_is_another_record_and_the_same_one_is_found(
    natural: nn.Module, digits: Dataset, tmp_path: Path
) -> None:
    for seed in (0, 1):
        bench.evaluate(natural, digits, "fgsm", limit=10, seed=seed, home=tmp_path, save=True)
    kept = {path: path.read_bytes() for path in (tmp_path / "results" / "records").iterdir()}
    assert len(kept) == 2
    again = bench.evaluate(natural, digits, "fgsm", limit=10, seed=1, home=tmp_path, save=True)
    assert again.seed == 1
    assert {path: path.read_bytes() for path in (tmp_path / "results" / "records").iterdir()} == kept
    # The same weights and class, and another function of them.
    hook = natural.register_forward_hook(lambda network, args, output: output / 2)
    with pytest.raises(BenchError, match=r"exists already.*may compute otherwise\.\nDelete it, or choose a name="):
        bench.evaluate(natural, digits, "fgsm", limit=10, seed=1, home=tmp_path, save=True)
    hook.remove()


@pytest.fixture
def few(digits: Dataset) -> Dataset:
    """The first sixteen digits, under their own name."""
    return replace(digits, train=digits.train.first(16), test=digits.test.first(16))


def saved(home: Path) -> dict[str, Record]:
    return {path.stem: read_record(path) for path in (home / "results" / "records").glob("*.json")}


def test_every_radius_is_a_record_of_its_own(natural: nn.Module, few: Dataset, tmp_path: Path) -> None:
    for eps in (2 / 16, 4 / 255, 0.1, 0.05):
        bench.evaluate(natural, replace(few, eps=eps), "fgsm", name="mine", home=tmp_path, save=True)
    found = saved(tmp_path)
    assert {name.partition("__fgsm-")[2]: record.data.eps for name, record in found.items()} == {
        "official-n16": 2 / 16,
        "official-eps4of255-n16": 4 / 255,
        "official-eps0.1-n16": 0.1,
        "official-eps0.05-n16": 0.05,
    }
    assert all(record.results["fgsm"].parameters["eps"] == record.data.eps for record in found.values())


def test_a_record_that_earlier_versions_named_is_found(natural: nn.Module, few: Dataset, tmp_path: Path) -> None:
    """They left the eps out of every name; a data set of one's own with eps = 0.1, say."""
    own = replace(few, name="own", eps=0.1)
    record = bench.evaluate(natural, own, "fgsm", name="mine", home=tmp_path)
    earlier = record.model_copy(update={"id": record.id.replace("-eps0.1", "")})
    write_record(earlier, tmp_path / "results" / "records")
    assert bench.evaluate(natural, own, "fgsm", name="mine", home=tmp_path, save=True).id == earlier.id
    bench.evaluate(natural, replace(own, eps=0.2), "fgsm", name="mine", home=tmp_path, save=True)
    with pytest.raises(BenchError, match=r"is of the threat linf:0\.1, and linf:8/255 is asked for"):
        bench.evaluate(natural, replace(own, eps=8 / 255), "fgsm", name="mine", home=tmp_path, save=True)
    assert len(saved(tmp_path)) == 2


def test_what_is_different_is_said(
    natural: nn.Module, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(dataset: Dataset = few, suite: str = "blackbox", seed: int = 1) -> None:
        bench.evaluate(natural, dataset, suite, name="mine", home=tmp_path, save=True, surrogate=surrogate)

    surrogate = build_model("digits-cnn", 10, 1)
    again()
    with pytest.raises(BenchError, match="is of other images: another dataset is called digits too"):
        again(replace(few, test=few.test.take(torch.arange(16).flip(0))))
    surrogate = build_model("digits-cnn", 10, 1)
    with pytest.raises(BenchError, match="is of images from another surrogate"):
        again()
    monkeypatch.setattr(Square, "protocols", {"official": {"queries": 7}})
    again(suite="square")
    monkeypatch.setattr(Square, "protocols", {"official": {"queries": 9}})
    with pytest.raises(BenchError, match="is of square with queries = 7, and 9 is asked for"):
        again(suite="square")


def test_the_home_is_that_of_the_commands(
    natural: nn.Module, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, named, given = (tmp_path / name for name in ("cwd", "named", "given"))
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    bench.evaluate(natural, few, "fgsm", save=True)
    monkeypatch.setenv("BENCH_HOME", str(named))
    bench.evaluate(natural, few, "fgsm", save=True)
    bench.evaluate(natural, few, "fgsm", save=True, home=given)
    assert [len(saved(place)) for place in (elsewhere, named, given)] == [1, 1, 1]


def test_a_model_that_computes_no_numbers_is_refused_by_name(natural: nn.Module, few: Dataset) -> None:
    class Overflowing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return natural(x) / 0

    with pytest.raises(BenchError, match="Overflowing gives NaN or infinity for an image"):
        bench.evaluate(Overflowing(), few, "fgsm")
    spoilt = copy.deepcopy(natural)
    next(spoilt.parameters()).data.view(-1)[0] = torch.inf
    with pytest.raises(BenchError, match="mine has NaN or infinite weights"):
        bench.evaluate(spoilt, few, "fgsm", name="mine")
    with pytest.raises(BenchError, match=r"the surrogate .* has NaN or infinite weights"):
        bench.evaluate(natural, few, "blackbox", surrogate=spoilt)


def test_a_threat_and_own_parameters_from_python(digits_model: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"limit": 16, "home": tmp_path, "checks": False}
    network = digits_model("natural")
    usual = bench.evaluate(network, "digits", "fgsm", **how)
    wide = bench.evaluate(network, "digits", "fgsm", threat="l2:2", **how)
    assert (str(usual.data.threat), str(wide.data.threat)) == ("linf:0.125", "l2:2")
    assert usual.id != wide.id
    assert bench.evaluate(network, "digits", "fgsm", threat=1 / 16, **how).data.eps == 1 / 16
    more = bench.evaluate(network, "digits", "pgd-sat", attack_set={"steps": 2}, **how)
    assert (more.attack_set, more.results["pgd-sat"].parameters["steps"]) == ({"steps": 2}, 2)
    with pytest.raises(bench.BenchError, match="Unknown parameter of fgsm 'stepz'"):
        bench.evaluate(network, "digits", "fgsm", attack_set={"stepz": 2}, **how)
    with pytest.raises(bench.BenchError, match=r"threat=.*is none"):
        bench.evaluate(network, "digits", "fgsm", threat=["l2"], **how)  # type: ignore[arg-type]
