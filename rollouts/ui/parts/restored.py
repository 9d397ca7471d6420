"""A database that is an older copy, wherever it is shown: what serves, what the database says, and who chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from controlplane.access.roles import Action, refusal
from controlplane.kernel.words import percent_of_bp
from rollouts.domain.restored import CHOICE_OPEN, Restored, RestoredState
from rollouts.models import Endpoint

_SENTENCES = {
    RestoredState.WATCHING: (
        "This database is an older copy, or another control plane is at work.",
        "The router and the cluster know a newer writer. Nothing is changed; control is taken again within a minute "
        "when no other one is at work.",
    ),
    RestoredState.RIVAL: (
        "Another control plane is at work.",
        "It writes the same router and cluster. This one changes nothing until the other one has stopped.",
    ),
    RestoredState.HELD: (
        "Held: the database is an older copy than what serves.",
        "Traffic stays as it is and nothing is decided until a release manager chooses.",
    ),
    RestoredState.KEEPING: ("What serves is being kept.", "It becomes the stable variant in a moment."),
    RestoredState.RETURNING: (
        "Returning to what the database says.",
        "Traffic moves when that is ready; until then it stays as it is.",
    ),
}


@dataclass(frozen=True, slots=True)
class RestoredNote:
    """The card on an endpoint's page.

    strong, first   what it is and what happens
    served, believed   (variant, share) of the router now, and of the database
    rollout         the rollout that the database holds for under way
    keepable        variants that may be kept, the one with most traffic first; `unkept` the others, with the reason
    may_choose      a choice is open; `refused`: why this person may not make it
    """

    tone: str
    strong: str
    first: str
    since: datetime
    served: tuple[tuple[str, str], ...]
    believed: tuple[tuple[str, str], ...]
    rollout: int | None
    keepable: tuple[str, ...]
    unkept: tuple[str, ...]
    may_choose: bool
    refused: str
    problem: str


def restored_note(endpoint: Endpoint, role: str) -> RestoredNote | None:
    """None while the database is no older copy."""
    state = RestoredState(endpoint.restored_state)
    if state is RestoredState.NONE:
        return None
    found = Restored.from_json(endpoint.restored)
    strong, first = _SENTENCES[state]
    by_share = sorted(found.served, key=lambda name: (-found.served[name], name))
    return RestoredNote(
        tone="warn" if state in (RestoredState.KEEPING, RestoredState.RETURNING) else "fail",
        strong=strong,
        first=first,
        since=datetime.fromtimestamp(found.since, tz=UTC),
        served=_rows(found.served),
        believed=_rows(found.believed),
        rollout=found.rollout,
        keepable=tuple(name for name in by_share if name not in found.unkept),
        unkept=tuple(found.unkept[name] for name in by_share if name in found.unkept),
        may_choose=state in CHOICE_OPEN,
        refused=refusal(role, Action.EDIT_ENDPOINT),
        problem=found.problem,
    )


def _rows(shares: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, percent_of_bp(bp)) for name, bp in sorted(shares.items(), key=lambda row: (-row[1], row[0]))
    )
