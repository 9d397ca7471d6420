"""From the state of a gate with a fixed limit to its verdict: the numbers, the place on the axis, and the sentence."""

from __future__ import annotations

from rollouts.domain.gates.fixed_limits import NO_TEST, beyond_words, is_beyond, limit_words, number_text
from rollouts.domain.gates.limit_track import LimitTrack
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.verdict import Axis, GateVerdict, Verdict

NO_EVIDENCE = 1.0  # odds: it has no part in any sum of evidence


def limit_verdict(spec: GateSpec, track: LimitTrack, policy: GatePolicy) -> GateVerdict:
    """The verdict of one gate with a fixed limit."""
    verdict, note = _decide(spec, track, policy)
    value = track.value
    return GateVerdict(
        key=spec.key,
        label=spec.label,
        kind=spec.kind,
        mode=spec.mode,
        required=spec.required,
        verdict=verdict,
        baseline=track.baseline,
        candidate=value,
        change=value,
        low=None,
        high=None,
        change_unit="number",
        change_text="" if value is None else number_text(value),
        interval_text="",
        limit=spec.limit or 0.0,
        limit_text=spec.limit_text(),
        axis=Axis(None if value is None else _place(spec, value), None, None),
        n_baseline=0,
        n_candidate=track.readings,
        evidence=NO_EVIDENCE,
        evidence_pass=NO_EVIDENCE,
        share_of_rollback=0.0,
        forecast_requests=None,
        forecast_minutes=None,
        finding=_finding(spec, track),
        sentence=_sentence(spec, track, verdict, note),
    )


def _decide(spec: GateSpec, track: LimitTrack, policy: GatePolicy) -> tuple[Verdict, str]:
    """The verdict, and why there is none. FAIL wins over everything, missing data over PASS."""
    if track.failed:
        return Verdict.FAIL, ""
    if track.broken:
        return Verdict.ERROR, track.silence
    if track.value is None:
        return Verdict.NO_DATA, track.silence
    if track.silent_seconds >= policy.stale_after_seconds:
        return Verdict.NO_DATA, f"{track.silence} for {track.silent_seconds:.0f} s"
    if track.within >= (spec.pass_readings or 1):
        return Verdict.PASS, ""
    return Verdict.INCONCLUSIVE, track.pass_note


def _sentence(spec: GateSpec, track: LimitTrack, verdict: Verdict, note: str) -> str:
    label, last = spec.label, number_text(track.value or 0.0)
    if verdict is Verdict.ERROR:
        return f"{label} cannot be measured: {note}."
    if verdict is Verdict.NO_DATA:
        known = "" if track.value is None else f" ({last} at the last reading)"
        return f"{label} has no data: {note}{known}."
    if verdict is Verdict.FAIL:
        was = f"{label} was {beyond_words(spec)} in {_in_a_row(track.beyond)} ({last} at the last)"
        return f"{was}: rolled back. {NO_TEST}"
    if verdict is Verdict.PASS:
        return (
            f"{label} is within its limit, {limit_words(spec)}, in {_in_a_row(track.within)} ({last} at the last). "
            f"{NO_TEST}"
        )
    if track.beyond:
        stands = f"{beyond_words(spec)} in {_in_a_row(track.beyond)} ({last} at the last)"
        return f"{label} is not decided yet: {stands}; at {spec.fail_readings:,} it is rolled back. {NO_TEST}"
    stands = f"within its limit, {limit_words(spec)}, in {_in_a_row(track.within)} ({last} at the last)"
    why = f" {note[:1].upper()}{note[1:]}." if note else ""
    return f"{label} is not decided yet: {stands}; at {spec.pass_readings:,} it passes.{why} {NO_TEST}"


def _in_a_row(number: int) -> str:
    return "1 reading" if number == 1 else f"{number:,} readings in a row"


def _finding(spec: GateSpec, track: LimitTrack) -> str:
    if track.baseline is None or not is_beyond(spec, track.baseline):
        return ""
    return f"The baseline itself is beyond this limit: {number_text(track.baseline)}."


def _place(spec: GateSpec, value: float) -> float:
    """1 is the limit and worse is to the right, a whole limit away from 0."""
    limit = spec.limit or 0.0
    away = (value - limit) / (abs(limit) or 1.0)
    return 1 + (away if spec.direction == "at_most" else -away)
