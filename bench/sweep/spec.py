"""What a sweep is: a YAML file, checked here. The built-in ones are in `specs/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bench.errors import BenchError, unknown_name
from bench.recipes import recipe
from bench.system.text import first_mistake, parse_yaml
from bench.threat import Threat, Wanted, parse_eps
from bench.vocabulary import Evaluated, Precision, Protocol, Role

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Value = bool | Whole | float | str | list[Whole | float | str]
Count = Annotated[int, Field(ge=1, le=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _threat(text: Any) -> Wanted:
    """A threat as a file writes it: `l2:0.5`, or a radius in the dataset's own norm: 4/255."""
    try:
        text = str(text)
        return Threat.parse(text) if ":" in text else parse_eps(text)
    except BenchError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


_Threat = Annotated[Any, AfterValidator(lambda one: None if one is None else _threat(one))]
Threats = Annotated[list[_Threat], Field(min_length=1)]


def _threats(content: Any) -> Any:
    """`threat: T` as `threats: [T]`."""
    if not isinstance(content, Mapping) or "threat" not in content:
        return content
    if "threats" in content:
        raise ValueError("threat and threats say the same; give one of them")
    rest = {key: value for key, value in content.items() if key != "threat"}
    return {**rest, "threats": [content["threat"]]}


class EvaluationSpec(_Strict):
    """An evaluation of every run of a grid, as `bench eval` takes it."""

    suite: Name
    limit: Count | None = Field(default=None, description="first test images; None: all")
    protocol: Protocol = "official"
    threats: Threats = Field(default=[None], description="what to attack under; null: what a run was trained against")
    checkpoint_of: Evaluated = Field(default="best", description="which weights of each run; both where they differ")
    surrogate: str | None = Field(
        default=None,
        description="checkpoint that attacks are transferred from, as for --teacher; None: the recipe's robust teacher",
    )

    _one = model_validator(mode="before")(_threats)


class Grid(_Strict):
    """Runs: every method, student, dataset, recipe, seed, ablation and threat, each with every other."""

    methods: Names
    students: Names
    datasets: Names
    recipes: Names = ["official"]
    seeds: list[Annotated[int, Field(ge=0, le=2**31)]] = Field(default=[0], min_length=1)
    ablations: list[dict[Name, Value]] = Field(
        default=[{}], min_length=1, description="hyper-parameters as `--set` takes them; {} is the method as it is"
    )
    threats: Threats = Field(default=[None], description="what to train against; null: the dataset's own threat")
    epochs: Count | None = None
    batch_size: Count | None = None
    limit_train: int | None = Field(default=None, ge=10, le=2**31)
    precision: Precision = "32"
    extra: Name | None = Field(default=None, description="additional training images, npz:FILE")
    extra_share: float | None = Field(default=None, gt=0, le=1, description="their share of every batch")
    teachers: dict[Role, Name] = Field(
        default={}, description="checkpoints by role, as for --teacher; else the recipe's are trained"
    )
    teacher_seeds: bool = Field(
        default=False, description="whether those are trained with each run's own seed, not with seed 0 for all"
    )
    evaluations: list[EvaluationSpec] = []

    _one = model_validator(mode="before")(_threats)

    @property
    def each_evaluation(self) -> list[EvaluationSpec]:
        """The evaluations, those under several threats once for each."""
        return [each.model_copy(update={"threats": [threat]}) for each in self.evaluations for threat in each.threats]


class SweepSpec(_Strict):
    """One sweep; a run that several grids name is trained once."""

    description: Name
    runs: list[Grid] = Field(min_length=1)


@dataclass(frozen=True)
class Changes:
    """What a command changes in every grid of a sweep; None leaves the spec's own.

    Attributes:
        dataset, recipe: in place of the spec's datasets and recipes.
        threat: in place of the spec's threats, of its runs and of their evaluations.
        limit_train: training images of every run.
        limit: test images of every evaluation, at most.
        checkpoint_of: which weights every evaluation attacks.
    """

    dataset: str | None = None
    recipe: str | None = None
    threat: Wanted | None = None
    limit_train: int | None = None
    limit: int | None = None
    checkpoint_of: Evaluated | None = None

    def of(self, spec: SweepSpec) -> SweepSpec:
        """The sweep as changed."""
        return spec.model_copy(update={"runs": [self._grid(grid) for grid in spec.runs]})

    def _grid(self, grid: Grid) -> Grid:
        lists = {"datasets": self.dataset and [self.dataset], "recipes": self.recipe and [self.recipe]}
        evaluations = [self._evaluation(each) for each in grid.evaluations]
        if self.threat is not None:
            evaluations = list(dict.fromkeys(each.model_copy(update={"threats": (None,)}) for each in evaluations))
        changed = {**lists, "limit_train": self.limit_train, "threats": self.threat and [self.threat]}
        given = {key: value for key, value in changed.items() if value is not None}
        return grid.model_copy(update={**given, "evaluations": evaluations})

    def _evaluation(self, each: EvaluationSpec) -> EvaluationSpec:
        limit = min(self.limit, each.limit or self.limit) if self.limit else each.limit
        return each.model_copy(update={"limit": limit, "checkpoint_of": self.checkpoint_of or each.checkpoint_of})


def located(spec: SweepSpec, folder: Path) -> SweepSpec:
    """The sweep with its recipes as they are loaded: built-in ones by name, others by the path of their file.

    Args:
        folder: of the home's own recipes.

    Raises:
        BenchError: there is no such recipe.
    """
    grids = [
        grid.model_copy(update={"recipes": [recipe.find(name, folder) for name in grid.recipes]}) for grid in spec.runs
    ]
    return spec.model_copy(update={"runs": grids})


def names() -> list[str]:
    """The built-in sweeps."""
    return sorted(path.name[: -len(".yaml")] for path in (files("bench.sweep") / "specs").iterdir())


def load_sweep(name: str) -> SweepSpec:
    """A built-in sweep by its name, or one of the user's by the path of its file.

    Raises:
        BenchError: there is none, or it is not valid (says what is wrong and where).
    """
    if name in names():
        return _read(Path(__file__).parent / "specs" / f"{name}.yaml", name)
    path = Path(name).expanduser()
    if not path.exists():
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise BenchError(f"There is no file {name}.\nName a built-in sweep (bench list sweeps) or a YAML file.")
        raise unknown_name("sweep", name, names())
    return _read(path, name)


def _read(path: Path, name: str) -> SweepSpec:
    try:
        return SweepSpec.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"The sweep {name} is not valid: {first_mistake(error)}.\n"
            "Repair the file; docs/sweeps.md shows what it holds."
        ) from error
