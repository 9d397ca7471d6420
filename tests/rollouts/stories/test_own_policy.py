"""A rollout under a policy of its own: judged by it, replayed by it, and listed as no version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rollouts.domain.record.recorded import TamperedEvidence
from rollouts.models import GatePolicyVersion, HistoryEvent, Rollout
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.policies.own import own_policy_from_values
from tests.rollouts.memory_world import ERRORS, LATENCY, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """An endpoint whose shared policy tolerates errors; the rollout under way does not."""
    made = MemoryWorld(tmp_path, gates=({**ERRORS, "mode": "tolerant"}, LATENCY)).serve()
    shared = made.endpoint.gate_policy
    gates: list[dict[str, Any]] = [
        {**gate, "mode": "strict"} if gate["kind"] == "error_rate" else gate for gate in shared.body["gates"]
    ]
    own = own_policy_from_values({**shared.body, "gates": gates}, source=shared)
    assert own is not None
    made.start(3, own_policy=own)
    made.run_to("progressing")
    made.behave(3, error_rate=0.15)
    made.run_to("rolled-back")
    return made


def rollout(w: MemoryWorld) -> Rollout:
    return Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)


def test_own_policy__decides_is_replayed_and_named(w: MemoryWorld) -> None:
    assert w.rollout.cause == "gate:errors"
    report = replay_whole(rollout=rollout(w))
    assert report.outcome == "identical", (report.first, report.first_other)
    assert report.policy == "policy of this rollout, from default@1"
    assert [str(row) for row in GatePolicyVersion.objects.all()] == ["default@1"]
    told = HistoryEvent.objects.get(kind="own-policy")
    assert (told.title, told.detail) == (
        "Judged by a policy of its own, from default@1", "gates.errors.mode tolerant → strict"
    )  # fmt: skip


def test_own_policy__replayed_under_the_shared_one__is_another_policy(w: MemoryWorld) -> None:
    """The shared version is not what was recorded: replaying under it says what it would have done."""
    report = replay_whole(rollout=rollout(w), policy=rollout(w).gate_policy)
    assert report.kind == "what-if"
    assert report.recorded is not None
    assert report.recorded["policy"] == "policy of this rollout, from default@1"


def test_own_policy__changed_afterwards__is_found(w: MemoryWorld) -> None:
    body = {**(rollout(w).own_policy or {}), "beta": 0.5}
    Rollout.objects.filter(pk=w.rollout.pk).update(own_policy=body)
    with pytest.raises(TamperedEvidence, match="the policy of this rollout"):
        replay_whole(rollout=rollout(w))
