"""What a replay found, as plain data with a sentence: the same for the page, the API and the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.words import count_text, duration_of_seconds
from rollouts.domain.record.replay import Replay
from rollouts.domain.record.whatif import LIMIT, Course, Moment, WhatIf
from rollouts.models import Rollout


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """A finished replay.

    kind            "replay": what was recorded, again; "what-if": under another policy
    outcome         replay: identical, equal (the same verdicts and decisions, log E within 1e-9) or differs;
                    what-if: same (every decision) or differs
    promise, kept   replay: which of the first two holds for the software it was recorded with, and whether it was kept
    intervals, decisions    how many were done again, after their digests were checked
    digest          of the last interval: a copy kept elsewhere proves that nothing was written anew since
    first           replay: the first value with other bytes; what-if: the first decision that would have been another
    first_other     replay: the first value that says something else
    reworded        replay: how many sentences are only worded differently today; `first_reworded` the first of them
    recorded, replayed      what-if: the two courses
    """

    kind: str
    rollout: int
    endpoint: str
    policy: str
    outcome: str
    sentence: str
    intervals: int
    decisions: int
    digest: str
    promise: str = ""
    kept: bool = True
    log_e: float | None = 0.0
    software: str = ""
    recorded_with: Sequence[str] = ()
    seconds: float = 0.0
    first: dict[str, Any] | None = None
    first_other: dict[str, Any] | None = None
    reworded: int = 0
    first_reworded: dict[str, Any] | None = None
    recorded: dict[str, Any] | None = None
    replayed: dict[str, Any] | None = None
    limit: str = ""
    checked: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return data | {"recorded_with": list(self.recorded_with), "checked": list(self.checked)}


CHECKED = (
    "Every row is there, unchanged and in order: each digest covers its row and the one before.",
    "Each interval went through the same gates again, and gave the recorded verdicts.",
    "Each decision was made again on what was seen then, and was the recorded one.",
    "The state that the rollout keeps is the one that comes out at the end.",
)


def replay_report(
    *, rollout: Rollout, played: Replay, now_with: str, seconds: float, tolerance: float
) -> ReplayReport:
    """A replay under the policy of the rollout, with which promise it checked."""
    promise = "identical" if all(name == now_with for name in played.software) else "equal"
    outcome = played.outcome
    finite = played.log_e != float("inf")
    return ReplayReport(
        kind="replay",
        rollout=rollout.pk,
        endpoint=rollout.endpoint.name,
        policy=rollout.policy_words,
        outcome=outcome,
        sentence=_replay_sentence(played, promise, tolerance),
        intervals=played.rows,
        decisions=played.decisions,
        digest=played.row_digest or "",
        promise=promise,
        kept=outcome != "differs"
        and (promise == "equal" or (outcome == "identical" and not played.reworded)),
        log_e=played.log_e if finite else None,
        software=now_with,
        recorded_with=played.software,
        seconds=round(seconds, 3),
        first=None if played.first is None else played.first.to_json(),
        first_other=None if played.first_other is None else played.first_other.to_json(),
        reworded=played.reworded,
        first_reworded=None if played.first_reworded is None else played.first_reworded.to_json(),
        checked=CHECKED if outcome == "identical" else CHECKED[:1],
    )


def what_if_report(*, rollout: Rollout, played: WhatIf) -> ReplayReport:
    """What another policy would have done, beside what was done."""
    return ReplayReport(
        kind="what-if",
        rollout=rollout.pk,
        endpoint=rollout.endpoint.name,
        policy=played.other.policy,
        outcome="same" if played.first is None else "differs",
        sentence=_what_if_sentence(played),
        intervals=played.rows,
        decisions=played.decisions,
        digest=played.row_digest or "",
        first=None if played.first is None else played.first.to_json(),
        recorded=played.recorded.to_json(),
        replayed=played.other.to_json(),
        limit=LIMIT,
        checked=CHECKED[:1],
    )


def _replay_sentence(played: Replay, promise: str, tolerance: float) -> str:
    rows = f"{count_text(played.rows, 'interval')} and {count_text(played.decisions, 'decision')} between them replayed"
    why = "recorded with other software" if promise == "equal" else "although the software is the same"
    if played.outcome == "differs":
        assert played.first_other is not None
        return f"{rows}: {played.first_other.row} comes out differently, in {played.first_other.difference.path}."
    if played.outcome == "equal":
        words = f"{rows}: the same verdicts and decisions, log E within {tolerance:g}"
        return f"{words}; the bytes differ, {why}.{_reworded_words(played)}"
    if not played.reworded:
        return f"{rows}: identical, every byte of every verdict and decision."
    also = "" if promise == "equal" else f", {why}"
    return f"{rows}: identical, every verdict, number and decision{also}.{_reworded_words(played)}"


def _reworded_words(played: Replay) -> str:
    if not played.reworded:
        return ""
    is_are = "is" if played.reworded == 1 else "are"
    return f" {count_text(played.reworded, 'sentence')} {is_are} worded differently today."


def _what_if_sentence(played: WhatIf) -> str:
    other, recorded = played.other, played.recorded
    does = f"{other.policy} {_course_words(other)}, {recorded.policy} {_course_words(recorded)}."
    if played.first is None:
        return f"Every decision would have been the same. {does}"
    return f"The first other decision would have come {_after(played.first.moment)}. {does}"


def _course_words(course: Course) -> str:
    if course.rollback is not None:
        return f"would roll back {_after(course.rollback)} ({course.rollback.cause})"
    if course.passed is not None:
        return f"has every required gate passed {_after(course.passed)}"
    return "neither rolls back nor passes on this evidence"


def _after(moment: Moment) -> str:
    if moment.after < 0:
        return "before there was traffic"
    return f"{duration_of_seconds(moment.after)} after the first traffic ({moment.row})"


def lines_of(report: ReplayReport) -> list[str]:
    """A report as lines for a terminal."""
    lines = [f"Rollout #{report.rollout} of {report.endpoint}, {report.policy}.", report.sentence]
    for difference in (report.first, report.first_other):
        if report.kind == "replay" and difference is not None:
            lines.append(
                f"  {difference['row']}, {difference['path']}: recorded {difference['recorded']!r}, "
                f"replayed {difference['replayed']!r}"
            )
    if report.first_reworded is not None:
        worded = report.first_reworded
        lines += [
            f"  worded differently first in {worded['row']}, {worded['path']}:",
            f"    then: {worded['recorded']}",
            f"    today: {worded['replayed']}",
        ]
    if report.kind == "what-if" and report.first is not None:
        lines += [
            f"  recorded: {report.first['recorded']['reason']}",
            f"  replayed: {report.first['replayed']['reason']}",
            report.limit,
        ]
    if report.kind == "replay":
        lines.append(
            f"Digest of the last interval: {report.digest or 'none'}. Replayed in {report.seconds:g} s."
        )
    return lines
