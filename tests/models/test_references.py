"""Checkpoints by name: files, networks of RobustBench's, files of Hugging Face's hub."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.models import references, split_spec
from bench.models.checkpoints import load_model
from bench.models.references import PUBLISHED, Found, check, locate
from bench.models.wide_resnet import blocks_and_width
from bench.system.hub import HubFile, HubFolder

from ..helpers.hub import Hub
from .weights import same, write

LTD = "Chen2021LTD_WRN34_10"


class TestFiles:
    def test_the_architecture_may_stand_in_front(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.b.pt", {})
        plain = locate(str(path), tmp_path, "cifar10")
        assert plain == Found(path, None, "a.b", str(path.resolve()))
        assert locate(f"timm:resnet18:{path}", tmp_path, "cifar10") == plain._replace(model="timm:resnet18")

    def test_a_file_whose_name_looks_like_another_kind_is_that_file(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "robustbench:x", {})
        assert locate("robustbench:x", tmp_path, "digits").path == Path("robustbench:x")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("/nowhere.pt", "There is no checkpoint /nowhere.pt"),
            ("resnet81:x.pt", "Unknown model 'resnet81'"),
            ("resnet18:", "'resnet18:' is no checkpoint"),
            ("robustbench:", "'robustbench:' is no checkpoint"),
            ("robustbench:../x", "no name of RobustBench's"),
            ("hf:repo/x.pt", "hf:ORG/REPO/FILE"),
            ("hf:org/repo", "hf:ORG/REPO/FILE"),
            ("hf:org/repo/../../x", "hf:ORG/REPO/FILE"),
            ("resnet81:hf:org/repo/x.pt", "Unknown model 'resnet81'"),
        ],
    )
    def test_a_mistake_is_found_before_anything_is_asked(self, text: str, words: str, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match=r"^.*\n.*$") as caught:
            check(text, tmp_path)
        assert words in str(caught.value)


class TestRobustBench:
    @pytest.fixture(autouse=True)
    def absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(references, "_installed", lambda: False)

    def install(self, monkeypatch: pytest.MonkeyPatch, load_model: Any) -> None:
        """A package that fetches as RobustBench's does."""
        package, utils = ModuleType("robustbench"), ModuleType("robustbench.utils")
        utils.load_model = load_model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "robustbench", package)
        monkeypatch.setitem(sys.modules, "robustbench.utils", utils)
        monkeypatch.setattr(references, "_installed", lambda: True)

    @pytest.mark.parametrize("place", [f"cifar10/Linf/{LTD}.pt", f"{LTD}.pt"])
    def test_a_file_of_that_name_in_the_home(self, place: str, tmp_path: Path) -> None:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, {})
        check(f"robustbench:{LTD}", tmp_path)
        found = locate(f"robustbench:{LTD}", tmp_path, "parquet:cifar10-small")
        assert found == (path, "wrn-34-10@none", LTD, str(path.resolve()))
        assert locate(f"wrn-34-10@half:robustbench:{LTD}", tmp_path, "cifar10").model == "wrn-34-10@half"

    def test_the_file_of_another_data_set_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "cifar10/Linf").mkdir(parents=True)
        write(tmp_path / f"cifar10/Linf/{LTD}.pt", {})
        with pytest.raises(BenchError, match=rf"cifar100/Linf/{LTD}.pt does not exist"):
            locate(f"robustbench:{LTD}", tmp_path, "cifar100")

    def test_the_normalisation_is_the_data_set_s(self, tmp_path: Path) -> None:
        name = "Wang2023Better_WRN-28-10"
        write(tmp_path / f"{name}.pt", {})
        models = [locate(f"robustbench:{name}", tmp_path, data).model for data in ("cifar10", "cifar100", "digits")]
        assert models == ["wrn-28-10-swish@cifar10", "wrn-28-10-swish@cifar100", "wrn-28-10-swish"]

    @pytest.mark.parametrize(("name", "hint"), [(LTD, ""), ("Chen2021LTD_WRN34_1", " Did you mean 'Chen2021LTD")])
    def test_without_the_package_it_is_said_how_to_get_it(self, name: str, hint: str, tmp_path: Path) -> None:
        for refused in (
            lambda: check(f"robustbench:{name}", tmp_path),
            lambda: locate(f"robustbench:{name}", tmp_path, "cifar10"),
        ):
            with pytest.raises(BenchError, match="pip install robustbench") as caught:
                refused()
            assert hint in str(caught.value)
            assert str(caught.value).count("\n") == 1

    def test_the_package_fetches_it_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[dict[str, str]] = []

        def load_model(**arguments: str) -> None:
            asked.append(arguments)
            print("Downloading")
            folder = Path(arguments["model_dir"], arguments["dataset"], arguments["threat_model"])
            folder.mkdir(parents=True)
            write(folder / f"{arguments['model_name']}.pt", {})

        self.install(monkeypatch, load_model)
        for _ in range(2):
            found = locate(f"robustbench:{LTD}", tmp_path, "cifar100")
            assert found.path == tmp_path / f"cifar100/Linf/{LTD}.pt"
        assert [(each["model_name"], each["dataset"]) for each in asked] == [(LTD, "cifar100")]
        assert capsys.readouterr().out == ""
        assert [path.name for path in found.path.parent.iterdir()] == [f"{LTD}.pt"]

    def test_a_download_that_fails_leaves_nothing_that_looks_like_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load_model(**arguments: str) -> None:
            Path(arguments["model_dir"], "cifar10/Linf").mkdir(parents=True)
            Path(arguments["model_dir"], f"cifar10/Linf/{LTD}.pt").write_text("<html>")
            raise KeyError(LTD)

        self.install(monkeypatch, load_model)
        with pytest.raises(BenchError, match=rf"cannot fetch {LTD} for cifar10 \(KeyError.*\n.*Linf/{LTD}.pt"):
            locate(f"robustbench:{LTD}", tmp_path, "cifar10")
        assert not list(tmp_path.rglob("*.pt"))

    def test_data_that_robustbench_has_nothing_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(monkeypatch, None)
        with pytest.raises(BenchError, match="networks for cifar100 and cifar10 alone"):
            locate(f"robustbench:{LTD}", tmp_path, "digits")

    def test_every_published_name_has_an_architecture_and_a_normalisation(self) -> None:
        for model in PUBLISHED.values():
            name, norm = split_spec(model.format(data="cifar100"))
            assert norm in ("none", "cifar100")
            assert blocks_and_width(name) in {(5, 10), (5, 20), (4, 10), (15, 16)}


