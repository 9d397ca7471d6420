"""How the arms of a rollout are called: the same names in evidence, verdicts, rows and calls."""

from __future__ import annotations

from rollouts.domain.record.intervals import BASELINE

CANDIDATE = "candidate"
MOST_CANDIDATES = 5  # with the baseline six arms: more would hardly ever be told apart in a week


def candidate_name(position: int) -> str:
    """`candidate`, `candidate-2`, `candidate-3` ... for positions 0, 1, 2 ..."""
    return CANDIDATE if position == 0 else f"{CANDIDATE}-{position + 1}"


def arm_names(candidates: int) -> tuple[str, ...]:
    """The baseline and so many candidates, in order."""
    return (BASELINE, *(candidate_name(position) for position in range(candidates)))
