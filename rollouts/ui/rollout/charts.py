"""Series for the charts, as JSON that `static/charts.js` draws. A client asks again with `since` for what
is new.

Shape: {label, unit, stack, y, x, bucket, arms: [{arm, name}], t, values, plan, marks, limit}. Times are
seconds since the epoch, UTC; a value that was not measured is null and never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from controlplane.kernel.errors import NotFound
from controlplane.kernel.words import percent_of_bp, seconds_text
from rollouts.domain.gates.latency import timed_against
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import FINAL, Phase
from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.intervals import LatencyCounts, Outcomes
from rollouts.domain.record.recorded import SPAN, pair_sums
from rollouts.evidence import thin_series
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.parts.gate_words import unit_of

MOST_POINTS = 240
BUCKETS = (5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 21_600)

Row = Mapping[str, Any]
ChartJson = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Neighbouring intervals taken together, so that a chart never has more points than it can show."""

    at: float
    rows: tuple[Row, ...]


def canary_chart(*, rollout: Rollout, name: str, since: float | None, now: datetime) -> ChartJson:
    """One chart of a canary: `traffic`, or the key of one of its gates. Raises NotFound for another name."""
    plan = rollout.parsed_plan
    gate = next((gate for gate in rollout.policy.gates if gate.key == name), None)
    if name != "traffic" and gate is None:
        raise NotFound(f"There is no chart {name!r} here.")
    rows, bucket_seconds = _rows(rollout, since=since if gate is None or gate.kind != "paired" else None)
    buckets = _buckets(rows, bucket_seconds)
    marks = _marks(rollout, plan)
    if gate is None:
        return _traffic(rollout, plan, buckets, marks, bucket_seconds, now)
    if gate.kind == "paired":
        return _scores(rollout, gate, buckets, marks, bucket_seconds)
    if gate.number is not None:
        return _numbers(rollout, gate, gate.number.digest, buckets, marks, bucket_seconds)
    return _shares(rollout, gate, buckets, marks, bucket_seconds)


def _rows(rollout: Rollout, *, since: float | None) -> tuple[list[Row], int]:
    """Intervals after `since`, old ones added up, and the bucket that fits the whole rollout."""
    began = rollout.traffic_at or rollout.created_at
    ended = (
        rollout.finished_at if Phase(rollout.phase) in FINAL and rollout.finished_at else rollout.measured_at
    )
    span = ((ended or began) - began).total_seconds()
    bucket = next((size for size in BUCKETS if span / size <= MOST_POINTS), BUCKETS[-1])
    after = None if since is None else datetime.fromtimestamp(since, tz=UTC)
    return list(thin_series(rollout.pk, since=after)), bucket


