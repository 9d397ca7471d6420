"""An endpoint whose turns of the loop fail, on its page, on those of its rollouts, and among what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollouts.models import Endpoint, Rollout
from rollouts.ui.parts.mlflow_words import moment_text

PATIENCE = timedelta(minutes=1)  # what a second try mends needs no person


@dataclass(frozen=True, slots=True)
class StuckNote:
    strong: str
    words: str


def stuck_note(found: Endpoint | Rollout, now: datetime) -> StuckNote | None:
    """Why the loop cannot work on it now; None when it can. `found` is a row of `selectors.endpoints` or
    `selectors.rollouts`."""
    error: str | None = found.__dict__.get("turn_error")
    since: datetime | None = found.__dict__.get("turn_since")
    if error is None or since is None:
        return None
    words = f"It has failed since {moment_text(since, now)} and is tried again every few seconds: {error}"
    return StuckNote("The loop cannot work on this endpoint.", words)


def needs_a_person(since: datetime | None, now: datetime) -> bool:
    """Whether its turns have failed since that moment for longer than a further try mends."""
    return since is not None and now - since >= PATIENCE
