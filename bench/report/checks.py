"""What each failed sanity check of an evaluation means, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bench.records.record import Record
from bench.system.text import defense_label
from bench.tables.cell import DASH
from bench.tables.plain import PlainTable


@dataclass(frozen=True)
class Check:
    """A check of `bench.evaluation.sanity`.

    Attributes:
        key: names its place on the page.
        pattern: finds its flags, as `bench.evaluation.sanity` words them.
        title, meaning, remedy: for readers.
    """

    key: str
    pattern: str
    title: str
    meaning: str
    remedy: str


CHECKS = (
    Check(
        "chance",
        r"^clean accuracy is .* chance",
        "Nothing is known before the attack",
        "Without any attack the model may as well guess. What attacks then leave standing says nothing.",
        "Look for a wrong checkpoint, a normalisation left out or applied twice, or labels in another order.",
    ),
    Check(
        "probabilities",
        r"^the outputs are probabilities",
        "The outputs are probabilities",
        "Attacks take the outputs for logits and put a softmax of their own behind them. On probabilities that leaves "
        "hardly any gradient, so the robust accuracy is too high.",
        "Take the softmax off the model's end and evaluate again.",
    ),
    Check(
        "own-radius",
        r"was run at its own eps = ",
        "An attack was run at a radius of its own",
        "The attack does not declare that its eps scales with a dataset's, so it was run within its own. Its number is "
        "not one of the threat model that the column names.",
        "Read it with the eps among its parameters in the record, and compare it with no other attack.",
    ),
    Check(
        "weaker-than-autoattack",
        r"breaks more than AutoAttack",
        "A single attack beats AutoAttack",
        "AutoAttack runs four attacks and keeps the best of each image, so PGD alone should not break significantly "
        "more. If it does, AutoAttack failed on this model, and its robust accuracy is too high.",
        "Trust the lower number. Look for a forward pass that changes from call to call, or precision lost in logits.",
    ),
    Check(
        "transfer-beats-white-box",
        r"^(a transferred|transfer:).* breaks more than",
        "A transferred attack beats the white-box one",
        "Images crafted on another network break more than images crafted on the model itself. The attacker who knows "
        "more did worse: the model hides its gradients rather than resists.",
        "Take the lower number as the bound. Attack with Square and AutoAttack, which depend less on gradients.",
    ),
    Check(
        "gradients-may-be-masked",
        r"breaks more than .*: gradients may be masked",
        "One step, or no gradient at all, beats PGD",
        "FGSM takes one step where PGD takes twenty, and Square uses no gradient. If they break significantly more, "
        "PGD was misled: the loss surface is jagged or flat around the images (gradient masking).",
        "Do not quote the PGD number as robustness. Use AutoAttack, more restarts, or another loss.",
    ),
    Check(
        "step-length-decides",
        r"the step's length decides",
        "The step's length decides",
        "PGD-SAT and PGD-TRADES differ in the length of a step alone and should leave about the same share standing. "
        "A gap beyond a tenth of the images says that gradients are only locally of use.",
        "Attack with several step lengths and take the lowest accuracy.",
    ),
    Check(
        "curves-disagree",
        r"is too weak at radius",
        "Two ways to the curve over the radius disagree",
        "FMN looks for the nearest image that fools the model, PGD at a few radii for any. At one radius the two leave "
        "shares standing that differ by more than chance: the one that leaves more stopped too early there.",
        "Take the lower of the two at each radius; give FMN or PGD more steps (--attack-set steps=...).",
    ),
    Check(
        "square-finds-more",
        r"AutoAttack's Square breaks",
        "AutoAttack's Square finds what its gradient attacks missed",
        "Square comes last in the ensemble and should find next to nothing. Its authors doubt an evaluation in which "
        "it breaks more than 0.2 % of the images.",
        "Suspect masked gradients; attack adaptively, with the defense's own structure in mind.",
    ),
    Check(
        "more-steps-help-the-model",
        r"breaks less with twice the steps",
        "More steps help the model",
        "An attack that goes on for longer should never break less. If it does, its steps lead away from errors.",
        "Take the lower number; look at the attack's loss over its steps.",
    ),
    Check(
        "random-model",
        r"predictions change from one pass to the next",
        "The model answers at random",
        "Two passes over the same images gave different predictions, so a single pass says little, for the attacker "
        "as for the evaluation.",
        "Attack the mean of many passes (expectation over transformation), and report the randomness.",
    ),
    Check(
        "noise-beats-the-attack",
        r"random noise breaks more than",
        "Random noise beats the attack",
        "A random corner of the ball breaks more than an optimised one: the gradient points nowhere.",
        "The robust accuracy says nothing as it is. Check that the gradient reaches the images.",
    ),
    Check(
        "larger-ball-is-weaker",
        r"breaks less with eps = |, the larger ball",
        "A larger ball is weaker",
        "Every image within a small eps is within a larger one too, so accuracy must fall as eps grows.",
        "The attack does not converge. Use more steps, and steps that scale with eps.",
    ),
    Check(
        "eps-one-leaves-samples",
        r"with eps = [0-9.]+ leaves",
        "With eps = 1 something still stands",
        "With eps = 1 (in L2 the root of the number of values, in L1 that number) an attack may paint any image it "
        "likes, a grey one for every sample, so nothing should stand.",
        "The gradient is of no use to the attack. Do not quote its robust accuracy.",
    ),
    Check(
        "gradient-vanishes",
        r"the gradient vanishes",
        "The gradient vanishes",
        "The loss has no gradient (zero, or not finite) at more than one image in twenty. Gradient attacks stand still "
        "there, whatever the model.",
        "Attack without gradients (Square), or replace what has none (a quantiser, say) by what has.",
    ),
    Check(
        "not-checked",
        r"^not checked",
        "Nobody looked",
        "The evaluation was made without the checks that attack images of their own (--no-checks, checks=False). "
        "Whether its attacks were weak is not known.",
        "Evaluate again with them; they cost at most half of what the attacks do.",
    ),
)


def explained(flag: str) -> Check | None:
    """The check that a flag is of; None for one of another version, or of a plug-in's."""
    return next((check for check in CHECKS if re.search(check.pattern, flag)), None)


def table(records: Iterable[Record]) -> PlainTable:
    """Every failed check of every record."""
    headers = ("Defense", "Subject", "Student", "Dataset", "Suite", "Protocol", "n", "Seed", "Failed check")
    rows = tuple(
        (
            *(
                defense_label(record.subject.label, record.subject.overrides),
                record.subject.kind,
                record.subject.model,
                record.data.name,
            ),
            *(record.suite, record.conduct, str(record.data.n)),
            DASH if record.subject.seed is None else str(record.subject.seed),
            flag,
        )
        for record in records
        for flag in dict.fromkeys(record.flags)
    )
    return PlainTable("Failed sanity checks", headers, rows)
