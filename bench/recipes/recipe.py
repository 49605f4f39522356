"""Recipes: everything about training that is not the defense itself, as YAML files: the built-in ones, and users' own.

A recipe has a base and a list of rules. A rule names a method, dataset, student or role (a pattern; absent: any) and
what is different there; later rules win. A recipe that `extends` another begins with all of that one's; what it says
itself comes after it: its `training`, then its rules and teachers. `--set` and the other flags of `bench run` come
last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache, lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml
from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from bench.errors import BenchError, unknown_name
from bench.recipes.frozen import Frozen
from bench.recipes.training import PREFIX, Training, changed, merged, mistake
from bench.system.text import first_mistake, leaves, one_line, parse_yaml
from bench.vocabulary import Protocol

if TYPE_CHECKING:
    from bench.defense import Defense

_HERE = Path(__file__).parent
_ENDINGS = (".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class Resolved(NamedTuple):
    """What a recipe comes to for one run, before the user's flags."""

    variant: str
    training: Training
    hyperparameters: dict[str, Any]


class Rule(Frozen):
    """What differs for some runs."""

    method: str = "*"
    dataset: str = "*"
    student: str = "*"
    role: str = Field(default="*", description='"student", "clean" or "robust": what the run trains')
    variant: str | None = None
    training: dict[str, Any] = Field(default={})
    hyperparameters: dict[str, Any] = Field(default={})

    @property
    def whom(self) -> str:
        """Of what runs it speaks, for messages: `the rule for method ard`."""
        pairs = (("method", self.method), ("dataset", self.dataset), ("student", self.student), ("role", self.role))
        return f"the rule for {', '.join(f'{name} {value}' for name, value in pairs if value != '*') or 'all runs'}"

    def matches(self, method: str, dataset: str, student: str, role: str) -> bool:
        """Whether the rule speaks of such a run."""
        pairs = ((method, self.method), (dataset, self.dataset), (student, self.student), (role, self.role))
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)


class TeacherRule(Frozen):
    """Which network is the teacher of a role, and how it is trained."""

    role: Literal["clean", "robust"]
    method: str = Field(default="*", description="the student's method")
    dataset: str = "*"
    model: str
    trained_by: str = Field(description="method that trains the teacher")


class Recipe(Frozen):
    """A named way of training all methods."""

    name: str
    description: str
    published: bool = Field(description="a paper's or released code's schedule, rather than a reduced one of ours")
    variant: str = Field(description="variant of the methods: paper, official")
    protocol: Protocol = Field(description="default evaluation protocol")
    training: dict[str, Any]
    rules: list[Rule] = Field(default=[])
    teachers: list[TeacherRule]
    teacher_limit: int | None = Field(default=None, description="test images a teacher is evaluated on; None: all")
    _content: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def digest(self) -> str | None:
        """SHA-256 of all that a user's own recipe says, that of the ones it extends included; None: a built-in one."""
        if self._content is None:
            return None
        # Not what it is called or says of itself: the run is the same.
        decides = {key: value for key, value in self._content.items() if key not in ("name", "description")}
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def text(self) -> str:
        """A user's own recipe as YAML, what it extends included; read again it is the same one, by name and digest."""
        if self._content is None:
            return ""
        plain = json.loads(json.dumps({"name": self.name, **self._content}, default=str))  # nothing is shared in it
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)

    def resolve(
        self,
        method: str,
        dataset: str,
        student: str,
        role: str = "student",
        settings: Mapping[str, Any] | None = None,
    ) -> Resolved:
        """What the recipe comes to for a run.

        Args:
            settings: the fields of the training that the user sets, by dotted name (`training.optimizer.lr`).

        Raises:
            BenchError: the recipe's file leaves something out, or it or the user has a value that cannot be.
        """
        from bench.recipes.hyperparameters import method_class  # which imports PyTorch

        variant, hyperparameters = self.variant, dict[str, Any]()
        rules = [rule for rule in self.rules if rule.matches(method, dataset, student, role)]
        for rule in rules:
            variant = rule.variant or variant
            hyperparameters |= rule.hyperparameters
        training = reduce(merged, (rule.training for rule in rules), self.training)
        options = _belonging_to(method_class(method), changed(training, settings or {}))
        training = reduce(merged, (options, *(rule.training for rule in rules)), self.training)
        try:
            own = Training.model_validate(training)
        except ValidationError as error:
            if not settings:
                raise _not_valid(self.name, mistake(error)) from error
        if settings:
            own = _as_set(training, settings)
        return Resolved(variant, own, hyperparameters)

    def teacher(self, role: str, method: str, dataset: str) -> TeacherRule:
        """The last rule that names a teacher of this role for a method and dataset."""
        fitting = [
            rule
            for rule in self.teachers
            if rule.role == role and fnmatchcase(method, rule.method) and fnmatchcase(dataset, rule.dataset)
        ]
        if not fitting:
            raise BenchError(
                f"The recipe {self.name!r} names no {role} teacher for the dataset {dataset!r}.\n"
                f"Give one with --teacher {role}=FILE, or use another recipe."
            )
        return fitting[-1]


