"""Recipes in files of the user's own, and `--set training.FIELD=VALUE`: what they come to, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from bench.cli.main import cli
from bench.errors import BenchError
from bench.jobs import train
from bench.jobs.teachers import teacher_request
from bench.jobs.train import Request
from bench.recipes import recipe
from bench.recipes.training import training_fields
from bench.runs.config import DataRef, RunConfig
from bench.sweep import spec
from bench.system.text import defense_label

from ..helpers.commands import Bench, Result
from ..helpers.homes import Find

MINE = "extends: demo\ndescription: mine\ntraining: {optimizer: {lr: 0.05}}\n"
DIGITS = DataRef(name="digits", spec="digits", fingerprint="f", n=100, classes=10, in_channels=1, eps=0.1)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str = MINE, name: str = "mine.yaml") -> Path:
        path = tmp_path / "recipes" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return written


def configured(*settings: str, **asked: object) -> RunConfig:
    request = Request("sat", "digits-cnn", "digits", settings=settings, **{"recipe": "demo", **asked})  # type: ignore[arg-type]
    train.check(request)
    return train.configure(request, DIGITS, ())


@pytest.mark.parametrize(
    ("method", "recipe_name", "expected"), [("natural", "demo", "40077060"), ("sat", "paper", "4d729d9d")]
)
def test_the_id_of_a_run_by_a_built_in_recipe_is_what_it_was(method: str, recipe_name: str, expected: str) -> None:
    config = train.configure(Request(method, "digits-cnn", "digits", recipe=recipe_name), DIGITS, ())
    assert config.id == f"digits_digits-cnn_{method}_{recipe_name}_s0_{expected}"
    assert {"recipe_digest", "kind", "clip", "warmup", "early", "by", "first"}.isdisjoint(config.model_dump_json())
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_what_a_recipe_says_wins_over_the_rules_of_the_one_it_extends(write: Write) -> None:
    own, demo = recipe.load(str(write())), recipe.load("demo")
    for method in ("rslad", "sat"):  # for the first of which `demo` has a rate of its own
        ours, theirs = (each.resolve(method, "digits", "digits-cnn").training for each in (own, demo))
        assert ours.optimizer.lr == 0.05
        assert ours.optimizer.weight_decay == theirs.optimizer.weight_decay
        assert (ours.epochs, ours.selection) == (theirs.epochs, theirs.selection)
    assert own.teachers == demo.teachers


def test_a_chain_of_files_is_one_recipe(write: Write) -> None:
    write("extends: base.yaml\ntraining: {epochs: 3}\n", "top.yaml")
    base = write(MINE, "base.yaml")
    top = recipe.load(str(base.with_name("top.yaml")))
    training = top.resolve("sat", "digits", "digits-cnn").training
    assert (training.epochs, training.optimizer.lr, top.description) == (3, 0.05, "mine")
    write(MINE.replace("0.05", "0.06"), "base.yaml")
    assert recipe.load(str(base.with_name("top.yaml"))).digest != top.digest


def test_the_digest_is_of_what_decides_a_run_and_the_text_is_the_whole_recipe(write: Write, tmp_path: Path) -> None:
    own = recipe.load(str(write()))
    assert recipe.load(str(write(MINE.replace("mine", "other words  # and a comment")))).digest == own.digest
    assert recipe.load(str(write(MINE.replace("0.05", "0.06")))).digest != own.digest
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(own.text)
    kept = recipe.load(str(folder / "recipe.yaml"))
    assert (kept.name, kept.digest, kept) == ("mine", own.digest, own)
    assert "extends" not in own.text
    assert (recipe.load("demo").digest, recipe.load("demo").text) == (None, "")


def test_its_digest_sets_a_run_apart(write: Write) -> None:
    first, built_in = configured(recipe=str(write())), configured()
    second = configured(recipe=str(write(MINE + "teacher_limit: 7\n")))
    assert len({first.id, second.id, built_in.id}) == 3
    assert first.optimizer == second.optimizer
    assert first.setting.startswith(f"mine recipe ({str(first.recipe_digest)[:8]}), 12 epochs")
    assert first.setting != second.setting


def test_a_recipe_is_found_by_its_name_in_the_home_or_by_its_path(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    assert recipe.find("short", path.parent) == "short"
    assert recipe.find("mine", path.parent) == recipe.find(str(path), Path("nowhere")) == str(path)
    monkeypatch.chdir(path.parent.parent)
    assert recipe.find("recipes/mine.yaml", Path("nowhere")) == str(path)
    for name, words in (("mien", "Did you mean 'mine'"), ("other.yaml", "no file other.yaml"), ("a/b", "no file a/b")):
        with pytest.raises(BenchError, match=words):
            recipe.find(name, path.parent)
    short = write(MINE, "short.yaml")
    for name in ("short", str(short)):
        with pytest.raises(BenchError, match="name of a built-in recipe"):
            recipe.load(recipe.find(name, path.parent))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: {optimizer: {lr: 0}}", "training.optimizer.lr: Input should be greater than 0"),
        (
            "training: {optimizr: {lr: 1}}",
            "Unknown field of training 'optimizr'. Did you mean 'optimizer'? Known: augmentation",
        ),
        ("training: {selection: {steps: 2.5}}", "selection.steps"),
        ("training: {schedule: {kind: cosinus}}", "schedule.kind"),
        ("training: {schedule: {warmup: 13}}", "training.schedule.warmup: 13 epochs, and the schedule has 12"),
        (
            "rules: [{method: ard, training: {schedule: {gama: 1}}}]",
            "field of the rule for method ard: training.schedule 'gama'. Did you mean 'gamma'",
        ),
        ("rules: [{methods: ard}]", "key of a recipe's rules.0 'methods'. Did you mean 'method'"),
        ("trainig: {}", "Unknown key of a recipe 'trainig'. Did you mean 'training'"),
        ("extends: dmo", "Did you mean 'demo'"),
        ("extends: mine.yaml", "mine.yaml extends it in turn"),
        ("extends: [demo]", "extends"),
        ("name: ../x", "'../x' cannot be a recipe's name"),
        ("{", "is not valid"),
        ("[1]", "is not valid"),
    ],
)
def test_a_mistake_names_its_field_and_the_known_ones(text: str, words: str, write: Write) -> None:
    path = write(text if "extends" in text or text in ("{", "[1]") else f"extends: demo\n{text}\n")
    with pytest.raises(BenchError) as caught:
        recipe.load(str(path)).resolve("sat", "digits", "digits-cnn")
    assert words in str(caught.value)


def test_a_field_that_is_set_is_of_the_run_and_stands_in_tables() -> None:
    config = configured("training.optimizer.lr=1/100", "steps=3", "training.schedule.milestones=(2, 3)")
    assert config.optimizer.lr == 0.01
    assert config.schedule.milestones == (2, 3)
    assert config.hyperparameters["steps"] == 3
    assert config.overrides == {"steps": 3, "training.optimizer.lr": 0.01, "training.schedule.milestones": [2, 3]}
    assert "training.optimizer.lr=0.01" in defense_label(config.label, config.overrides)
    assert (
        config.id == configured(*[f"{name}={value}" for name, value in config.overrides.items()]).id != configured().id
    )
    adam = configured(
        "training.optimizer.kind=AdamW", "training.optimizer.lr=1e-3", "training.optimizer.betas=[0.9, 0.95]"
    )
    assert adam.optimizer.arguments["betas"] == (0.9, 0.95)
    assert adam.optimizer.kind == "adamw"


def test_a_student_s_settings_are_not_its_teacher_s() -> None:
    request = Request("rslad", "digits-cnn", "digits", "demo", settings=("training.optimizer.lr=0.01",))
    assert teacher_request(request, "robust", "digits").settings == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.optimizer.lrr=1"], "Unknown field of training.optimizer (sgd) 'lrr'. Did you mean 'lr'"),
        (["training.optimiser.lr=1"], "Did you mean 'training.optimizer.lr'"),
        (["training.optimizer=1"], "Set one of them: training.optimizer.clip"),
        (
            ["training.optimizer.lr=fast"],
            "--set training.optimizer.lr=fast: training.optimizer.lr: Input should be a valid number",
        ),
        (["training.optimizer.lr=1", "training.optimizer.lr=2"], "is given twice.\nChoose one of 1 and 2."),
        (["training.optimizer.clip=-1"], "optimizer.clip: Input should be greater than 0"),
        (["training.schedule.warmup=13"], "schedule.warmup: 13 epochs, and the schedule has 12"),
        (["training.schedule.kind=ciard"], "ciard needs a milestone"),
        (
            ["training.optimizer.kind=adamw", "training.optimizer.lr=1", "training.optimizer.momentum=0.5"],
            "Known: amsgrad",
        ),
        (["training.optimizer.kind=adamv", "training.optimizer.lr=1"], "Unknown optimizer 'adamv'"),
        (["training.epochs=3"], "--epochs and --set training.epochs=... set the same"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(BenchError) as caught:
        configured(*settings, epochs=5)
    assert words in str(caught.value)


def test_every_field_that_is_offered_can_be_set() -> None:
    config = configured()
    plain = config.model_dump(mode="json") | {
        "schedule": {"kind": "cosine"},
        "augmentation": {"kind": "cutout"},
        "extra": {},
    }
    for name in training_fields():
        *parents, last = name.split(".")[1:]
        value = ((plain.get(parents[0]) or {}) if parents else plain).get(last)
        assert configured(f"{name}={json.dumps(value)}") if value is not None else name


def test_sweeps_take_them(write: Write) -> None:
    path = write()
    grid = {"methods": ["sat"], "students": ["digits-cnn"], "datasets": ["digits"], "recipes": ["mine", "demo"]}
    sweep = spec.SweepSpec.model_validate({"description": "x", "runs": [grid]})
    assert spec.located(sweep, path.parent).runs[0].recipes == [str(path), "demo"]
    with pytest.raises(BenchError, match="Unknown recipe 'mine'"):
        spec.located(sweep, path.parent.parent)


def test_a_run_keeps_its_recipe_and_goes_on_from_it(bench: Bench, write: Write, tmp_path: Path, runs: Find) -> None:
    write()

    def run(named: object = "mine") -> Result:
        options = ("--epochs", 1, "--limit-train", 60, "--dataset", "digits", "--student", "digits-cnn")
        return bench("run", "--method", "natural", "--recipe", named, *options, home=tmp_path)

    assert run().code == 0
    (first,) = runs(tmp_path)
    assert "from" in bench("list", "recipes", home=tmp_path).out
    (first / "summary.json").unlink()
    (first / "progress.json").write_text('{"epoch": 1, "epochs": 1, "step": 0, "steps": 1, "seconds_left": null}')
    write(MINE.replace("0.05", "0.06"))
    again = run()
    assert again.code == 0, again
    assert f"has changed since {first.name} began (training.optimizer.lr: 0.05, now 0.06" in again.err
    assert len(runs(tmp_path)) == 2
    continued = run(first / "recipe.yaml")
    assert Path(continued.out.strip()) == first
    assert (first / "summary.json").exists()
    (first / "recipe.yaml").write_text((first / "recipe.yaml").read_text().replace("0.05", "0.07"))
    changed = bench("eval", "--suite", "blackbox", "--run", first.name, "--limit", 2, home=tmp_path)
    assert (changed.code, "was changed since" in changed.err) == (2, True)


def test_the_shell_offers_the_recipes_of_the_home(write: Write, tmp_path: Path) -> None:
    write()
    completion = BashComplete(cli, {}, "bench", "_BENCH_COMPLETE")
    for command in (["run"], ["sweep", "tables"]):
        found = completion.get_completions(["--home", str(tmp_path), *command, "--recipe"], "mi")
        assert [item.value for item in found] == ["mine"]
