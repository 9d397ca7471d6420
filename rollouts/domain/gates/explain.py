"""From a gate's state to its verdict: the numbers, the place on the shared axis, and the sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rollouts.domain.gates.backlog import Unsettled
from rollouts.domain.gates.evidence import as_number
from rollouts.domain.gates.forecast import requests_to_pass
from rollouts.domain.gates.paired import PairedProcess
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.reading import PASS_SHARE_BP
from rollouts.domain.gates.sentences import (
    censored_note,
    change_words,
    finding_of,
    interval_words,
    running_note,
    sentence_of,
)
from rollouts.domain.gates.totals import Totals
from rollouts.domain.gates.track import GateTrack, measure_of
from rollouts.domain.gates.verdict import Axis, GateVerdict, Verdict

Unit = Literal["ratio", "difference", "share"]
UNIT: dict[str, Unit] = {
    "ratio": "ratio",
    "difference": "difference",
    "share": "share",
    "score": "difference",
}
ENOUGH_TO_FORECAST = 30
FORECAST_SHRINK = 50.0  # requests that the forecast's candidate rate is drawn towards the baseline's by
FLOW_SECONDS = 300.0
CLEARLY_MORE = 1.0  # standard errors
WHOLE = 10_000
NOTHING_OPEN = Unsettled()


@dataclass(frozen=True, slots=True)
class Shown:
    """The estimates to show: of the whole rollout, or of its last stretch when that is where it got worse."""

    baseline: float | None
    candidate: float | None
    change: float | None
    recent_seconds: float | None


def gate_verdict(
    spec: GateSpec,
    track: GateTrack,
    *,
    policy: GatePolicy,
    share_bp: int,
    blamed: bool,
    counted_by_unit: bool,
    baseline_bp: int | None = None,
    still_running: Unsettled = NOTHING_OPEN,
) -> GateVerdict:
    """The verdict of one gate. `blamed`: the rollout was rolled back because of it; `baseline_bp`: the baseline's share
    when there are more arms than these two; `still_running`: requests that may yet end badly.
    """
    verdict, note = _decide(spec, track, policy, blamed, counted_by_unit, still_running)
    shown = _shown(spec, track, late=verdict is Verdict.FAIL)
    limit = _limit(spec, track)
    low, high = _interval(spec, track, policy, shown, verdict, limit)
    measure = measure_of(spec)
    unknown = verdict is not Verdict.INCONCLUSIVE
    requests, minutes = (None, None) if unknown else _forecast(spec, track, policy, share_bp, baseline_bp)
    draft = GateVerdict(
        key=spec.key,
        label=spec.label,
        kind=spec.kind,
        mode=spec.mode,
        required=spec.required,
        verdict=verdict,
        baseline=shown.baseline,
        candidate=shown.candidate,
        change=shown.change,
        low=low,
        high=high,
        change_unit=UNIT[measure],
        change_text="" if shown.change is None else change_words(measure, shown.change),
        interval_text=interval_words(measure, low, high),
        limit=limit,
        limit_text=spec.limit_text(),
        axis=_axis(spec, track, shown.change, low, high, limit),
        n_baseline=track.totals.n_baseline,
        n_candidate=track.totals.n_candidate,
        evidence=as_number(track.failing.log_e),
        evidence_pass=as_number(track.passing.log_e),
        share_of_rollback=min(1.0, as_number(math.log(spec.weight * policy.alpha) + track.failing.log_e)),
        forecast_requests=requests,
        forecast_minutes=minutes,
        finding=finding_of(spec, track, counted_by_unit=counted_by_unit),
        sentence="",
    )
    sentence = sentence_of(draft, spec, policy, note=note, recent_seconds=shown.recent_seconds, blamed=blamed)
    return replace(draft, sentence=sentence)


def _decide(
    spec: GateSpec,
    track: GateTrack,
    policy: GatePolicy,
    blamed: bool,
    counted_by_unit: bool,
    still_running: Unsettled,
) -> tuple[Verdict, str]:
    """The verdict, and the reason where the numbers do not show it. FAIL wins over everything, missing data over
    PASS."""
    if counted_by_unit:
        proven = math.log(spec.weight) + track.failing.log_e >= math.log(1 / policy.alpha)
        if proven or blamed:
            return Verdict.FAIL, ""
    if track.broken:
        return Verdict.ERROR, track.silence
    if track.totals.candidate is None:
        return Verdict.NO_DATA, track.silence
    kept = (
        spec.kind == "paired" and track.has_passed and counted_by_unit
    )  # probes may end once they have decided
    if track.silent_seconds >= policy.stale_after_seconds and not kept:
        return Verdict.NO_DATA, f"{track.silence} for {track.silent_seconds:.0f} s"
    fewest = (
        track.totals.n_candidate if spec.absolute else min(track.totals.n_candidate, track.totals.n_baseline)
    )
    if fewest < spec.min_exposure:
        return Verdict.NO_DATA, f"it needs {spec.min_exposure} and only {fewest} were counted"
    withheld = censored_note(spec, track) or running_note(spec, track.totals, still_running)
    if track.has_passed and counted_by_unit and not withheld:
        return Verdict.PASS, ""
    if withheld:
        return Verdict.INCONCLUSIVE, withheld
    return Verdict.INCONCLUSIVE, track.fail_note or track.pass_note


def _change(spec: GateSpec, totals: Totals) -> float | None:
    candidate, baseline = totals.candidate, totals.baseline
    if candidate is None:
        return None
    if spec.absolute:
        return candidate
    if baseline is None:
        return None
    if measure_of(spec) == "ratio":
        return candidate / baseline if baseline > 0 else (1.0 if candidate == 0 else None)
    return candidate - baseline


def _shown(spec: GateSpec, track: GateTrack, *, late: bool) -> Shown:
    totals = track.comparable if track.comparable.candidate is not None else track.totals
    change = _change(spec, totals)
    if late:
        worst = _worst_ending(spec, track)
        newer = None if worst is None else _change(spec, worst)
        if worst is not None and newer is not None and (change is None or _worse(spec, newer, change)):
            return Shown(worst.baseline, worst.candidate, newer, worst.seconds)
    return Shown(totals.baseline, totals.candidate, change, None)


def _worse(spec: GateSpec, one: float, other: float) -> bool:
    return one < other if spec.kind == "paired" else one > other


def _worst_ending(spec: GateSpec, track: GateTrack) -> Totals | None:
    """The ending of the trail that stands out most, in standard errors: where the regression began.

    None when no ending stands out clearly more than the whole rollout does.
    """
    best, best_score = None, max(_standing_out(spec, track.totals), 0.0) + CLEARLY_MORE
    for ending in track.trail.endings():
        score = _standing_out(spec, ending)
        if score > best_score:
            best, best_score = ending, score
    return best


def _standing_out(spec: GateSpec, totals: Totals) -> float:
    candidate, baseline, weight = totals.candidate, totals.baseline, totals.weight_candidate
    if candidate is None or weight == 0:
        return 0.0
    if spec.kind == "paired":
        drop = (baseline or 0.0) - candidate
        return drop * math.sqrt(weight / (totals.squares / weight)) if totals.squares else 0.0
    against = spec.delta if baseline is None else baseline
    # pooled as if alike; for an absolute limit both arms weigh their own requests
    other = totals.weight_baseline if spec.absolute else weight
    pooled = (totals.sum_candidate + totals.sum_baseline) / (weight + other) if other else candidate
    pooled = min(max(pooled, 1e-9), 1 - 1e-9)
    return (candidate - against) * math.sqrt(weight / (pooled * (1 - pooled)))


def _limit(spec: GateSpec, track: GateTrack) -> float:
    """The limit in the unit of the change; of a mixed limit at the baseline's present rate."""
    measure = measure_of(spec)
    if measure == "score":
        return -float(spec.margin or 0.0)
    if measure in ("ratio", "share"):
        return spec.ratio if measure == "ratio" else spec.delta
    return spec.delta + (spec.ratio - 1) * (track.totals.baseline or 0.0)


