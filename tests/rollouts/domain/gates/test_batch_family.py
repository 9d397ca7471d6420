"""Whole policies, vectorised: the same counts give the same verdicts as the product's state, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.batch import Array
from rollouts.domain.gates.batch_family import ArmBatch, FamilyBatch, TimedBatch
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.templates import DEFAULT_GATES
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts, Outcomes, ProbePair
from tests.rollouts.domain.gates.helpers import ERRORS, policy

SIZE = 4
SECONDS = 10.0
DEFAULT = GatePolicy(name="default", version=1, gates=DEFAULT_GATES)
KEYS = [gate.key for gate in DEFAULT_GATES]


@dataclass(frozen=True)
class Rates:
    """Shares of an arm's requests of one interval, shape (size,)."""

    failed: Array
    refused: Array
    abandoned: Array
    over: Array


@pytest.mark.parametrize(
    ("seed", "what", "wanted"),
    [
        (1, "healthy", {"errors pass", "refused pass", "thumbs pass"}),
        (2, "outages", {"outage", "errors inconclusive"}),
        (3, "slow and leaving", {"abandoned fail"}),
        (4, "refusing", {"refused fail", "killed"}),
        (5, "moving shares", {"abandoned inconclusive"}),
    ],
)
def test_family_batch__same_intervals__says_what_the_state_says(
    seed: int, what: str, wanted: set[str]
) -> None:
    rng = np.random.default_rng(seed)
    batch, states = FamilyBatch(DEFAULT, SIZE), [GatesState.initial(DEFAULT) for _ in range(SIZE)]
    seen: set[str] = set()
    for index in range(70):
        share_bp = _share(index, what)
        arms = {
            name: _draw(name, part, index, what, rng)
            for name, part in (("baseline", 10_000 - share_bp), ("candidate", share_bp))
        }
        pairs = [(rng.random(SIZE), rng.random(SIZE)) for _ in range(index % 3)]
        batch.update(SECONDS, share_bp, arms["baseline"], arms["candidate"], pairs)
        for run, state in enumerate(states):
            states[run] = state.update(_interval(index, share_bp, arms, pairs, run))
        assert batch.log_evidence == pytest.approx([state.log_evidence for state in states], abs=1e-9)
        assert [KEYS[k] if k >= 0 else None for k in batch.crossed] == [state.crossed for state in states]
        if index % 4 == 0:
            seen |= _same_verdicts(batch, states)
    assert wanted <= seen


def _same_verdicts(batch: FamilyBatch, states: list[GatesState]) -> set[str]:
    """What was seen: "key verdict" of every gate, "killed", "outage"."""
    family = [state.assess() for state in states]
    outages = [verdict.outage is not None and not verdict.outage.over for verdict in family]
    killed = [verdict.fast_kill is not None for verdict in family]
    assert batch.outage.tolist() == outages
    assert batch.killed.tolist() == killed
    seen = {"outage"} if any(outages) else set()
    seen |= {"killed"} if any(killed) else set()
    for position, key in enumerate(KEYS):
        told = [verdict.verdicts[position].verdict for verdict in family]
        assert batch.passes(position).tolist() == [verdict is Verdict.PASS for verdict in told], key
        seen |= {f"{key} {verdict.value}" for verdict in told}
    return seen


def test_family_batch__what_it_does_not_know__is_refused() -> None:
    with pytest.raises(InvalidInput, match="warm_up_requests"):
        FamilyBatch(policy(ERRORS, warm_up_requests=10), SIZE)
    kinds = FamilyBatch(policy({"key": "empty", "kind": "empty", "delta": 0.01}), SIZE)
    arm = _draw("baseline", 5_000, 0, "healthy", np.random.default_rng(1))
    with pytest.raises(InvalidInput, match="empty"):
        kinds.update(SECONDS, 5_000, arm, arm)


def _share(index: int, what: str) -> int:
    if what == "moving shares":
        return (5_000, 1_000)[index // 8 % 2]
    return (500, 2_500, 5_000)[min(index // 10, 2)]


def _draw(name: str, part_bp: int, index: int, what: str, rng: np.random.Generator) -> ArmBatch:
    arrived = rng.poisson(200 * part_bp / 10_000, SIZE)
    bad = name == "candidate"
    failed = np.full(SIZE, 0.01)
    if what == "outages" and not bad:
        failed = np.where(rng.random(SIZE) < 0.3, 0.8, 0.15)
    refused, abandoned, over = (np.full(SIZE, rate) for rate in (0.01, 0.02, 0.05))
    if what == "slow and leaving" and bad:
        abandoned, over = np.full(SIZE, 0.2), np.full(SIZE, 0.1)
    if what == "refusing" and bad and index >= 30:
        refused = np.full(SIZE, 0.6)
    ends = rng.multinomial(arrived, np.stack([failed, refused, abandoned, np.zeros(SIZE)], axis=1) * 0.99)
    errors, refusals, left = ends[:, 0], ends[:, 1], ends[:, 2]
    requests = arrived - left
    answered = requests - errors - refusals
    left_over = rng.binomial(left, 0.5)
    timed = TimedBatch(*_floats(answered, rng.binomial(answered, over), left, left_over))
    ready = np.where((what == "outages") & (rng.random(SIZE) < 0.1), 0.0, part_bp / 5_000)
    if what == "healthy":
        ready = np.full(SIZE, 1.0)
    down = rng.binomial(answered, 0.05)
    ended, failures, came, declined, gone, whole, rated_down = _floats(
        requests, errors, arrived, refusals, left, answered, down
    )
    return ArmBatch(
        ended, failures, came, ready, declined, gone, {"ttft": timed}, answers=whole, thumbs_down=rated_down
    )


def _floats(*counts: np.typing.NDArray[np.int64]) -> tuple[Array, ...]:
    return tuple(values.astype(float) for values in counts)


def _interval(
    index: int, share_bp: int, arms: dict[str, ArmBatch], pairs: list[tuple[Array, Array]], run: int
) -> Interval:
    probes = tuple(ProbePair("p", float(b[run]), float(c[run])) for b, c in pairs)
    counted = {name: _counts(arm, run) for name, arm in arms.items()}
    return Interval(
        index, index * SECONDS, SECONDS, share_bp, counted, {"candidate": probes} if probes else {}
    )


def _counts(arm: ArmBatch, run: int) -> ArmCounts:
    def at(values: Array | None) -> int:
        assert values is not None
        return int(values[run])

    timed = arm.timed["ttft"]
    latency = LatencyCounts(
        at(timed.total), {0.5: at(timed.over)}, at(timed.left), {0.5: at(timed.left_over)}
    )
    return ArmCounts(
        at(arm.requests),
        at(arm.errors),
        at(arm.arrived),
        float(arm.ready[run]),
        {"ttft": latency},
        at(arm.answers),
        at(arm.thumbs_down),
        outcomes=Outcomes(refused_request=at(arm.refused), abandoned_before=at(arm.abandoned)),
    )
