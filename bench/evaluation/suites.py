"""Suites: which attacks are run on a model, and on whom they are crafted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import registry
from bench.errors import BenchError, unknown_name
from bench.records.wording import CORRUPTED
from bench.threat import Entry as Entry
from bench.vocabulary import CORRUPTIONS, LEAST_CORRUPTED, SEVERITIES


@dataclass(frozen=True)
class Suite:
    """A named list of attacks, of `clean` an empty one; clean accuracy is measured in every suite.

    Attributes:
        places: parameters of the attacks that say where files lie, and so are in no record.
    """

    name: str
    description: str
    entries: tuple[Entry, ...]
    places: Mapping[str, str] = field(default_factory=dict)

    def on(self, shape: Sequence[int]) -> Suite:
        """The suite for images of a shape, (C, H, W).

        Where corruptions are not defined they are left out, unless they are all there is: then they say why.
        """
        kept = tuple(entry for entry in self.entries if not CORRUPTED.match(entry.attack))
        able = shape[0] == 3 and min(shape[1:]) >= LEAST_CORRUPTED
        return self if able or not kept else replace(self, entries=kept)

    @property
    def needs_surrogate(self) -> bool:
        return any(entry.transfer for entry in self.entries)

    @property
    def white_box(self) -> bool:
        """Whether an attack looks into the model itself."""
        return any(not entry.transfer and registry.attack_class(entry.attack).white_box for entry in self.entries)


CURVES = ("fmn", "pgd-curve")
"""Attacks that give a radius for each sample: the one whose curve is drawn, and the one that checks it."""

_WHITEBOX = (Entry("fgsm"), Entry("pgd-sat"), Entry("pgd-trades"), Entry("cw-inf"))
_BLACKBOX = (Entry("pgd-trades", transfer=True), Entry("cw-inf", transfer=True), Entry("square"))
_AUTOATTACK = (Entry("autoattack"),)
_APGD = (Entry("apgd"),)
_L2 = (Entry("pgd-sat", threat="l2"), Entry("apgd", threat="l2"), Entry("square", threat="l2"))
_L1 = (Entry("pgd-sat", threat="l1"), Entry("apgd", threat="l1"), Entry("square", threat="l1"))
_GEOMETRIC = (Entry("geometric"),)
_CORRUPTIONS = tuple(Entry(f"corruption-{kind}-{severity}") for kind in CORRUPTIONS for severity in SEVERITIES)
_UNSEEN = (
    *(Entry("apgd", threat=threat) for threat in ("1.5x", "l2", "l1")),
    *_GEOMETRIC,
    *(Entry(f"corruption-{kind}-3") for kind in CORRUPTIONS),
)
_CURVE = tuple(map(Entry, CURVES))
_DARD = (Entry("fgsm"), Entry("pgd-20"), Entry("t-pgd"), Entry("bim"), Entry("dpgd"), Entry("autoattack"))

SUITES = {
    suite.name: suite
    for suite in (
        Suite("clean", "no attack: accuracy on the images as they are", ()),
        Suite("whitebox", "gradient attacks on the student itself (Tables 2, 3, 4, 7)", _WHITEBOX),
        Suite("blackbox", "transfer from the robust teacher, and Square on the student (Tables 5, 6)", _BLACKBOX),
        Suite("apgd", "APGD-CE, and APGD-T on those that survive: the first two of AutoAttack", _APGD),
        Suite("autoattack", "the standard AutoAttack ensemble", _AUTOATTACK),
        Suite("l2", "PGD, APGD and Square in L2: within 0.5, or a dataset's own radius", _L2),
        Suite("l1", "PGD, APGD and Square in L1: within 12, or a dataset's own radius", _L1),
        Suite("unseen", "other radii and norms, rotations and translations, corruptions of severity 3", _UNSEEN),
        Suite("geometric", "the worst of a grid of rotations and translations", _GEOMETRIC),
        Suite("corruptions", "15 common corruptions at 5 severities", _CORRUPTIONS),
        Suite("curve", "accuracy over the radius: FMN, and PGD at eight radii to check it", _CURVE),
        Suite("dard", "what DARD is evaluated with, AutoAttack included", _DARD),
        Suite("full", "whitebox, blackbox and autoattack", _WHITEBOX + _BLACKBOX + _AUTOATTACK),
    )
}

TEACHERS = SUITES["whitebox"]
"""What every teacher is evaluated with."""
LOOK = "pgd-sat"
"""The attack of a look at a network: of training at its student, and of whoever asks whether a teacher is robust."""
GRADIENT_FREE = "square"
"""The attack that needs no gradient: what gradient attacks are held against where gradients may be masked."""
UNIT_OF_COST = "sat"
"""The defense whose step costs 1 in the cost table."""

ENSEMBLE = "autoattack"
"""The attack that a claim of robustness is measured by (RobustBench), and none weaker should beat."""
FIGURE_3 = ("mtard", "ciard")
"""The two defenses whose curves Figure 3 of the CIARD paper has side by side."""
STRONGEST = ("autoattack", "pgd-sat", "pgd-20", "pgd-trades")
"""What to show of a model's results where one is shown or comes first: of these the first that was run."""
SHOWN = ("pgd-sat", "pgd-20", "pgd-trades", "bim")
"""Attacks whose images can be made again and shown: of these the first that was run."""