def _interval(
    spec: GateSpec, track: GateTrack, policy: GatePolicy, shown: Shown, verdict: Verdict, limit: float
) -> tuple[float | None, float | None]:
    """The always-valid interval, cut at the line that a verdict has proven crossed or kept."""
    low, high = track.bounds.interval(policy.alpha)
    measure = measure_of(spec)
    mixed = measure == "difference" and spec.ratio != 1
    if verdict is Verdict.FAIL:
        line = _fail_line(spec, measure, limit)
        if shown.recent_seconds is not None:  # the bounds are of the whole rollout, what is shown is not
            return (None, line) if measure == "score" else (line, None)
        if measure == "score":
            high = _least(high, line)
        elif line is not None:
            low = line if low is None else max(low, line)
    elif verdict is Verdict.PASS and not mixed:
        if measure == "score":
            low = limit if low is None else max(low, limit)
        else:
            high = _least(high, limit)
    if measure == "share":
        low = low or 0.0
    change = shown.change
    if change is not None:
        low = None if low is None else min(low, change)
        high = None if high is None else max(high, change)
    return low, high


def _fail_line(spec: GateSpec, measure: str, limit: float) -> float | None:
    """The change that a FAIL has proven exceeded, where the shown measure can say it."""
    if spec.mode == "tolerant":
        return None if measure == "difference" and spec.ratio != 1 else limit
    return {"ratio": 1.0, "difference": 0.0, "score": 0.0}.get(measure)


