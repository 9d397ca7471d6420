"""Where a bandit sent the traffic over time, as JSON that `static/charts.js` draws (shape in `ui/charts.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db.models import F, Max

from controlplane.web.words import share_text
from rollouts.domain.intervals import BASELINE
from rollouts.domain.states import FINAL, Phase
from rollouts.models import Evidence, HistoryEvent, Rollout
from rollouts.ui.bandit_words import arm_labels, colour_of

MOST_POINTS = 200
EVENT_MARKS = {"promote": "100%", "roll-back": "back"}

Json = dict[str, Any]


def allocation(*, rollout: Rollout, since: float | None) -> Json:
    """The observed shares of all arms, the candidates below the baseline, at most MOST_POINTS points.

    A long rollout is sampled at every n-th interval (`bucket`), always at the same ones, so that a client can go on
    from what it has. Five queries whatever the length.
    """
    labels = arm_labels(rollout)
    names = [*(name for name in labels if name != BASELINE), BASELINE]
    evidence = Evidence.objects.filter(rollout=rollout)
    newest = evidence.aggregate(newest=Max("index"))["newest"]
    stride = 1 if newest is None else newest // MOST_POINTS + 1
    wanted = evidence.annotate(slot=F("index") % stride).filter(slot=0)
    if since is not None:
        wanted = wanted.filter(ended_at__gt=datetime.fromtimestamp(since, tz=UTC))
    rows = list(wanted.order_by("index").values_list("ended_at", "interval__shares"))
    began = (rollout.traffic_at or rollout.created_at).timestamp()
    ended = rollout.finished_at if Phase(rollout.phase) in FINAL else rollout.measured_at
    last = max(ended.timestamp() if ended else began, began + 60)
    return {
        "label": _words(rollout, labels),
        "unit": "%",
        "stack": True,
        "y": [0, 100],
        "x": [began, last],
        "bucket": stride,
        "arms": [{"arm": colour_of(name), "name": labels.get(name, name)} for name in names],
        "t": [at.timestamp() for at, _ in rows],
        "values": [[_percent(shares, name) for _, shares in rows] for name in names],
        "plan": None,
        "marks": _marks(rollout, labels),
        "limit": None,
    }


def _percent(shares: Any, name: str) -> float | None:
    """An arm's share; None where the router could not be read, never a zero."""
    return round(int(shares.get(name, 0)) / 100, 2) if shares else None


def _words(rollout: Rollout, labels: Mapping[str, str]) -> str:
    now = ", ".join(
        f"{labels[arm.name]} {share_text(arm.observed_bp)}"
        for arm in sorted(rollout.arms.all(), key=lambda arm: -arm.observed_bp)
    )
    return f"Traffic by arm over time. Now: {now}."


def _marks(rollout: Rollout, labels: Mapping[str, str]) -> list[Json]:
    """When the burn-in ended, when each arm left the race, and the end."""
    marks = []
    if rollout.verdicts and not rollout.verdicts["burn_in"]:
        ended = Evidence.objects.filter(rollout=rollout, verdicts__burn_in=False).order_by("index")
        marks = [_mark(at, "burn-in ends") for at in ended.values_list("ended_at", flat=True)[:1]]
    at_index = {arm["at_index"]: arm["name"] for arm in rollout.verdicts.get("arms", ())}
    counted = Evidence.objects.filter(rollout=rollout, index__in=[i for i in at_index if i is not None])
    left = {at_index[index]: at for index, at in counted.values_list("index", "ended_at")}
    left |= {arm.name: arm.dropped_at for arm in rollout.arms.all() if arm.dropped_at is not None}
    marks += [_mark(at, f"{labels[name]} out") for name, at in left.items()]
    events = HistoryEvent.objects.filter(rollout=rollout, kind__in=tuple(EVENT_MARKS))
    marks += [_mark(at, EVENT_MARKS[kind]) for kind, at in events.values_list("kind", "at")]
    return sorted(marks, key=lambda mark: float(mark["t"]))


def _mark(at: datetime, label: str) -> Json:
    return {"t": at.timestamp(), "label": label}
