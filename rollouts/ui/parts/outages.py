"""An outage of the variant that serves, wherever it is shown: since when, how many requests, who answered them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from controlplane.kernel.words import clock_time, duration_of_seconds
from rollouts.domain.gates.outage import Outage
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.serving import outage_sentence
from rollouts.domain.strategies import STRATEGIES, strategy_of
from rollouts.evidence import unread_words
from rollouts.models import Endpoint, Rollout
from rollouts.ui.parts.arm_words import candidate_labels

ANOTHER = "another variant"


@dataclass(frozen=True, slots=True)
class OutageNote:
    """The banner: `strong` says who, since when and for how long, `first` why, `more` what became of the requests."""

    label: str
    since: datetime
    strong: str
    first: str
    more: str


def outage_note(endpoint: Endpoint, now: datetime, *, labels: Mapping[str, str]) -> OutageNote | None:
    """The outage of the stable variant while it lasts; None when it works.

    labels  `v6` by variant name, of the variants that may have answered in its place
    """
    outage = endpoint.serving.lasting
    if outage is None or endpoint.stable is None:
        return None
    why = f"{outage.why[:1].upper()}{outage.why[1:]}."
    return _note(outage, endpoint.stable.version.label, why, helper_of(endpoint, labels), now)


def outage_of_rollout(rollout: Rollout, now: datetime) -> OutageNote | None:
    """The outage of the serving variant while the rollout is under way or watched. None for a rollout that is over,
    and for one that is held by the outage: its own sentence then says everything.
    """
    if not (rollout.is_active or rollout.watching) or _holding(rollout) is not None:
        return None
    return outage_note(rollout.endpoint, now, labels=_labels(rollout))


def holding_note(rollout: Rollout, now: datetime) -> OutageNote | None:
    """The outage of the baseline that the rollout is held by; None when none holds it."""
    outage = _holding(rollout)
    if outage is None:
        return None
    held = rollout.reason.partition(". ")[0]
    candidates = candidate_labels(rollout)
    who = candidates[0] if len(candidates) == 1 else "a candidate"
    why = f"{held}, because {outage.why}. Nothing that is measured meanwhile counts in favour of {who}."
    helper = helper_of(rollout.endpoint, _labels(rollout))
    return _note(outage, rollout.baseline.version.label, why, helper, now)


def helper_of(endpoint: Endpoint, labels: Mapping[str, str]) -> str:
    """Who answers for the stable variant, by name where only one can have: as the route in force says."""
    if "rescuers" in endpoint.applied:
        rescuers = endpoint.applied["rescuers"]
        return labels.get(rescuers[0], ANOTHER) if len(rescuers) == 1 else ANOTHER
    stable = endpoint.stable.name if endpoint.stable is not None else ""
    others = [name for name, share in endpoint.observed_shares.items() if share and name != stable]
    if not others and endpoint.previous is not None:
        others = [endpoint.previous.name]
    return labels.get(others[0], ANOTHER) if len(others) == 1 else ANOTHER


def _note(outage: Outage, label: str, first: str, helper: str, now: datetime) -> OutageNote:
    lasts = duration_of_seconds(max(0.0, now.timestamp() - outage.since))
    return OutageNote(
        label=label,
        since=datetime.fromtimestamp(outage.since, tz=UTC),
        strong=f"{label} has been out of order since {clock_time(outage.since)}, for {lasts}.",
        first=first,
        more=outage_sentence(outage, helper=helper),
    )


def _holding(rollout: Rollout) -> Outage | None:
    """The outage in the last assessment, while the rollout is one that an outage holds. `rollout` is one of
    `selectors.rollouts`."""
    plan = rollout.parsed_plan
    if rollout.phase != Phase.PROGRESSING.value or not rollout.verdicts or plan.strategy not in STRATEGIES:
        return None
    if unread_words(rollout):  # a newer version wrote it: nothing is held by this one's rules
        return None
    outage = strategy_of(plan).ANALYSIS.stored_assessment(rollout.verdicts).outage
    return None if outage is None or outage.over else outage


def _labels(rollout: Rollout) -> Mapping[str, str]:
    return {arm.variant.name: arm.variant.version.label for arm in rollout.arms.all()}
