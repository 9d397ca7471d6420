"""Where a bandit sent the traffic over time: JSON that `static/charts.js` draws (shape: `ui/rollout/charts.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.errors import NotFound
from controlplane.kernel.words import percent_of_bp
from rollouts.domain.lifecycle.states import FINAL, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.evidence import burn_in_end, thin_series, times_of
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.parts.arm_words import arm_labels, colour_of

MOST_POINTS = 200
EVENT_MARKS = {"promote": "100%", "roll-back": "back"}

ChartJson = dict[str, Any]


def bandit_chart(*, rollout: Rollout, name: str, since: float | None, now: datetime) -> ChartJson:
    """The one chart of a bandit, `traffic`. Raises NotFound for another name."""
    if name != "traffic":
        raise NotFound(f"There is no chart {name!r} of a bandit: its gates are tables, one an arm.")
    return allocation(rollout=rollout, since=since)


def allocation(*, rollout: Rollout, since: float | None) -> ChartJson:
    """The observed shares of all arms, the candidates below the baseline, at most MOST_POINTS points.

    A long rollout is sampled: the first interval of every `bucket` seconds, so that a client can go on from what it
    has. The number of queries does not depend on the length.
    """
    labels = arm_labels(rollout)
    names = [*(name for name in labels if name != BASELINE), BASELINE]
    began = (rollout.traffic_at or rollout.created_at).timestamp()
    ended = rollout.finished_at if Phase(rollout.phase) in FINAL else rollout.measured_at
    last = max(ended.timestamp() if ended else began, began + 60)
    bucket = max(1, round((last - began) / MOST_POINTS))
    rows = _sampled(rollout, bucket, since)
    return {
        "label": _words(rollout, labels),
        "unit": "%",
        "stack": True,
        "y": [0, 100],
        "x": [began, last],
        "bucket": bucket,
        "arms": [{"arm": colour_of(name), "name": labels.get(name, name)} for name in names],
        "t": [at for at, _ in rows],
        "values": [[_percent(shares, name) for _, shares in rows] for name in names],
        "plan": None,
        "marks": _marks(rollout, labels),
        "limit": None,
    }


def _sampled(rollout: Rollout, bucket: int, since: float | None) -> list[tuple[float, Any]]:
    """(end, shares) of the first interval in every `bucket` seconds, after those that a client has."""
    after = None if since is None else datetime.fromtimestamp(since, tz=UTC)
    slot = None if since is None else since // bucket
    found = []
    for row in thin_series(rollout.pk, since=after):
        at = float(row["started_at"]) + float(row["seconds"])
        if at // bucket != slot:
            found.append((at, row.get("shares")))
            slot = at // bucket
    return found


def _percent(shares: Any, name: str) -> float | None:
    """An arm's share; None where the router could not be read, never a zero."""
    return round(int(shares.get(name, 0)) / 100, 2) if shares else None


def _words(rollout: Rollout, labels: Mapping[str, str]) -> str:
    now = ", ".join(
        f"{labels[arm.name]} {percent_of_bp(arm.observed_bp)}"
        for arm in sorted(rollout.arms.all(), key=lambda arm: -arm.observed_bp)
    )
    return f"Traffic by arm over time. Now: {now}."


def _marks(rollout: Rollout, labels: Mapping[str, str]) -> list[ChartJson]:
    """When the burn-in ended, when each arm left the race, and the end."""
    marks = []
    if rollout.verdicts and not rollout.verdicts["burn_in"]:
        ended = burn_in_end(rollout.pk)
        marks = [] if ended is None else [_mark(ended, "burn-in ends")]
    at_index = {
        arm["name"]: arm["at_index"]
        for arm in rollout.verdicts.get("arms", ())
        if arm["at_index"] is not None
    }
    times = times_of(rollout.pk, set(at_index.values()))
    left = {name: times[index] for name, index in at_index.items() if index in times}
    left |= {arm.name: arm.dropped_at for arm in rollout.arms.all() if arm.dropped_at is not None}
    marks += [_mark(at, f"{labels[name]} out") for name, at in left.items()]
    events = HistoryEvent.objects.filter(rollout=rollout, kind__in=tuple(EVENT_MARKS))
    marks += [_mark(at, EVENT_MARKS[kind]) for kind, at in events.values_list("kind", "at")]
    return sorted(marks, key=lambda mark: float(mark["t"]))


def _mark(at: datetime, label: str) -> ChartJson:
    return {"t": at.timestamp(), "label": label}
