"""What a duel came to, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.answer import answer
from bench.analysis.compare import Comparison, Side
from bench.analysis.compare_text import shared_teachers
from bench.evaluation.suites import ENSEMBLE, STRONGEST
from bench.records.wording import seeds_text
from bench.report.duel_cost import Costs, Found, networks_of, records_of
from bench.stats import LEAST_SEEDS
from bench.system.text import duration
from bench.tables.overview import attack_labels
from bench.vocabulary import Selected

KEPT: dict[Selected, str] = {"best": "Selected weights", "last": "Last weights"}


def verdict(found: Found, costs: Costs) -> Iterator[str]:
    """For the terminal: what was asked, what it came to, whether checks failed, what it is about, what it cost."""
    first = next(iter(found.values()))
    yield f"{title(first.sides)}: {about(found)}."
    for which, each in found.items():
        yield " ".join([f"{KEPT[which]}:"] * (len(found) > 1) + said(each))
    flagged = {record.id for own in networks_of(found).values() for record in records_of(own) if record.flags}
    if flagged:
        several = "s" * (len(flagged) > 1)
        yield f"Checks of {len(flagged)} evaluation{several} failed: numbers may be too high; the page names them."
    yield " ".join([*limits(first), *_cost_text(costs)])


def title(sides: Sequence[Side]) -> str:
    """`CIARD against RSLAD`, `CIARD, RSLAD and SAT`."""
    *others, last = (side.name for side in sides)
    return f"{', '.join(others)} {'against' if len(sides) == 2 else 'and'} {last}"


def about(found: Found) -> str:
    """Which networks, trained and attacked how; whatever was reduced is named."""
    comparison = next(iter(found.values()))
    models = dict.fromkeys(network.subject.model for side in comparison.sides for network in side.networks)
    seeds = dict.fromkeys(seeds_text(_seeds(side)) for side in comparison.sides)
    which = " and ".join(KEPT[each].lower() for each in found)
    return (
        f"student {' and '.join(models)}, {_setting(comparison)}; seeds of each: {' and '.join(seeds)}; {which}, "
        f"attacked on {_images(comparison)}"
    )


def _setting(comparison: Comparison) -> str:
    settings = dict.fromkeys(network.subject.setting for side in comparison.sides for network in side.networks)
    return "; ".join(settings)


def _images(comparison: Comparison) -> str:
    """What was attacked: how many images of how many, under which threat."""
    measured = comparison.sides[0].networks[0].measured
    totals = {condition: each.record.data.total for (condition, _), each in measured.items()}
    texts = [
        f"{each.n:,} of {totals[each]:,} test images of {each.dataset} within {each.threat.text}"
        for each in sorted({contrast.condition for contrast in comparison.contrasts})
    ]
    return " and ".join(dict.fromkeys(texts))


def _seeds(side: Side) -> list[int]:
    return [network.subject.seed for network in side.networks if network.subject.seed is not None]


def said(comparison: Comparison) -> list[str]:
    """Of three sides or more their order; then the answers, each as `bench compare` gives it."""
    groups = comparison.by_condition
    conditions = {condition for _, condition in groups}
    texts = []
    for (pair, condition), contrasts in groups.items():
        where = [f"{pair[0]} against {pair[1]}"] * (len(comparison.sides) > 2)
        where += [f"on {condition}"] * (len(conditions) > 1)
        texts.append(f"{', '.join(where)}: {answer(contrasts)}" if where else answer(contrasts))
    return [*(_orders(comparison) if len(comparison.sides) > 2 else ()), *texts]


def _orders(comparison: Comparison) -> Iterator[str]:
    """The sides in the order of their robust accuracy under the strongest attack, and which of them were told apart."""
    robust = [each for each in comparison.contrasts if each.quantity == "robust"]
    attack = next((name for name in STRONGEST if any(each.attack == name for each in robust)), None)
    for condition in sorted({each.condition for each in robust}):
        pairs = [each for each in robust if (each.attack, each.condition) == (attack, condition)]
        values = {
            name: number.value for each in pairs for name, number in zip(each.sides, each.accuracies, strict=True)
        }
        if attack is None or len(values) < len(comparison.sides):
            continue
        ranked = sorted(values, key=lambda name: -values[name])
        order = ", ".join(f"{name} {100 * values[name]:.2f} %" for name in ranked)
        open_ = [f"{each.sides[0]} and {each.sides[1]}" for each in pairs if not each.found]
        apart = "all of them told apart" if not open_ else f"not told apart: {'; '.join(open_)}"
        if len(open_) == len(pairs):
            apart = "no two of them told apart"
        yield f"In order under {attack_labels().get(attack, attack)}: {order}; {apart}."


def limits(comparison: Comparison) -> list[str]:
    """What the verdict is about, and what it rests on."""
    where = f"trained by the {_setting(comparison)}, on {_images(comparison)}"
    if {contrast.test for contrast in comparison.contrasts} == {"welch"}:
        texts = [f"It is a claim about the defenses as they are here: {where}."]
    else:
        texts = [
            f"It is a claim about these networks alone ({where}): one about the defenses takes {LEAST_SEEDS} seeds of "
            "each."
        ]
    texts += shared_teachers(comparison.sides)
    texts += _own_teachers(comparison.sides)
    if not any(contrast.attack == ENSEMBLE for contrast in comparison.contrasts):
        texts.append(
            f"{attack_labels()[ENSEMBLE]} is not among the attacks that all had: accuracies under weaker ones are too "
            "high, not by the same for all, and a lead may be one of hidden gradients."
        )
    return texts


def _own_teachers(sides: Sequence[Side]) -> Iterator[str]:
    """That every seed of a side had teachers of its own."""
    for side in sides:
        if len(side.networks) > 1 and all(network.subject.teacher_seeds for network in side.networks):
            yield f"Each seed of {side.name} learned from teachers of its own: what others change is in its spread."


def _cost_text(costs: Costs) -> Iterator[str]:
    took = [
        f"{name} {duration(sum(cost.training.values()))} to train and {duration(sum(cost.attacks.values()))} to attack"
        for name, cost in costs.sides.items()
        if cost.training
    ]
    if took:
        yield f"A network took: {', '.join(took)}."
    if costs.teachers:
        several = "s" * (len(costs.teachers) > 1)
        yield f"The training of {len(costs.teachers)} teacher{several} took {duration(sum(costs.teachers.values()))}."
