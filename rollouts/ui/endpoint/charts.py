"""The last 24 hours of an endpoint as JSON for `static/charts.js`: minutes, taken together to what a chart
shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.kernel.errors import NotFound
from rollouts.domain.gates.latency import timed_against
from rollouts.domain.record.intervals import LatencyCounts
from rollouts.models import Arm, Endpoint, HistoryEvent, MinuteSample
from rollouts.ui.parts.arm_words import colour_of
from rollouts.ui.rollout.charts import ChartJson

DAY = timedelta(hours=24)
MINUTES_A_POINT = 5
SHORT = timedelta(hours=2)
"""A history shorter than this is drawn by the minute."""

Row = Mapping[str, Any]
MinuteMeasure = Callable[[Sequence[Row]], float | None]


def endpoint_chart(
    *, endpoint: Endpoint, candidates: Sequence[Arm], name: str, since: float | None, now: datetime
) -> ChartJson:
    """One chart: requests, ttft, errors, ready, kv-cache or tokens. Raises NotFound for another name.

    Rates cover all variants; the rest is drawn apart for each candidate of the active rollout.
    """
    charts = _charts(endpoint)
    if name not in charts:
        raise NotFound(f"There is no chart {name!r} here.")
    title, unit, apart, columns, measure = charts[name]
    rows = _rows(endpoint, columns, now)
    width = 1 if not rows or now - rows[0]["minute"] < SHORT else MINUTES_A_POINT
    groups: dict[float, list[Row]] = defaultdict(list)
    this_minute = now.replace(second=0, microsecond=0)
    for row in rows:
        if row["minute"] < this_minute:
            groups[row["minute"].timestamp() // (60 * width) * (60 * width)].append(row)
    times = [at for at in sorted(groups) if since is None or at + 60 * width > since]
    arms: list[ChartJson] = [{"arm": 0, "name": "all variants", "fill": True}]
    values = [[measure(groups[at]) for at in times]]
    if apart:
        arms = [{"arm": 0, "name": "stable", "step": name == "ready"}]
        apart_of = [arm.variant_id for arm in candidates]
        rest = {at: [row for row in groups[at] if row["variant_id"] not in apart_of] for at in times}
        values = [[measure(rest[at]) for at in times]]
        for arm in candidates:
            arms.append({"arm": colour_of(arm.name), "name": arm.name, "step": name == "ready"})
            own = {at: [row for row in groups[at] if row["variant_id"] == arm.variant_id] for at in times}
            values.append([measure(own[at]) for at in times])
    last = next((value for value in reversed(values[0]) if value is not None), None)
    return {
        "label": f"{title} over the last 24 hours, now {'no data' if last is None else f'{last:g}{unit}'}.",
        "unit": unit,
        "stack": False,
        "y": [0, 100] if name == "kv-cache" else _whole_axis(values) if name == "ready" else None,
        "x": None,
        "bucket": width,
        "arms": arms,
        "t": times,
        "values": values,
        "plan": None,
        "marks": _marks(endpoint, now),
        "limit": None,
        "from": (now - DAY).timestamp(),
    }


def _whole_axis(values: Sequence[Sequence[float | None]]) -> list[float]:
    known = [value for column in values for value in column if value is not None]
    return [0, max([2.0, *known]) + (1 if known and max(known) > 1 else 0)]


def _charts(endpoint: Endpoint) -> dict[str, tuple[str, str, bool, tuple[str, ...], MinuteMeasure]]:
    gates = endpoint.gate_policy.policy.gates
    slo = next(
        (gate.slo_seconds for gate in gates if gate.kind == "latency_slo" and gate.signal == "ttft"), None
    )
    found: dict[str, tuple[str, str, bool, tuple[str, ...], MinuteMeasure]] = {
        "requests": ("Requests a second", "", False, ("requests",), _per_second("requests")),
        "errors": ("Share of requests that failed", "%", True, ("requests", "errors"), _error_share),
        "ready": ("Ready replicas", "", True, ("ready",), _ready),
        "kv-cache": ("KV cache in use", "%", True, ("kv_cache_share",), _kv_cache),
        "tokens": ("Output tokens a second", "", False, ("tokens",), _per_second("tokens")),
    }
    if slo is not None:
        found["ttft"] = ("Share of requests over the objective", "%", True, ("latency",), _over(slo))
    return found


def _rows(endpoint: Endpoint, columns: tuple[str, ...], now: datetime) -> list[Row]:
    samples = MinuteSample.objects.filter(endpoint=endpoint, minute__gte=now - DAY)
    return list(samples.order_by("minute").values("minute", "variant_id", *columns))


def _marks(endpoint: Endpoint, now: datetime) -> list[ChartJson]:
    events = HistoryEvent.objects.filter(endpoint=endpoint, kind="start", at__gte=now - DAY).order_by("id")
    return [
        {"t": at.astimezone(UTC).timestamp(), "label": f"#{rollout}"}
        for at, rollout in events.values_list("at", "rollout_id")
    ]


def _per_second(column: str) -> MinuteMeasure:
    def measure(rows: Sequence[Row]) -> float | None:
        minutes = len({row["minute"] for row in rows})
        return round(sum(row[column] for row in rows) / (60 * minutes), 2) if minutes else None

    return measure


def _error_share(rows: Sequence[Row]) -> float | None:
    requests = sum(row["requests"] for row in rows)
    return round(100 * sum(row["errors"] for row in rows) / requests, 3) if requests else None


def _ready(rows: Sequence[Row]) -> float | None:
    if not rows:
        return None
    newest = max(row["minute"] for row in rows)
    return float(sum(row["ready"] for row in rows if row["minute"] == newest))


def _kv_cache(rows: Sequence[Row]) -> float | None:
    known = [row["kv_cache_share"] for row in rows if row["kv_cache_share"] is not None]
    return round(100 * max(known), 1) if known else None


def _over(slo_seconds: float) -> MinuteMeasure:
    def measure(rows: Sequence[Row]) -> float | None:
        histograms = (row["latency"].get("ttft") for row in rows)
        found = [timed_against(LatencyCounts.from_json(one), slo_seconds) for one in histograms if one]
        total = sum(one.trials for one in found if one is not None)
        over = sum(one.over for one in found if one is not None)
        return round(100 * over / total, 3) if total else None

    return measure