_BY_STRENGTH = ("fgsm", "bim", "t-pgd", "pgd-20", "pgd-sat", "pgd-trades", "dpgd", "cw-inf", "apgd")
PUBLISHED = ("cifar10-c", "cifar100-c")
"""Corruptions that their authors published as arrays: a suite with the folder they lie in, `cifar10-c:DIR`."""
_BY_QUERIES = ("square",)


def strength(result: str) -> tuple[int, int, int, str]:
    """What sorts the results of records for readers: `clean`, white-box attacks from weak to strong, the ensemble.

    An attack that is not known here stands before the ensemble; what queries and what was transferred comes last, and
    after all of the dataset's own threat those under another one.
    """
    entry = Entry.of(result)
    place = _BY_STRENGTH.index(entry.attack) if entry.attack in _BY_STRENGTH else len(_BY_STRENGTH)
    kinds = (entry.attack == "clean", entry.transfer, entry.attack in _BY_QUERIES, entry.attack == ENSEMBLE)
    kind = (0, 4, 3, 2)[kinds.index(True)] if any(kinds) else 1
    return int(entry.threat is not None), kind, place, result


def suite_named(name: str) -> Suite:
    """A suite by its name; an attack's name, also with a threat (`pgd-sat@l2:0.5`), stands for the suite of it alone.

    `cifar10-c:DIR` are the published arrays of corruptions in a folder. A `BenchError` names what is closest to one
    that is none.
    """
    if name in SUITES:
        return SUITES[name]
    published, colon, folder = name.partition(":")
    if colon and published in PUBLISHED:
        if not (Path(folder) / "labels.npy").is_file():
            raise BenchError(
                f"There is no labels.npy in {folder}.\nGive the folder with the published KIND.npy and labels.npy: "
                f"{published}:DIR."
            )
        entries = tuple(Entry(f"published-{entry.attack}") for entry in _CORRUPTIONS)
        return Suite(published, f"the published corruptions in {folder}", entries, {"folder": folder})
    entry = Entry.of(name)
    if entry.transfer or not registry.serves("attacks", entry.attack):
        raise unknown_name("suite", name, {*SUITES, *registry.names("attacks")})
    if entry.attack not in registry.names("attacks"):
        registry.attack_class(entry.attack)  # of a pattern: whether it has one of this name
    return Suite(entry.result, f"{entry.result} on the student", (entry,))


def suites_named(names: Sequence[str]) -> Suite:
    """Several suites or attacks as one: each attack once, in the order they are named in.

    Its name is the same in whichever order they come. A `BenchError` names what is closest to one that is none.
    """
    suites = [suite_named(name) for name in dict.fromkeys(names)]
    suites = [suite for suite in suites if suite.entries] or suites[:1]  # clean accuracy is measured in every one
    if len(suites) == 1:
        return suites[0]
    entries = tuple(dict.fromkeys(entry for suite in suites for entry in suite.entries))
    places = {name: place for suite in suites for name, place in suite.places.items()}
    return Suite(",".join(sorted(suite.name for suite in suites)), "several at once", entries, places)
