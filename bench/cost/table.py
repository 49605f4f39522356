"""The cost table: what a training step and a whole run of each method take, from what `bench profile` measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from bench.cost.profile import Profile
from bench.evaluation.suites import UNIT_OF_COST
from bench.tables.plain import PlainTable
from bench.threat import NORM_TEXT

_HEADERS = (
    *("Defense", "Phase", "ms/step", "images/s", "GFLOP/image", "attack %", "teachers %", "update %"),
    *("memory GB", "of peak %", "hours/run"),
)
"""Of all columns but the last, which compares with the defense whose step costs 1."""


def cost_tables(profiles: Iterable[Profile]) -> list[PlainTable]:
    """One table for each set of profiles that may be compared, the defenses in alphabetical order.

    A set is of one machine, one dataset, one student, one precision, one norm, the same speed-ups.
    """
    ordered = sorted(profiles, key=lambda profile: (_conditions(profile), profile.method, profile.phase))
    return [_table(list(group)) for _, group in groupby(ordered, key=_conditions)]


def _conditions(profile: Profile) -> tuple[str, ...]:
    return (
        profile.dataset,
        profile.student,
        profile.recipe,
        profile.precision,
        profile.norm,
        profile.device,
        str(profile.threads),
        str(profile.batch_size),
        ", ".join(profile.off),
    )


def _table(profiles: Sequence[Profile]) -> PlainTable:
    from bench.recipes.hyperparameters import method_class  # it brings PyTorch, and a home may have no profiles

    first, unit = profiles[0], method_class(UNIT_OF_COST).label
    costs = [each.phase_share * each.seconds_per_step for each in profiles if each.method == UNIT_OF_COST]
    rows = [_row(profile, method_class(profile.method).label, sum(costs)) for profile in profiles]
    teachers = sorted({f"{role} {model}" for profile in profiles for role, model in profile.teachers.items()})
    packages = first.environment.get("packages")
    torch_version = packages.get("torch") if isinstance(packages, dict) else None
    norm = "" if first.norm == "linf" else f" under {NORM_TEXT[first.norm]}"
    return PlainTable(
        title=f"Cost of training {first.student} on {first.dataset}{norm}",
        headers=(*_HEADERS, f"x {unit}"),
        rows=tuple(rows),
        notes=(
            f"{first.recipe} recipe, batches of {first.batch_size}, precision {first.precision}, images of shape "
            f"{' x '.join(map(str, first.image_shape))}; teachers: {', '.join(teachers) or 'none'}; random weights.",
            f"Measured on {first.device}, threads: {first.threads}, torch {torch_version}, by `bench profile`; "
            f"speed-ups switched off: {', '.join(first.off) or 'none'}.",
            "ms/step: median of "
            + _range([profile.steps for profile in profiles])
            + " steps, with half the distance between the quartiles. hours/run: training steps alone, by the recipe's "
            "epochs and phases, without teachers' training and evaluation.",
            f"of peak: share of the best matrix product measured here, {first.peak_flops / 1e12:.2f} TFLOP/s. "
            "GFLOP: convolutions and matrix products of the definition's passes, a multiply-add as two.",
            f"x {unit}: seconds a step as a multiple of {unit}'s." if costs else f"x {unit}: {unit} was not measured.",
        ),
    )


def _row(profile: Profile, label: str, unit: float) -> tuple[str, ...]:
    return (
        f"{label} ({profile.variant})",
        f"{profile.phase}, {profile.phase_share:.0%} of epochs" if profile.phase else "",
        f"{1000 * profile.seconds_per_step:.4g} ± {1000 * profile.seconds_spread:.2g}",
        f"{profile.images_per_second:.4g}",
        f"{profile.flops_per_image / 1e9:.3g}",
        *(f"{100 * profile.shares[part]:.0f}" for part in ("attack", "teachers", "update")),
        f"{profile.peak_memory / 1e9:.2f}",
        f"{100 * profile.fraction_of_peak:.0f}",
        f"{profile.seconds_of_phase / 3600:.3g}",
        f"{profile.seconds_per_step / unit:.2f}" if unit else "–",
    )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
