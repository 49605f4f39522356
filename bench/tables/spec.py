"""What a table is: a YAML file, checked here. A further table is a further file, without code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from bench.errors import BenchError
from bench.records.measurement import PublishedQuantity, Quantity
from bench.system.left_out import name_left_out
from bench.system.text import first_mistake, parse_yaml

Name = Annotated[str, Field(min_length=1)]
OVERVIEW: Final = "overview"
NAMED: Final = (OVERVIEW, "unseen", "corruptions")
"""Tables that have a name instead of a number."""
ANY: Final = "*"
"""Stands for a student of any architecture."""


def table_files(folder: Literal["specs", "paper"]) -> Path:
    """Where the shipped table specs and the paper's numbers lie.

    A wheel carries the top-level folder `tables/` as `bench/table_files/`; a checkout, also one that is installed in
    place, has it beside `bench/`.
    """
    package = Path(__file__).resolve().parents[1]
    shipped = package / "table_files"
    return (shipped if shipped.is_dir() else package.parent / "tables") / folder


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttackSpec(_Strict):
    """An attack of the table: its result's name in the records, its name for readers, and that in the CSV."""

    result: Name = Field(description="as in a record: `fgsm`, `transfer:pgd-trades`")
    label: Name
    paper: str = Field(default="", description="what `{attack}` stands for in the spec's `paper`")


class RowSpec(_Strict):
    """A row that is shown with or without results."""

    label: Name
    method: str | None = Field(
        default=None, description="registered name; for a table of students; without one the row is published alone"
    )
    overrides: dict[str, Any] = Field(default_factory=dict, description="hyper-parameters that make the row")
    role: Literal["clean", "robust"] | None = Field(default=None, description="for a table of teachers")
    paper: dict[str, str] = Field(default_factory=dict, description="the CSV's row; by default `defense` is the label")


