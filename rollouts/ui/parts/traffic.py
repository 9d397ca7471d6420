"""What the minutes of an endpoint say: rate, errors, time to first token. One query for any number of
endpoints.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Count, Sum

from rollouts.models import MinuteSample
from rollouts.ui.parts.odd_rows import or_odd

RECENT = timedelta(minutes=5)
TREND = timedelta(hours=1)
TREND_POINTS = 30
QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the last RECENT minutes, all variants together. None where nothing was measured.

    p95_seconds     time to first token, read off the histogram; infinite above its last edge
    trend           p95 over the last hour, oldest first
    """

    per_second: float | None = None
    errors: float | None = None
    p95_seconds: float | None = None
    trend: tuple[float | None, ...] = ()
    tokens_per_second: float | None = None


def rates_of(endpoints: Collection[int], *, now: datetime) -> Mapping[int, Rates]:
    """Rates by endpoint id, for those that have any minute of the last hour."""
    rows = MinuteSample.objects.filter(endpoint__in=list(endpoints), minute__gte=now - TREND).values(
        "endpoint_id", "minute", "requests", "errors", "latency", "tokens"
    )
    by_endpoint: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_endpoint[row["endpoint_id"]].append(row)
    return {
        key: or_odd(f"endpoint {key}", partial(_rates, found, now), lambda words: Rates())
        for key, found in by_endpoint.items()
    }


def total_per_second(*, now: datetime) -> float:
    """Requests a second of all endpoints together, over the last RECENT minutes: the sum of their `per_second`. One
    query."""
    until = _this_minute(now)
    rows = (
        MinuteSample.objects.filter(minute__gte=until - RECENT, minute__lt=until)
        .order_by()
        .values("endpoint")
        .annotate(all=Sum("requests"), minutes=Count("minute", distinct=True))
    )
    return float(sum(row["all"] / (60 * row["minutes"]) for row in rows))


def _this_minute(now: datetime) -> datetime:
    """The minute under way: it is not over, so its counts would read as a drop."""
    return now.replace(second=0, microsecond=0)


def _rates(rows: Sequence[Mapping[str, Any]], now: datetime) -> Rates:
    until = _this_minute(now)
    recent = [row for row in rows if until - RECENT <= row["minute"] < until]
    requests = sum(row["requests"] for row in recent)
    minutes = len({row["minute"] for row in recent})
    return Rates(
        per_second=requests / (60 * minutes) if minutes else None,
        errors=sum(row["errors"] for row in recent) / requests if requests else None,
        p95_seconds=quantile((row["latency"].get("ttft") for row in recent), QUANTILE),
        trend=_trend(rows, now),
        tokens_per_second=sum(row["tokens"] for row in recent) / (60 * minutes) if minutes else None,
    )


def _trend(rows: Sequence[Mapping[str, Any]], now: datetime) -> tuple[float | None, ...]:
    width = TREND / TREND_POINTS
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[int((row["minute"] - (now - TREND)) / width)].append(row["latency"].get("ttft"))
    values = [quantile(groups.get(i, ()), QUANTILE) for i in range(TREND_POINTS)]
    first = next((i for i, value in enumerate(values) if value is not None), TREND_POINTS)
    return tuple(value if value is None or math.isfinite(value) else None for value in values[first:])


def quantile(histograms: Iterable[Mapping[str, Any] | None], q: float) -> float | None:
    """The q-quantile in seconds of histograms as JSON ({total, over: [[edge, n], ...]}) taken together.

    Straight between edges, as Prometheus does; infinite above the last edge; None without any count.
    """
    total = 0
    over: dict[float, int] = defaultdict(int)
    for histogram in histograms:
        if histogram:
            total += histogram["total"]
            for edge, count in histogram["over"]:
                over[edge] += count
    if not total or not over:
        return None
    rank = q * total
    low_edge, below = 0.0, 0
    for edge in sorted(over):
        inside = total - over[edge]
        if inside >= rank:
            part = (rank - below) / (inside - below) if inside > below else 1.0
            return low_edge + (edge - low_edge) * part
        low_edge, below = edge, inside
    return math.inf
