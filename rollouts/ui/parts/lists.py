"""The list of endpoints and the list of rollouts as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from controlplane.kernel.words import duration_of_seconds
from rollouts import selectors
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.models import Rollout
from rollouts.ui.parts.arm_words import versions_text
from rollouts.ui.parts.odd_rows import CANNOT_BE_SHOWN, or_odd
from rollouts.ui.parts.phases import Pill, cause_words
from rollouts.ui.strategies import pill_of

A_PAGE = 25
FILTERS = {"all": "All", "active": "Active", "promoted": "Promoted", "rolled-back": "Rolled back"}


@dataclass(frozen=True, slots=True)
class RolloutRow:
    rollout: Rollout
    pill: Pill
    versions: str
    cause: str
    by: str
    took: str


@dataclass(frozen=True, slots=True)
class RolloutList:
    """One page. `older` is the number to go on below, None at the end; `endpoint` and `policy` whose they are, empty:
    everybody's."""

    rows: tuple[RolloutRow, ...]
    older: int | None
    chosen: str
    endpoint: str
    policy: str
    now: datetime

    @property
    def narrowed(self) -> str:
        """What an address of another page or filter of this list begins with, so that it stays the same list."""
        kept = {"endpoint": self.endpoint, "policy": self.policy}
        return "".join(f"{urlencode({name: value})}&" for name, value in kept.items() if value)

    @property
    def filters(self) -> list[tuple[str, str]]:
        return list(FILTERS.items())


def rollout_list(
    *, chosen: str, before: int | None, now: datetime, endpoint: str = "", policy: str = ""
) -> RolloutList:
    """Rollouts, newest first, below the number `before`; an unknown filter shows all. Raises NotFound (endpoint)."""
    found = selectors.rollouts_where(endpoint=endpoint)
    if policy:
        found = found.filter(gate_policy__name=policy, own_policy__isnull=True)
    if chosen == "active":
        found = found.filter(phase__in=selectors.ACTIVE_PHASES)
    if chosen == "promoted":
        found = found.filter(phase=Phase.SUCCEEDED.value)
    elif chosen == "rolled-back":
        found = found.filter(
            phase__in=[Phase.ROLLING_BACK.value, Phase.ROLLED_BACK.value, Phase.FAILED.value]
        )
    if before is not None:
        found = found.filter(pk__lt=before)
    rollouts = list(found[: A_PAGE + 1])
    older = rollouts[A_PAGE - 1].pk if len(rollouts) > A_PAGE else None
    rows = tuple(rollout_row(rollout, now) for rollout in rollouts[:A_PAGE])
    return RolloutList(rows, older, chosen if chosen in FILTERS else "all", endpoint, policy, now)


def rollout_row(rollout: Rollout, now: datetime) -> RolloutRow:
    """One line; reads nothing more from the database. One whose stored values are odd is named with what is wrong."""
    return or_odd(
        f"rollout #{rollout.pk}",
        lambda: _rollout_row(rollout, now),
        lambda words: RolloutRow(rollout, CANNOT_BE_SHOWN, versions="", cause=words, by="", took=""),
    )


def _rollout_row(rollout: Rollout, now: datetime) -> RolloutRow:
    ended = rollout.finished_at if Phase(rollout.phase) not in ACTIVE and rollout.finished_at else now
    return RolloutRow(
        rollout=rollout,
        pill=pill_of(rollout, now),
        versions=versions_text(rollout),
        cause=cause_words(rollout) if rollout.cause else "",
        by=rollout.created_by.username if rollout.created_by else "Headgate",
        took=duration_of_seconds((ended - rollout.created_at).total_seconds()),
    )