class PaperSpec(_Strict):
    """Where the published numbers of the table are: percentages in a CSV file.

    In `where` and `values`, `{dataset}` and `{attack}` stand for the dataset's name and the attack's `paper`.
    """

    file: Path = Field(description="name of a file beside the spec, or of one that is shipped; a path once read")
    citation: Name
    n: int = Field(gt=0, description="samples the numbers were measured on")
    eps: float = Field(default=8 / 255, gt=0, description="L-infinity bound they were measured with")
    where: dict[str, str] = Field(description="column and content that select the lines of this table")
    values: dict[PublishedQuantity, str] = Field(description="the column of each quantity")
    model: str | None = Field(default=None, description="the column of the architecture, in a table of teachers")
    about: list[str] = Field(
        default_factory=list,
        description="columns that say where each number is from: of several papers, and so rivals of none",
    )
    proposed: str | None = Field(default=None, description="label of the row that the paper proposes, for the audit")
    claims: Path | None = Field(
        default=None, description="CSV of what the paper's prose says of its numbers, found as `file` is"
    )

    @field_validator("file", "claims")
    @classmethod
    def _find(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is None:
            return None
        if file.name != str(file):
            raise ValueError(f"{str(file)!r} is not the plain name of a file")
        beside = info.context["folder"] if info.context else Path()
        for folder in (beside, table_files("paper")):
            if (folder / file).is_file():
                return folder / file
        raise ValueError(f"there is no {file} beside the spec, nor is one shipped")


class TableSpec(_Strict):
    """One table."""

    number: int = Field(ge=0)
    title: Name
    default: bool = Field(default=True, description="rendered when no table is named")
    subject: Literal["student", "teacher"] = "student"
    access: Literal["white-box", "black-box", "any"]
    models: dict[str, str] = Field(
        default_factory=dict,
        description="the students' architecture by dataset, `default` for all others; `*` is any of them",
    )
    datasets: dict[str, str] = Field(min_length=1, description="shown even without results: name and name for readers")
    sections: Literal["attacks", "datasets"] = Field(default="attacks", description="what the rows are grouped by")
    student: str = Field(default="", description="name for readers of the default architecture; it ends the title")
    columns: list[Quantity] = Field(min_length=1)
    attacks: list[AttackSpec] = Field(min_length=1)
    rows: list[RowSpec]
    further_rows: Literal["all", "variants"] = Field(
        default="all", description="rows beyond `rows`: of any method, or only of the methods named there"
    )
    left_to: int | None = Field(
        default=None, description="number of a table of the same form: the methods of its rows have none here"
    )
    compared: bool = Field(
        default=True,
        description="whether rows are rivals: best and second are marked, settings never share a column",
    )
    paper: PaperSpec | None = None
    _left_methods: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def left_methods(self) -> frozenset[str]:
        """The methods that `left_to` leaves to another table, once `load_specs` has seen both."""
        return self._left_methods

    @model_validator(mode="after")
    def _is_consistent(self) -> TableSpec:
        student = self.subject == "student"
        if student != bool(self.models):
            raise ValueError("`models` belongs to a table of students, and only there")
        for row in self.rows:
            published = student and row.paper and row.method is None
            if ((row.method is None) == student and not published) or (row.role is None) != student:
                raise ValueError(
                    f"row {row.label!r} needs `{'method' if student else 'role'}` and nothing else of the two"
                )
        for what, names in (
            ("attack", [attack.result for attack in self.attacks]),
            ("attack's label", [attack.label for attack in self.attacks]),
            ("row's label", [row.label for row in self.rows]),
            ("column", list(self.columns)),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"the same {what} twice")
        proposed = self.paper.proposed if self.paper else None
        if proposed is not None and proposed not in [row.label for row in self.rows]:
            raise ValueError(f"`paper.proposed` {proposed!r} is the label of no row")
        return self

    def model_for(self, dataset: str) -> str | None:
        """The students' architecture on a dataset; None where any will do, or none is shown."""
        model = self.models.get(dataset, self.models.get("default"))
        return None if model == ANY else model

    def for_student(self, model: str) -> TableSpec:
        """The table with students of another architecture; a table of teachers is as it was."""
        if not self.models or model == self.models.get("default"):
            return self
        return self.model_copy(update={"models": {"default": model}, "student": ""})

    def for_teachers(self, rows: list[RowSpec]) -> TableSpec:
        """The table of the teachers instead of the students; they are not rivals."""
        return self.model_copy(update={"subject": "teacher", "models": {}, "rows": rows, "compared": False})


def read_spec(path: Path) -> TableSpec:
    """Read one spec.

    Raises:
        BenchError: the file cannot be read, is no YAML or no spec (says what is wrong and where).
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
        return TableSpec.model_validate(content, context={"folder": path.parent})
    except (OSError, ValueError) as error:
        raise BenchError(
            f"The table spec {path} is not valid: {first_mistake(error)}.\n"
            "Repair the file, or take it out of its folder."
        ) from error


def load_specs(extra: Path | None = None) -> dict[int, TableSpec]:
    """All tables by number: those shipped, then a user's own.

    Args:
        extra: folder with further `*.yaml` specs; it need not exist. One that cannot be read, is not valid, has the
            number of another or leaves methods to one that is not there is named and left out.
    """
    specs: dict[int, TableSpec] = {}
    for path in sorted(table_files("specs").glob("table*.yaml")):
        _add(specs, path)
    wrong = []
    for path in sorted(extra.glob("*.yaml")) if extra is not None else ():
        try:
            _add(specs, path)
        except BenchError as error:
            wrong.append(error)
    for number, spec in list(specs.items()):
        try:
            _leave(spec, specs)
        except BenchError as error:
            wrong.append(error)
            del specs[number]
    name_left_out("table spec", wrong)
    return dict(sorted(specs.items()))


def _leave(spec: TableSpec, specs: Mapping[int, TableSpec]) -> None:
    """Tell a spec the methods that it leaves to another table; those that it names itself stay."""
    if spec.left_to is None:
        return
    if spec.left_to not in specs:
        raise BenchError(
            f"Table {spec.number} leaves methods to Table {spec.left_to}, which there is not.\n"
            f"Name another as `left_to`: {', '.join(map(str, sorted(specs)))}."
        )
    named = {row.method for row in spec.rows}
    others = {row.method for row in specs[spec.left_to].rows if row.method is not None}
    spec._left_methods = frozenset(others - named)


def _add(specs: dict[int, TableSpec], path: Path) -> None:
    spec = read_spec(path)
    if spec.number in specs:
        raise BenchError(
            f"The table spec {path} has the number {spec.number}, which another table has already.\n"
            f"Give it a number of its own; taken: {', '.join(map(str, sorted(specs)))}."
        )
    specs[spec.number] = spec