def _least(one: float | None, other: float | None) -> float | None:
    values = [value for value in (one, other) if value is not None]
    return min(values) if values else None


def _axis(
    spec: GateSpec,
    track: GateTrack,
    change: float | None,
    low: float | None,
    high: float | None,
    limit: float,
) -> Axis:
    """0 is no worsening, 1 the limit. For an absolute limit 0 is the baseline's rate, if that is within the
    limit.
    """
    measure = measure_of(spec)
    zero = {"ratio": 1.0}.get(measure, 0.0)
    if measure == "share":
        baseline = track.totals.baseline
        zero = baseline if baseline is not None and baseline < limit else 0.0

    def place(value: float | None) -> float | None:
        return None if value is None or limit == zero else (value - zero) / (limit - zero)

    if measure == "score":  # a lower score is worse: the ends change places
        return Axis(place(change), place(high), place(low))
    return Axis(place(change), place(low), place(high))


def _forecast(
    spec: GateSpec, track: GateTrack, policy: GatePolicy, share_bp: int, baseline_bp: int | None
) -> tuple[int | None, float | None]:
    """(candidate requests, minutes) to a PASS if nothing changes from now on; None where it cannot be known."""
    totals = track.comparable if track.comparable.candidate is not None else track.totals
    candidate, baseline = totals.candidate, totals.baseline
    if candidate is None or totals.n_candidate < ENOUGH_TO_FORECAST:
        return None, None
    if track.blocks is not None and track.comparable.candidate is None:
        return None, None  # at unequal loads the difference seen is not the one that PASS will be about
    spread, temper = 0.0, 1.0
    if isinstance(track.passing, PairedProcess):
        assert baseline is not None
        spread = math.sqrt(max(totals.squares / totals.n_candidate - (candidate - baseline) ** 2, 0.0))
        base = baseline
    else:
        base = track.passing.baseline_rate
        weight = totals.weight_candidate
        candidate = (weight * candidate + FORECAST_SHRINK * base) / (weight + FORECAST_SHRINK)
        temper = track.blocks.temper if track.blocks else 1.0
    counts_now = spec.kind == "paired" or PASS_SHARE_BP <= share_bp < WHOLE
    share = share_bp / WHOLE if counts_now and 0 < share_bp < WHOLE else PASS_SHARE_BP / WHOLE
    baseline_share = 1 - share if baseline_bp is None else baseline_bp / WHOLE
    needed = requests_to_pass(
        track.passing, policy.beta, candidate, base, baseline_share / share, spread=spread, temper=temper
    )
    if needed is None:
        return None, None
    stretch = track.trail.last(FLOW_SECONDS)
    flowing = counts_now and not track.pass_note and stretch.seconds > 0 and stretch.n_candidate > 0
    minutes = needed / stretch.n_candidate * stretch.seconds / 60 if flowing else None
    return math.ceil(needed), minutes


def reason_of(verdicts: Sequence[GateVerdict], cause: GateVerdict | None, kill: str | None) -> str:
    """The sentence of the whole rollout: what decided it, or what it waits for."""
    if kill is not None:
        return f"Fast kill: {kill}"
    if cause is not None:
        return cause.sentence
    required = [verdict for verdict in verdicts if verdict.required]
    waiting = [verdict for verdict in required if verdict.verdict is not Verdict.PASS]
    if not waiting:
        names = ", ".join(verdict.label for verdict in required)
        return f"Every required gate passes: {names}." if required else "No gate is required, and none fails."
    passed = len(required) - len(waiting)
    order = (Verdict.FAIL, Verdict.ERROR, Verdict.NO_DATA, Verdict.INCONCLUSIVE)
    first = min(waiting, key=lambda verdict: order.index(verdict.verdict))
    return f"{passed} of {len(required)} required gates pass. {first.sentence}"
