"""What only a bandit's dry run shows: first shares, what its ratings can decide in which time, engines."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.kernel.words import (
    count_text,
    duration_of_seconds,
    number_text,
    percent_of_bp,
    percent_or_no_data,
)
from rollouts.domain.strategies.bandit.forecast import BanditPreview
from rollouts.ui.parts.arm_words import colour_of


@dataclass(frozen=True, slots=True)
class ArmShare:
    """An arm of the plan: what it gets at first, and the least it keeps."""

    arm: int
    label: str
    name: str
    first: str
    least: str


@dataclass(frozen=True, slots=True)
class DecidedRow:
    """By `after` the others are dropped if the best arm is rated down at most so often."""

    after: str
    rate: str


@dataclass(frozen=True, slots=True)
class BanditPanel:
    """found_in is how long it takes to find an arm rated down half as often as the stable one; empty when unknown.

    shares      (basis points, colour) from left to right; `picture` the same in words
    base        how often the stable variant's answers are rated down; empty when unknown
    """

    found_in: str
    ratings: str
    engines: str
    burn_in: str
    shares: tuple[tuple[int, int], ...]
    picture: str
    arms: tuple[ArmShare, ...]
    base: str
    decided: tuple[DecidedRow, ...]
    sentence: str


def bandit_panel(preview: BanditPreview) -> BanditPanel:
    """The panel of one dry run."""
    outlook = preview.outlook
    arms = tuple(
        ArmShare(
            colour_of(arm.name),
            f"v{arm.version}",
            arm.name,
            percent_of_bp(arm.share_bp),
            percent_of_bp(arm.floor_bp),
        )
        for arm in preview.arms
    )
    found_in, burn_in = "", ""
    if outlook is not None:
        found_in = (
            "not in sight" if outlook.half_seconds is None else duration_of_seconds(outlook.half_seconds)
        )
        burn_in = duration_of_seconds(outlook.burn_in_seconds)
    elif preview.answers_per_second > 0:
        burn_in = duration_of_seconds(preview.spec.burn_in * len(arms) / preview.answers_per_second)
    new = f"{preview.new_engines} new" if preview.new_engines else "all running"
    return BanditPanel(
        found_in=found_in,
        ratings=number_text(preview.ratings_per_hour) if preview.ratings else "none",
        engines=f"{count_text(preview.engines, 'engine')}, {new}",
        burn_in=burn_in,
        shares=tuple((arm.share_bp, colour_of(arm.name)) for arm in preview.arms),
        picture="First shares: " + ", ".join(f"{row.label} {row.first}" for row in arms),
        arms=arms,
        base=percent_or_no_data(outlook.base_rate) if outlook else "",
        decided=tuple(
            DecidedRow(
                duration_of_seconds(one.seconds),
                "not yet" if one.best_rate is None else percent_or_no_data(one.best_rate),
            )
            for one in (outlook.decidable if outlook else ())
        ),
        sentence=outlook.sentence if outlook else "",
    )