def _belonging_to(method: type[Defense], training: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training that belong to a method, their epochs in proportion to the training's own length."""
    length = training.get("schedule", {}).get("horizon") or training.get("epochs", method.horizon)

    def scaled(option: Mapping[str, Any]) -> dict[str, Any]:
        if "from_epoch" not in option:
            return dict(option)
        return {**option, "from_epoch": 1 + round((option["from_epoch"] - 1) * length / method.horizon)}

    return {name: scaled(option) for name, option in method.training.items()}


class _Lists(Frozen):
    """The lists of a recipe that leaves the rest to another one."""

    model_config = ConfigDict(extra="allow", frozen=True)
    rules: list[Rule] = Field(default=[])
    teachers: list[TeacherRule] = Field(default=[])


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The fields in which two recipes differ, as `training.optimizer.lr: 0.1, now 0.05`."""
    first, second = (dict(leaves(parse_yaml(each.text))) for each in (one, other))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [f"{name}: {first.get(name, 'absent')}, now {second.get(name, 'absent')}" for name in names]


def names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def own_recipes(folder: Path) -> dict[str, Path]:
    """The recipes of a home, by name."""
    found = sorted(path for path in folder.glob("*") if path.suffix in _ENDINGS) if folder.is_dir() else []
    return {path.stem: path for path in found}


def find(text: str, folder: Path) -> str:
    """What `load` takes, from what a user named: a built-in recipe, one of the home's, or a file's path, made absolute.

    Args:
        folder: of the home's recipes.

    Raises:
        BenchError: there is none, or two that it may be.
    """
    own = own_recipes(folder)
    if text in names():
        if text in own:
            raise BenchError(
                f"{own[text]} has the name of a built-in recipe.\nRename the file; it may say `extends: {text}`."
            )
        return text
    path = own.get(text) or Path(text).expanduser()
    if path.is_file():
        return os.path.abspath(path)
    if path.suffix in _ENDINGS or len(path.parts) > 1:
        raise BenchError(f"There is no file {text}.\nName a recipe (bench list recipes) or a YAML file.")
    raise unknown_name("recipe", text, [*names(), *own])


def load(name: str) -> Recipe:
    """Read a built-in recipe by its name, or a user's own by its file's path.

    Raises:
        BenchError: there is none, or it is not valid.
    """
    if Path(name).suffix not in _ENDINGS:
        return _built_in(name)
    path = Path(name)
    return _own(path, _read(path))


@cache
def _built_in(name: str) -> Recipe:
    return parse(name, _text(name))


def _text(name: str) -> str:
    if name not in names():
        raise unknown_name("recipe", name, names())
    return (_HERE / f"{name}.yaml").read_text(encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BenchError(f"The recipe {path} cannot be read: {reason}.\nGive the path of a YAML file.") from error


def _own(path: Path, text: str) -> Recipe:
    """A user's own recipe, which has a text and a digest."""
    content = _content(str(path), text, (path.resolve(),))
    name = content.get("name", path.stem) if isinstance(content, dict) else path.stem
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise BenchError(
            f"{path}: {one_line(str(name))!r} cannot be a recipe's name.\n"
            "Rename the file: letters, digits, dots, dashes and underscores, at most 60."
        )
    if name in names():
        raise BenchError(f"{path} has the name of a built-in recipe.\nRename it; it may say `extends: {name}`.")
    recipe = _checked(name, str(path), content)
    recipe._content = {key: value for key, value in content.items() if key != "name"}
    return recipe


def parse(name: str, text: str) -> Recipe:
    """A recipe from its YAML.

    Raises:
        BenchError: the text is no recipe (says what is wrong and where).
    """
    return _checked(name, name, _content(name, text))


def _checked(name: str, place: str, content: Any) -> Recipe:
    """The recipe of a whole content; place: what messages call it."""
    try:
        recipe = Recipe.model_validate({"name": name, **content} if isinstance(content, dict) else content)
    except ValidationError as error:
        raise _not_valid(place, _reason(error)) from error
    except TypeError as error:  # keys that are no text
        raise _not_valid(place, one_line(str(error))) from error
    for reason in _mistakes_in_training(recipe):
        raise _not_valid(place, reason)
    return recipe


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong with a recipe; where it is a key that recipes do not have, with those they do."""
    first = error.errors(include_url=False, include_input=False)[0]
    models: dict[str, type[Frozen]] = {"rules": Rule, "teachers": TeacherRule}
    if first["type"] != "extra_forbidden":
        return first_mistake(error)
    model = Recipe if len(first["loc"]) == 1 else models[str(first["loc"][0])]
    *place, name = map(str, first["loc"])
    where = f"key of a recipe's {'.'.join(place)}" if place else "key of a recipe"
    return str(unknown_name(where, name, model.model_fields)).replace("\n", " ").rstrip(".")


def _mistakes_in_training(recipe: Recipe) -> Iterator[str]:
    """What is wrong in what the base and each rule say, whatever run they speak of; what is left out may come later."""
    parts = [(PREFIX, recipe.training)]
    parts += [(f"{rule.whom}: {PREFIX}", rule.training) for rule in recipe.rules if rule.training]
    for place, change in parts:
        try:
            Training.model_validate(merged(recipe.training, change))
        except ValidationError as error:
            kinds = {each["type"] for each in error.errors(include_url=False, include_input=False)}
            if not kinds <= {"missing", "value_error"}:
                yield mistake(error, place)


def _as_set(training: Mapping[str, Any], settings: Mapping[str, Any]) -> Training:
    """The training with what the user set."""
    try:
        return Training.model_validate(changed(training, settings))
    except ValidationError as error:
        given = ", ".join(f"{name}={value}" for name, value in settings.items())
        raise BenchError(f"--set {given}: {mistake(error)}.\nSet another value, or none.") from error


def _not_valid(name: str, reason: str) -> BenchError:
    return BenchError(f"The recipe {name!r} is not valid: {reason}.\nRepair its YAML file.")


_plain = lru_cache(maxsize=64)(parse_yaml)
"""A sweep asks for its recipe at every task."""


def _content(name: str, text: str, files: tuple[Path, ...] = ()) -> Any:
    """What a recipe's YAML holds, on top of what the recipe that it extends holds.

    Args:
        files: the file that the text is of, after those that extend it; empty for a built-in recipe.
    """
    try:
        content = _plain(text)
    except ValueError as error:
        raise _not_valid(name, str(error)) from error
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = str(content["extends"])
    own = {key: value for key, value in content.items() if key != "extends"}
    try:
        _Lists.model_validate(own)  # by their numbers in this text
    except ValidationError as error:
        raise _not_valid(name, _reason(error)) from error
    return _on_top(_extended(name, base, files), own)


def _extended(name: str, base: str, files: tuple[Path, ...]) -> dict[str, Any]:
    """The whole content of the recipe that another one extends: a built-in one's name, or a file beside that one's."""
    if base in names() or not files:
        content = _content(base, _text(base))
    else:
        folder = files[-1].parent
        own = own_recipes(folder)
        path = own[base] if base in own else folder / Path(base).expanduser()
        if not path.is_file():
            missing = str(unknown_name("recipe", base, [*names(), *own])).replace("\n", " ").rstrip(".")
            raise _not_valid(name, f"extends: {missing}")
        if path.resolve() in files:
            raise _not_valid(name, f"extends: {base} extends it in turn")
        content = _content(str(path), _read(path), (*files, path.resolve()))
    if not isinstance(content, dict):
        raise _not_valid(base, "it is no mapping of keys to values")
    return {key: value for key, value in content.items() if key != "name"}


def _on_top(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A recipe's own content on top of that of the one it extends: mappings merged, lists one after the other.

    Its training is a rule for all runs as well: else a rule of the other recipe would win over what this one says.
    """
    joined: dict[str, Any] = {}
    rules = base.get("rules") or []
    everywhere = [{"training": own["training"]}] if rules and own.get("training") else []
    if isinstance(own.get("rules", []), list):
        joined["rules"] = [*rules, *everywhere, *(own.get("rules") or [])]
    if isinstance(own.get("teachers"), list):
        joined["teachers"] = [*base.get("teachers", []), *own["teachers"]]
    return {**merged(base, own), **joined}