def _robustbench(file: str) -> ModuleType:
    """A file of the copy of RobustBench's architectures that torchattacks brings; the whole cannot be imported."""
    spec = importlib.util.find_spec("robustbench")
    path = Path(next(iter(spec.submodule_search_locations or ["?"])) if spec else "?", "model_zoo/architectures", file)
    if not path.exists():
        pytest.skip("this torchattacks brings no copy of RobustBench's architectures")
    found = importlib.util.spec_from_file_location(f"robustbench_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _theirs(model: str) -> nn.Module:
    """RobustBench's network of the same architecture."""
    if model == "wrn-16-2":
        return _robustbench("wide_resnet.py").WideResNet(depth=16, widen_factor=2, sub_block1=True)
    if model == "wrn-16-1-swish@cifar10":
        module = _robustbench("dm_wide_resnet.py")
        return module.DMWideResNet(num_classes=10, depth=16, width=1, activation_fn=nn.SiLU)
    module = _robustbench("resnet.py")
    if model == "resnet18":
        return module.ResNet18()
    block = module.PreActBlock if model.endswith("wong") else module.PreActBlockV2
    return module.PreActResNet(block, [2, 2, 2, 2], bn_before_fc=model == "preact-resnet18")


@pytest.mark.parametrize(
    "model",
    [
        "wrn-16-2",
        "wrn-16-1-swish@cifar10",
        "preact-resnet18",
        "preact-resnet18-kuangliu",
        "preact-resnet18-wong",
        "resnet18",
    ],
)
def test_robustbench_s_networks_load_and_compute_the_same(model: str, tmp_path: Path) -> None:
    """Key for key and logit for logit, as the file of a published teacher holds them."""
    torch.manual_seed(0)
    theirs = _theirs(model)
    for key, value in theirs.state_dict().items():  # no two layers alike, batch-norm's included
        if value.is_floating_point() and value.ndim == 1 and not key.endswith(("mean", "std")):
            value.uniform_(0.5, 1.5)
    path = write(tmp_path / "a.pt", {"state_dict": {f"module.{k}": value for k, value in theirs.state_dict().items()}})
    name = split_spec(model)[0]
    ours, _ = load_model(path, model, 10, 3)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=1e-5, atol=1e-5)
    if not name.endswith(("kuangliu", "wong")):  # which have the same layers
        assert split_spec(load_model(path, None, 10, 3)[1])[0] == name


class TestHub:
    def test_a_file_is_fetched_with_its_commit(self, hub: Hub, model: nn.Module, tmp_path: Path) -> None:
        content = write(tmp_path / "a.pt", model.state_dict()).read_bytes()
        first = hub.commit("org/repo", {"nets/robust.pt": content})
        hub.commit("org/repo", {"nets/robust.pt": b"something else"})
        text = f"digits-cnn@half:hf:org/repo@{first}/nets/robust.pt"
        check(text, tmp_path)
        assert not hub.asked
        found = locate(text, tmp_path, "digits")
        assert (found.model, found.name) == ("digits-cnn@half", "org/repo/nets/robust")
        assert found.source == f"hf:org/repo@{first}/nets/robust.pt"
        assert same(load_model(found.path, found.model, 10, 1)[0].state_dict(), model.state_dict())

    def test_without_a_revision_the_newest_commit_is_recorded(self, hub: Hub, tmp_path: Path) -> None:
        sources = []
        for content in (b"old", b"new"):
            commit = hub.commit("org/repo", {"a.pt": content})
            found = locate("hf:org/repo/a.pt", tmp_path, "digits")
            assert (found.path.read_bytes(), found.source) == (content, f"hf:org/repo@{commit}/a.pt")
            sources.append(found.source)
        asked = len(hub.asked)
        assert locate("hf:org/repo/a.pt", tmp_path, "digits", ask=False).source == sources[1]
        assert len(hub.asked) == asked

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("hf:org/repo/b.pt", "the repository has no such file"),
            ("hf:org/repo@v9/a.pt", "the repository has no such revision"),
            ("hf:org/other/a.pt", "there is no such repository"),
        ],
    )
    def test_what_is_not_there_is_said(self, text: str, words: str, hub: Hub) -> None:
        hub.commit("org/repo", {"a.pt": b"a"})
        with pytest.raises(BenchError, match=words) as caught:
            HubFile.parse(text).fetch()
        assert str(caught.value).startswith(text)
        assert str(caught.value).count("\n") == 1

    def test_what_was_not_downloaded_is_not_here_without_the_hub(self, hub: Hub) -> None:
        with pytest.raises(BenchError, match="not among those that were downloaded"):
            HubFile.parse("hf:org/repo/a.pt").fetch(ask=False)

    def test_without_the_package_it_is_said_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        for refused in (HubFile.parse("hf:org/repo/a.pt").fetch, lambda: HubFolder.parse("hf:org/repo")):
            with pytest.raises(BenchError, match=r"pip install 'ard-bench\[hf\]'"):
                refused()
