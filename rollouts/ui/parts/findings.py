"""What is striking about how requests ended, in sentences: computed, and never for noise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.kernel.words import percent_of_share
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.record.intervals import BASELINE, Completions
from rollouts.domain.standing_out import differ, is_high
from rollouts.ui.parts.outcomes_table import Column

SHOWN = 2
LEAST_REQUESTS = 50  # of an arm, before "nothing differs" means anything

# Class -> what happened to the requests of an arm, after "47% of v6's requests".
OF_REQUESTS: Mapping[str, str] = {
    "refused_request": "were refused by the engine",
    "refused_rate": "were turned down by the engine as too many (429)",
    "refused_gateway": "were refused by the gateway",
    "failed": "failed",
    "fallback": "were answered by another arm, because their own could not",
    "abandoned_before": "were given up before the first token",
    "abandoned_midway": "were given up in the middle of the answer",
}
OF_ANSWERS: Mapping[str, str] = {
    "empty": "were empty",
    "truncated": "were cut by the length limit",
    "filtered": "were held back by a filter or a refusal",
}
# Kind of gate -> the classes that it judges.
JUDGED: Mapping[str, Collection[str]] = {
    "error_rate": ("failed", "fallback"),
    "refused": ("refused_request", "refused_rate"),
    "abandoned": ("abandoned_before", "abandoned_midway"),
    "empty": ("empty",),
    "truncated": ("truncated",),
}


@dataclass(frozen=True, slots=True)
class _Share:
    """One class of one arm: `what` is "requests" or "answers"."""

    label: str
    events: int
    trials: int
    what: str
    verb: str

    @property
    def share(self) -> float:
        return self.events / self.trials if self.trials else 0.0


def findings(columns: Sequence[Column], families: Mapping[str, FamilyVerdict]) -> tuple[str, ...]:
    """At most SHOWN sentences, the largest difference first; `families` are the gates by candidate arm.

    A class of two arms is told when `differ` says so. Where a gate judges that class its interval has a veto: it
    compares requests of the same moments, which sums over a whole rollout do not. A class that is as high on every
    arm is told too: gates compare arms, and cannot see it.
    """
    told: list[tuple[float, str]] = []
    differing: set[str] = set()
    baseline = next((column for column in columns if column.hint == BASELINE), None)
    for candidate in columns:
        if baseline is None or candidate is baseline:
            continue
        family = families.get(candidate.hint)
        for name, one, other in _pairs(baseline, candidate):
            if not differ(one.events, one.trials, other.events, other.trials) or _vetoed(name, family):
                continue
            worse, better = (one, other) if one.share > other.share else (other, one)
            told.append((worse.share - better.share, _difference(worse, better)))
            differing.add(name)
    told += _high_everywhere(columns, differing)
    told.sort(key=lambda item: -item[0])
    return tuple(sentence for _, sentence in told[:SHOWN])


def calm_words(columns: Sequence[Column], found: Sequence[str]) -> str:
    """What is said when nothing stands out."""
    if found or len(columns) < 2:
        return ""
    if any(column.total < LEAST_REQUESTS for column in columns):
        return "There are too few requests so far to tell a difference between the arms from chance."
    return "In none of this do the arms differ by more than chance explains."


def _pairs(baseline: Column, candidate: Column) -> Iterable[tuple[str, _Share, _Share]]:
    """Every class that can be compared."""
    for name, verb in OF_REQUESTS.items():
        yield name, _of_requests(baseline, name, verb), _of_requests(candidate, name, verb)
    if baseline.completions is not None and candidate.completions is not None:
        for name, verb in OF_ANSWERS.items():
            yield (
                name,
                _of_answers(baseline, baseline.completions, name, verb),
                _of_answers(candidate, candidate.completions, name, verb),
            )


def _of_requests(column: Column, name: str, verb: str) -> _Share:
    return _Share(column.label, getattr(column.outcomes, name), column.outcomes.ended, "requests", verb)


def _of_answers(column: Column, found: Completions, name: str, verb: str) -> _Share:
    return _Share(column.label, getattr(found, name), found.total, "answers", verb)


def _vetoed(name: str, family: FamilyVerdict | None) -> bool:
    """True when a gate judges the class and its interval holds that nothing changed."""
    judging = [
        verdict
        for verdict in (family.verdicts if family is not None else ())
        if name in JUDGED.get(verdict.kind, ()) and verdict.change_unit != "share"
    ]
    return bool(judging) and not any(
        (verdict.axis.low or 0.0) > 0 or (verdict.axis.high is not None and verdict.axis.high < 0)
        for verdict in judging
    )


def _difference(worse: _Share, better: _Share) -> str:
    return (
        f"{percent_of_share(worse.share)} of {worse.label}'s {worse.what} {worse.verb}, "
        f"against {percent_of_share(better.share)} of {better.label}'s."
    )


def _high_everywhere(columns: Sequence[Column], differing: Collection[str]) -> Iterable[tuple[float, str]]:
    trials = sum(column.outcomes.ended for column in columns)
    for name, verb in OF_REQUESTS.items():
        events = sum(getattr(column.outcomes, name) for column in columns)
        if name in differing or not is_high(events, trials):
            continue
        where = ", on every arm alike: a comparison of the arms cannot see that" if len(columns) > 1 else ""
        yield events / trials, f"{events:,} of {trials:,} requests {verb}{where}."