def _buckets(rows: Iterable[Row], seconds: int) -> list[Bucket]:
    found: dict[float, list[Row]] = {}
    for row in rows:
        end = float(row["started_at"]) + float(row["seconds"])
        found.setdefault(end // seconds * seconds, []).append(row)
    return [
        Bucket(max(float(row["started_at"]) + float(row["seconds"]) for row in group), tuple(group))
        for _, group in sorted(found.items())
    ]


def _marks(rollout: Rollout, plan: Plan) -> list[ChartJson]:
    """When the share changed: the start of each step, the promotion, the way back."""
    events = HistoryEvent.objects.filter(
        rollout=rollout, kind__in=("start", "advance", "promote", "roll-back")
    ).order_by("id")
    marks, step = [], 0
    for event in events:
        if event.kind in ("start", "advance"):
            label = percent_of_bp(plan.steps[min(step, len(plan.steps) - 1)].share_bp)
            step += 1
        else:
            label = "100%" if event.kind == "promote" else "back"
        marks.append({"t": event.at.timestamp(), "label": label})
    return marks


def _arms(rollout: Rollout) -> list[ChartJson]:
    return [
        {"arm": 0, "name": rollout.baseline.version.label},
        {"arm": 1, "name": rollout.candidate.version.label},
    ]


def _traffic(
    rollout: Rollout,
    plan: Plan,
    buckets: Sequence[Bucket],
    marks: list[ChartJson],
    seconds: int,
    now: datetime,
) -> ChartJson:
    times = [bucket.at for bucket in buckets]
    candidate = [
        round(sum(row["share_bp"] for row in bucket.rows) / len(bucket.rows) / 100, 2) for bucket in buckets
    ]
    ahead = _ahead(rollout, plan, now)
    began = (rollout.traffic_at or rollout.created_at).timestamp()
    end = ahead["t"][-1] if ahead else (times[-1] if times else began + 60)
    names = _arms(rollout)
    share = percent_of_bp(round(candidate[-1] * 100)) if candidate else "nothing"
    if ahead:
        marks = [*marks, {"t": now.timestamp(), "label": "now", "now": True}]
    return {
        "label": f"Traffic share over time. {rollout.candidate.version.label} has {share} of the traffic.",
        "unit": "%",
        "stack": True,
        "y": [0, 100],
        "x": [began - 5, end],
        "bucket": seconds,
        "arms": [names[1], names[0]],
        "t": times,
        "values": [candidate, [round(100 - value, 2) for value in candidate]],
        "plan": ahead,
        "marks": marks,
        "limit": None,
    }


def _ahead(rollout: Rollout, plan: Plan, now: datetime) -> ChartJson | None:
    """The rest of the plan from now on, if nothing holds; None once it is decided."""
    if Phase(rollout.phase) not in (Phase.PENDING, Phase.PROVISIONING, Phase.PROGRESSING, Phase.PAUSED):
        return None
    at = now.timestamp()
    index = max(rollout.step_index, 0)
    times, values = [], []
    if rollout.step_index >= 0:
        step = plan.steps[index]
        held = (now - rollout.step_since).total_seconds() if rollout.step_since else 0.0
        times, values = [at], [step.share_bp / 100]
        at += max(5.0, step.hold_seconds - held)
        index += 1
    else:
        times, values = [at], [0.0]
        at += 30.0
    for step in plan.steps[index:]:
        times.append(at)
        values.append(step.share_bp / 100)
        at += step.hold_seconds
    times += [at, at + max(30.0, (at - times[0]) * 0.12)]
    values += [100.0, 100.0]
    return {"t": times, "v": values}


def _shares(
    rollout: Rollout, gate: GateSpec, buckets: Sequence[Bucket], marks: list[ChartJson], seconds: int
) -> ChartJson:
    """Shares of events by arm in percent, with the limit that follows from the baseline so far."""
    count = _counter(gate)
    arms = ("baseline", "candidate")
    values: list[list[float | None]] = [[], []]
    for bucket in buckets:
        for position, arm in enumerate(arms):
            events = trials = 0
            for row in bucket.rows:
                if arm in row["arms"]:
                    found = count(row["arms"][arm])
                    events, trials = events + found[0], trials + found[1]
            values[position].append(round(100 * events / trials, 3) if trials else None)
    base = _baseline_value(rollout, gate)
    limit = None if base is None else round(100 * min(1.0, gate.pass_limit[0] * base + gate.pass_limit[1]), 3)
    about = f"over {seconds_text(gate.slo_seconds)}" if gate.slo_seconds else gate.label.lower()
    label = f"Share of {unit_of(gate)}, {about}, over time. {_last_words(rollout, values, '%')}"
    return _lines(rollout, label, "%", buckets, values, marks, seconds, limit)


def _numbers(
    rollout: Rollout,
    gate: GateSpec,
    digest: str,
    buckets: Sequence[Bucket],
    marks: list[ChartJson],
    seconds: int,
) -> ChartJson:
    """A number by arm, with its fixed limit. Where intervals are taken together, the one that is worst against it."""
    worst = max if gate.direction == "at_most" else min
    values: list[list[float | None]] = [[], []]
    for bucket in buckets:
        for position, arm in enumerate(("baseline", "candidate")):
            read = [
                row["arms"][arm].get("numbers", {}).get(digest, {})
                for row in bucket.rows
                if arm in row["arms"]
            ]
            known = [number for one in read for number in _span(one)]
            values[position].append(float(f"{worst(known):.6g}") if known else None)
    label = f"{gate.label}, {gate.limit_text()}, over time. {_last_words(rollout, values, '')}"
    return _lines(rollout, label, "", buckets, values, marks, seconds, gate.limit)


def _lines(
    rollout: Rollout,
    label: str,
    unit: str,
    buckets: Sequence[Bucket],
    values: list[list[float | None]],
    marks: list[ChartJson],
    seconds: int,
    limit: float | None,
) -> ChartJson:
    """A line an arm, and the limit."""
    return {
        "label": label,
        "unit": unit,
        "stack": False,
        "y": None,
        "x": None,
        "bucket": seconds,
        "arms": _arms(rollout),
        "t": [bucket.at for bucket in buckets],
        "values": values,
        "plan": None,
        "marks": marks,
        "limit": limit,
    }


def _span(read: Mapping[str, Any]) -> list[float]:
    """What an interval's reading says, or the least and the largest of several that were added up; nothing, of none."""
    return [float(read[name]) for name in SPAN if name in read]


def _baseline_value(rollout: Rollout, gate: GateSpec) -> float | None:
    """The baseline's share as the gate itself has it, over the whole rollout."""
    found = [verdict for verdict in rollout.verdicts.get("verdicts", ()) if verdict["key"] == gate.key]
    return found[0]["baseline"] if found else None


def _counter(gate: GateSpec) -> Callable[[Row], tuple[int, int]]:
    """(events, trials) of an arm's counts in one interval, as this gate counts them; (0, 0) of what was not counted."""
    if gate.kind == "latency_slo":
        return partial(_over, gate.signal or "", gate.slo_seconds or 0.0)
    if gate.kind == "feedback":
        return lambda arm: (int(arm["thumbs_down"]), int(arm["answers"]))
    if gate.kind in ("empty", "truncated"):
        return partial(_completions, gate.kind)
    if gate.counters is not None:
        return partial(_asked, gate.counters.digest)
    return partial(_ended, gate.kind)


def _over(signal: str, slo_seconds: float, arm: Row) -> tuple[int, int]:
    counts = arm["latency"].get(signal)
    timed = None if counts is None else timed_against(LatencyCounts.from_json(counts), slo_seconds)
    return (0, 0) if timed is None else (timed.over, timed.trials)


def _completions(kind: str, arm: Row) -> tuple[int, int]:
    counts = arm.get("completions")
    return (0, 0) if counts is None else (int(counts[kind]), int(counts["total"]))


def _asked(digest: str, arm: Row) -> tuple[int, int]:
    counts = AskedCounts.from_json(arm.get("asked", {}).get(digest, {}))
    return counts.bad, counts.total


def _ended(kind: str, arm: Row) -> tuple[int, int]:
    if "outcomes" not in arm:  # from before they were counted
        return (int(arm["errors"]), int(arm["requests"])) if kind == "error_rate" else (0, 0)
    outcomes = Outcomes.from_json(arm["outcomes"])
    events = {
        "error_rate": outcomes.failed + outcomes.fallback,
        "refused": outcomes.refused,
        "abandoned": outcomes.abandoned,
    }[kind]
    return events, max(events, int(arm["arrived"]))


def _scores(
    rollout: Rollout, gate: GateSpec, buckets: Sequence[Bucket], marks: list[ChartJson], seconds: int
) -> ChartJson:
    """The mean golden-set score of each arm over all pairs so far, with the limit below the baseline."""
    sums, pairs = [0.0, 0.0], 0
    times: list[float] = []
    values: list[list[float | None]] = [[], []]
    for bucket in buckets:
        for row in bucket.rows:
            count, baseline, candidate = pair_sums(row).get("candidate", (0, 0.0, 0.0))
            sums[0] += baseline
            sums[1] += candidate
            pairs += int(count)
        if pairs:
            times.append(bucket.at)
            values[0].append(round(sums[0] / pairs, 4))
            values[1].append(round(sums[1] / pairs, 4))
    limit = round(sums[0] / pairs - (gate.margin or 0.0), 4) if pairs else None
    return {
        "label": f"{gate.label}: mean of {pairs:,} pairs so far. {_last_words(rollout, values, '')}",
        "unit": "",
        "stack": False,
        "y": [0, 1],
        "x": None,
        "bucket": seconds,
        "arms": _arms(rollout),
        "t": times,
        "values": values,
        "plan": None,
        "marks": marks,
        "limit": limit,
        "whole": True,
    }


def _last_words(rollout: Rollout, values: Sequence[Sequence[float | None]], unit: str) -> str:
    words = []
    for arm, column in zip(_arms(rollout), values, strict=True):
        last = next((value for value in reversed(column) if value is not None), None)
        words.append(f"{arm['name']} {'no data' if last is None else f'{last:g}{unit}'}")
    return ", ".join(words) + "."
