"""The sentences that a release manager reads: each names the gate, says how it stands, and gives the numbers."""

from __future__ import annotations

import math

from controlplane.kernel.words import (
    duration_of_minutes,
    odds,
    percent_of_share,
    points,
    ratio_text,
    rough,
    seconds_text,
    signed,
    whole,
    window_text,
)
from rollouts.domain.gates.backlog import Unsettled
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.totals import Totals
from rollouts.domain.gates.track import GateTrack, measure_of
from rollouts.domain.gates.verdict import GateVerdict, Verdict
from rollouts.domain.gates.words import UNITS

RATING_RATE_SE = 3.5  # a finding only: no verdict rests on it


def change_words(measure: str, value: float) -> str:
    """A change as people read it, by measure (ratio, difference, share, score)."""
    if measure == "ratio":
        return ratio_text(value)
    if measure == "share":
        return percent_of_share(value)
    return signed(value) if measure == "score" else points(value)


def interval_words(measure: str, low: float | None, high: float | None) -> str:
    """`×1.05 to ×1.27`, `below +0.4 pp`, or `not known yet`."""
    if low is None and high is None:
        return "not known yet"
    if low is None:
        return f"below {change_words(measure, high or 0.0)}"
    if high is None:
        return f"above {change_words(measure, low)}"
    return f"{change_words(measure, low)} to {change_words(measure, high)}"


def finding_of(spec: GateSpec, track: GateTrack, *, counted_by_unit: bool) -> str:
    """Something worth a look that no verdict rests on."""
    if not counted_by_unit:
        return (
            "Users or conversations stay with one arm, but single requests are counted: "
            "so this gate can neither fail nor pass."
        )
    totals = track.totals
    known = totals.baseline if totals.n_baseline >= spec.min_exposure else None
    if spec.absolute and known is not None and known > spec.delta:
        return f"The baseline itself is over this limit: {percent_of_share(known)}."
    if spec.kind == "feedback" and totals.n_candidate and totals.n_baseline:
        rated_c, rated_b = (
            track.ratings_candidate / totals.n_candidate,
            track.ratings_baseline / totals.n_baseline,
        )
        rated = (track.ratings_candidate + track.ratings_baseline) / (totals.n_candidate + totals.n_baseline)
        error = math.sqrt(rated * (1 - rated) * (1 / totals.n_candidate + 1 / totals.n_baseline))
        if error and abs(rated_c - rated_b) > RATING_RATE_SE * error:
            return (
                f"Users rated {percent_of_share(rated_c)} of the candidate's answers and {percent_of_share(rated_b)} "
                "of the baseline's. "
                "One arm is rated more often than the other, so compare their ratings with care."
            )
    if track.fail_note:
        return f"{_capital(track.fail_note)}. What was measured meanwhile is not held against the candidate."
    return ""


def censored_note(spec: GateSpec, track: GateTrack) -> str:
    """Why a latency gate may not pass although the requests that were timed were fast enough; empty when it may."""
    if track.blocks is None or not track.censoring.differs(track.blocks.factor):
        return ""
    candidate, baseline = track.censoring.shares
    return (
        f"{percent_of_share(candidate)} of the candidate's requests were abandoned before they could be timed, and "
        f"{percent_of_share(baseline)} of the baseline's, so the requests that remain cannot be compared"
    )


def _open_words(unsettled: Unsettled) -> str:
    if not unsettled.lost:
        return "are still running"
    return f"are still running or were lost when the router restarted ({whole(unsettled.lost)} of them)"


def running_note(spec: GateSpec, totals: Totals, unsettled: Unsettled) -> str:
    """Why a gate may not pass although what ended was good enough; empty when it may."""
    if not unsettled.break_limit(spec, totals):
        return ""
    return (
        f"{whole(unsettled.running)} of the candidate's requests {_open_words(unsettled)}; "
        f"{rough(unsettled.expected)} would be usual. If the others ended badly, the limit would be exceeded, so it "
        "cannot pass yet"
    )


