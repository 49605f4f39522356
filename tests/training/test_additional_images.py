"""Additional images and augmentation in whole runs: identity, mistakes, sweeps (resuming: test_options.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench as bench_package
from bench.data import load_dataset
from bench.errors import BenchError
from bench.jobs import train
from bench.jobs.session import Session
from bench.jobs.teachers import teacher_request
from bench.jobs.train import Request
from bench.runs.folder import RunFolder
from bench.sweep.done import Actual, Known, Standing
from bench.sweep.plan import expand
from bench.sweep.spec import SweepSpec
from bench.system.console import Lines
from bench.system.home import Home
from bench.system.signals import StopRequest

from ..helpers.commands import DIGITS, Bench

store: Any = np.savez


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    """Forty additional digits: real ones, inverted."""
    digits = load_dataset("digits", tmp_path).test.first(40)
    store(tmp_path / "more.npz", image=255 - digits.images.permute(0, 2, 3, 1).numpy(), label=digits.labels.numpy())
    return tmp_path / "more.npz"


def asked(extra: Path | None = None, share: float | None = None, *settings: str, **more: Any) -> Request:
    options: dict[str, Any] = {"recipe": "demo", "epochs": 2, "batch_size": 16, "limit_train": 100, **more}
    source = None if extra is None else f"npz:{extra}"
    given = (*settings, *(() if options.get("method") == "natural" else ("steps=1",)))
    options = {"method": "sat", "student": "digits-cnn", "dataset": "digits", **options}
    return Request(**options, settings=given, extra=source, extra_share=share)


def session(home: Path) -> Session:
    return Session(Home(home), torch.device("cpu"), Lines(), StopRequest())


def trained(home: Path, request: Request) -> RunFolder:
    return train.train(session(home), request)


def config(home: Path, request: Request) -> Any:
    active = session(home)
    dataset = train.limited(active, request)
    return train.resolve(request, dataset, (), train.additional(active, request, dataset))


def test_a_run_s_identity_has_the_images_and_their_share(extra: Path, tmp_path: Path) -> None:
    plain, mixed = config(tmp_path, asked()), config(tmp_path, asked(extra, 0.7))
    assert {"augmentation", "extra"}.isdisjoint(plain.model_dump_json().replace('"', " ").split())
    assert plain.setting == "demo recipe, 2 epochs, batch 16, first 100 training images"
    assert mixed.setting == f"{plain.setting}, 70 % additional images of npz:more"
    assert (mixed.data.extra.n, mixed.data.extra.share, mixed.data.extra.spec) == (40, 0.7, f"npz:{extra}")
    moved = extra.with_name("moved") / "more.npz"
    moved.parent.mkdir()
    extra.rename(moved)
    assert config(tmp_path, asked(moved, 0.7)).id == mixed.id
    images = np.load(moved)
    store(moved, image=images["image"], label=images["label"][::-1])
    others = [
        config(tmp_path, asked(moved, 0.7)),
        config(tmp_path, asked(moved, 0.5)),
        config(tmp_path, asked(None, None, "training.augmentation.kind=cutout")),
        config(tmp_path, asked(None, None, "training.augmentation.kind=cutout", "training.augmentation.size=2")),
        config(tmp_path, asked(None, None, "training.augmentation.flip=true")),
    ]
    assert len({each.id for each in (plain, mixed, *others)}) == 7


def test_what_a_recipe_says_is_what_the_options_say(extra: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: demo\ntraining: {{extra: {{source: 'npz:{extra}', share: 0.7}}}}\n")
    by_recipe, by_option = (
        config(tmp_path, request).data.extra for request in (asked(recipe=str(recipe)), asked(extra, 0.7))
    )
    assert by_recipe == by_option
    assert config(tmp_path, asked(None, 0.2, recipe=str(recipe))).data.extra.share == 0.2
    changed = asked(None, None, "training.extra.share=0.3", recipe=str(recipe))
    assert config(tmp_path, changed).data.extra.share == 0.3


def test_mistakes_are_found_before_anything_is_trained(extra: Path, tmp_path: Path, bench: Bench) -> None:
    def mistake(*options: object) -> str:
        # Of a method whose teachers would be trained first.
        return bench("run", "--method", "rslad", "--student", "digits-cnn", *DIGITS, *options, home=tmp_path).mistake

    def stored(**arrays: Any) -> str:
        content = dict(np.load(extra)) | arrays
        store(tmp_path / "wrong.npz", **{name: value for name, value in content.items() if value is not None})
        return mistake("--extra", f"npz:{tmp_path}/wrong.npz", "--extra-share", 0.5)

    good = ("--extra", f"npz:{extra}")
    for share in (0, -0.1, 1.1, "nan"):
        assert "give a share above 0 and at most 1" in mistake(*good, "--extra-share", share)
    assert "--extra and --extra-share go together" in mistake(*good)
    assert "--extra and --extra-share go together" in mistake("--extra-share", 0.5)
    assert "write npz:FILE" in mistake("--extra", extra, "--extra-share", 0.5)
    assert "is not a file" in mistake("--extra", "npz:no.npz", "--extra-share", 0.5)
    assert "wrong.npz has no label; it has image" in stored(label=None)
    labels = np.load(extra)["label"]
    assert "labels are from 2 to 10, not from 0 to 9" in stored(label=labels + 1)
    assert "are (3, 8, 8), those of digits (1, 8, 8)" in stored(image=np.zeros((40, 8, 8, 3), np.uint8))
    assert "are (1, 9, 8), those of digits (1, 8, 8)" in stored(image=np.zeros((40, 9, 8, 1), np.uint8))
    assert "'crop-flip', 'none', 'cutout' or 'trivial-augment'" in mistake("--set", "training.augmentation.kind=mixup")
    assert "crop-flip has none, only cutout" in mistake("--set", "training.augmentation.size=4")
    assert not (tmp_path / "results").exists()


def test_a_sweep_says_it_and_knows_what_is_done(extra: Path, tmp_path: Path, bench: Bench) -> None:
    grid = {
        "methods": ["natural", "rslad"],
        "students": ["digits-cnn"],
        "datasets": ["digits"],
        "recipes": ["demo"],
        "epochs": 1,
        "limit_train": 60,
        "extra": f"npz:{extra}",
        "extra_share": 0.5,
    }
    plan = expand(SweepSpec.model_validate({"description": "x", "runs": [grid]}), lambda spec: spec)
    by_kind = {task.kind: task for task in plan}
    assert f"--extra npz:{extra} --extra-share 0.5" in by_kind["student"].command
    assert "--extra" not in by_kind["teacher"].command  # all students have the same teachers
    first = plan[0]
    sources = Known(Home(tmp_path)), Actual(session(tmp_path))
    assert [Standing(Home(tmp_path), plan, source).done() for source in sources] == [set(), set()]
    done = bench(*first.run_command[1:], home=tmp_path)
    assert done.code == 0, done
    assert json.loads((Path(done.out.strip()) / "config.json").read_text())["data"]["extra"]["share"] == 0.5
    sources = Known(Home(tmp_path)), Actual(session(tmp_path))
    assert [Standing(Home(tmp_path), plan, source).done() for source in sources] == [{first.number}] * 2


def test_arrays_and_additional_images_from_python(extra: Path, tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    x, y = digits.train.images[:60].numpy(), digits.train.labels[:60].numpy()
    data = bench_package.Dataset.from_arrays(x / 255, y, x[:20], y[:20], name="mine", padding=1, flip=False)
    options: dict[str, Any] = {"recipe": "demo", "epochs": 1, "home": tmp_path, "extra": f"npz:{extra}"}
    done = bench_package.train("natural", "digits-cnn", data, extra_share=0.5, **options)
    assert done.config.data.extra is not None
    assert done.config.data.extra.share == 0.5
    assert done.config.data.name == "mine"
    with pytest.raises(BenchError, match="give a share above 0 and at most 1"):
        bench_package.train("natural", "digits-cnn", data, extra_share="half", **options)  # type: ignore[arg-type]


def test_teachers_learn_from_a_recipe_s_additional_images_and_not_from_the_student_s(
    extra: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: demo\ntraining: {{extra: {{source: 'npz:{extra}', share: 0.7}}}}\n")
    by_recipe, by_option = (
        config(tmp_path, teacher_request(request, "robust", "digits")).data.extra
        for request in (asked(method="rslad", recipe=str(recipe)), asked(extra, 0.7, method="rslad"))
    )
    assert by_recipe.share == 0.7
    assert by_option is None
