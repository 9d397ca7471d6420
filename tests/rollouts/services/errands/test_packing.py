"""Old evidence is packed, and forgotten when its time is over: nothing that is read of it changes before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.kernel.digests import canonical_json
from rollouts.domain.engines import FailureReason
from rollouts.evidence import EvidenceExpired, evidence_rows, thin_series
from rollouts.models import Evidence, EvidencePack, LoopDecision, Rollout
from rollouts.services.errands import packing
from rollouts.services.errands.packing import forget_evidence, pack_evidence
from tests.rollouts.memory_world import LONG_PLAN, MemoryWorld
from tests.rollouts.replaying import assert_identical, over, replayed

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


def test_packed__after_an_hour__is_still_identical_and_nothing_that_is_read_changes(w: MemoryWorld) -> None:
    over(w)
    before = list(evidence_rows(w.rollout.pk))
    assert pack_evidence(now=w.now + timedelta(minutes=30)) == 0
    assert pack_evidence(now=w.now + timedelta(hours=2)) == 1
    assert not Evidence.objects.exists()
    assert [row.digest for row in evidence_rows(w.rollout.pk)] == [row.digest for row in before]
    part = list(evidence_rows(w.rollout.pk, first=3, stop=5))
    assert [canonical_json(row.to_json()) for row in part] == [
        canonical_json(row.to_json()) for row in before[3:5]
    ]
    assert_identical(w)


def test_packed__while_it_goes_on__the_chain_goes_on(w: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FEWEST_ROWS", 1)
    monkeypatch.setattr(packing, "PACK_AFTER", timedelta(seconds=0))
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    for _ in range(4):
        w.run_for(5)
        pack_evidence(now=w.now + timedelta(seconds=1))
    assert EvidencePack.objects.count() >= 2
    w.run_to("succeeded")
    assert_identical(w)


def test_retention__is_over__the_replay_says_so_and_the_series_stays(w: MemoryWorld) -> None:
    over(w)
    later = w.now + timedelta(days=401)
    pack_evidence(now=later)
    points = thin_series(w.rollout.pk)
    assert forget_evidence(now=w.now + timedelta(days=399), days=400) == 0
    assert forget_evidence(now=later, days=400) == 1
    assert forget_evidence(now=later, days=400) == 0
    assert thin_series(w.rollout.pk) == points != []
    with pytest.raises(EvidenceExpired, match="retention"):
        replayed(w)


def test_retention__of_a_rollout_that_goes_on__keeps_everything(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    w.run_for(2)
    w.pause()
    rows = w.rollout.next_interval
    pack_evidence(now=w.now + timedelta(days=1000))
    assert forget_evidence(now=w.now + timedelta(days=1000), days=400) == 0
    assert len(list(evidence_rows(w.rollout.pk))) == rows


def test_retention__of_a_rollout_whose_way_back_needs_a_person__keeps_everything(w: MemoryWorld) -> None:
    over(w)
    later = w.now + timedelta(days=1000)
    pack_evidence(now=later)
    Rollout.objects.filter(pk=w.rollout.pk).update(phase="failed")
    assert forget_evidence(now=later, days=400) == 0
    assert len(list(evidence_rows(w.rollout.pk))) == w.rollout.next_interval


def test_retention__rows_packed_after_the_first_ones_were_deleted__are_deleted_too(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MOST_ROWS", 3)
    over(w)
    later = w.now + timedelta(days=401)
    assert pack_evidence(now=later, most=1) == 1
    assert forget_evidence(now=later, days=400) == 1
    assert pack_evidence(now=later) >= 1
    assert forget_evidence(now=later, days=400) == 1
    assert not EvidencePack.objects.exclude(rows=b"").exists()


def test_retention__of_a_rollout_without_intervals__its_decisions_are_deleted_and_the_replay_says_so(
    w: MemoryWorld,
) -> None:
    rollout = w.start(2)
    w.run_for(2)
    w.cluster.fail(rollout.candidate.name, FailureReason.NO_MEMORY, "no room for the cache")
    w.run_to("rolled-back")
    assert not Evidence.objects.exists()
    later = w.now + timedelta(days=401)
    assert forget_evidence(now=w.now + timedelta(days=399), days=400) == 0
    assert replayed(w).outcome == "identical"
    assert forget_evidence(now=later, days=400) == 1
    assert forget_evidence(now=later, days=400) == 0
    assert not LoopDecision.objects.exists()
    with pytest.raises(EvidenceExpired, match="retention"):
        replayed(w)


def test_retention__decisions_that_outlived_their_evidence__are_deleted(w: MemoryWorld) -> None:
    """As an earlier release left them: packs that were emptied before decisions were kept in time."""
    over(w)
    later = w.now + timedelta(days=401)
    pack_evidence(now=later)
    EvidencePack.objects.update(rows=b"")
    assert LoopDecision.objects.exists()
    assert forget_evidence(now=later, days=400) == 1
    assert not LoopDecision.objects.exists()


def test_retention__rows_that_were_not_packed_yet__the_replay_says_expired_and_not_tampered(
    w: MemoryWorld,
) -> None:
    over(w)
    later = w.now + timedelta(days=401)
    assert forget_evidence(now=later, days=400) == 1
    assert Evidence.objects.exists()
    with pytest.raises(EvidenceExpired, match="retention"):
        replayed(w)
    pack_evidence(now=later)
    assert forget_evidence(now=later, days=400) == 1
    assert not EvidencePack.objects.exclude(rows=b"").exists()