def sentence_of(
    verdict: GateVerdict,
    spec: GateSpec,
    policy: GatePolicy,
    *,
    note: str,
    recent_seconds: float | None,
    blamed: bool,
) -> str:
    """How the gate stands, with numbers. `recent_seconds`: the numbers are those of the last seconds only."""
    label = spec.label
    if verdict.verdict is Verdict.ERROR:
        return f"{label} cannot be measured: {note}."
    numbers = _numbers(verdict, spec, recent_seconds)
    if verdict.verdict is Verdict.NO_DATA:
        if verdict.n_candidate == 0:
            return f"{label} has no data: {note}."
        return f"{label} has too little data for a verdict: {note} ({_counted(verdict, spec)})."
    if verdict.verdict is Verdict.FAIL:
        state = "is worse" if spec.mode == "strict" else "is beyond its limit"
        needed = 1 / (policy.alpha * spec.weight)
        if verdict.evidence >= needed or not blamed:
            proof = (
                f"The odds are {odds(verdict.evidence)} to 1 that this is no accident; "
                f"at {odds(needed)} to 1 it is rolled back."
            )
        else:
            proof = (
                "No gate alone was enough for the rollback, all together were; this one contributed most "
                f"({odds(verdict.evidence)} to 1)."
            )
        return f"{label} {state}: {numbers}. {proof}"
    if verdict.verdict is Verdict.PASS:
        return (
            f"{label} is within its limit: {numbers}, from {_counted(verdict, spec)}. "
            f"The odds are {odds(verdict.evidence_pass)} to 1 that the limit is kept; "
            f"at {odds(1 / policy.beta)} to 1 the gate passes."
        )
    said = f"{label} is not decided yet: {numbers}, from {_counted(verdict, spec)}."
    return " ".join([said, *_outlook(verdict, spec, note)])


def _outlook(verdict: GateVerdict, spec: GateSpec, note: str) -> list[str]:
    """What it still needs, and what stands in its way: a sentence each, where there is one."""
    said = []
    if verdict.forecast_requests is not None:
        unit = _unit(spec) if spec.kind == "paired" else f"candidate {_unit(spec)}"
        more = f"about {rough(verdict.forecast_requests)} more {unit}"
        if verdict.forecast_minutes is not None:
            more += f" ({duration_of_minutes(verdict.forecast_minutes)})"
        said.append(f"If nothing changes, it passes after {more}.")
    if note:
        said.append(f"{_capital(note)}.")
    return said


def _numbers(verdict: GateVerdict, spec: GateSpec, recent_seconds: float | None) -> str:
    candidate, baseline = verdict.candidate, verdict.baseline
    if candidate is None:
        return "nothing was counted"
    when = "" if recent_seconds is None else f" in the last {window_text(recent_seconds)}"
    limit = f"limit {verdict.limit_text}"
    if spec.kind == "paired":
        return (
            f"the mean score of the candidate{when} is {candidate:.3f}, "
            f"against {baseline or 0.0:.3f} of the baseline "
            f"({verdict.change_text}, interval {verdict.interval_text}, {limit})"
        )
    happened = {
        "error_rate": "requests failed",
        "refused": "requests were refused by its engine",
        "abandoned": "requests were abandoned by their clients",
        "empty": "completions were empty",
        "truncated": "completions were cut off at their length limit",
        "feedback": "answers were rated down",
        "counter_ratio": "events were bad",
        "latency_slo": (
            f"requests waited over {seconds_text(spec.slo_seconds or 0.0)} for the first token"
            if spec.signal == "ttft"
            else f"requests took over {seconds_text(spec.slo_seconds or 0.0)}"
        ),
    }[spec.kind]
    said = f"{percent_of_share(candidate)} of the candidate's {happened}{when}"
    if baseline is not None:
        said += f", against {percent_of_share(baseline)} of the baseline's"
    if measure_of(spec) == "share":
        return f"{said} (interval {verdict.interval_text}, {limit})"
    change = f"{verdict.change_text}, " if verdict.change_text else ""
    return f"{said} ({change}interval {verdict.interval_text}, {limit})"


def _counted(verdict: GateVerdict, spec: GateSpec) -> str:
    if spec.kind == "paired":
        return f"{whole(verdict.n_candidate)} pairs"
    unit = _unit(spec)
    return f"{whole(verdict.n_candidate)} {unit} of the candidate and {whole(verdict.n_baseline)} of the baseline"


def _unit(spec: GateSpec) -> str:
    return UNITS.get(spec.kind, "requests")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
