"""An older version is installed again, or a database is restored under it: what a newer one wrote of a rollout is
refused in a sentence wherever it is read, nothing of it is guessed, and a person can still roll back."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from controlplane.access.models import User
from controlplane.passes.models import ItemTrouble
from rollouts import wiring
from rollouts.domain.record.formats import FORMAT, UnknownFormat
from rollouts.domain.record.recorded import thin_rows
from rollouts.evidence import decisions_between, evidence_rows, require_readable, thin_series
from rollouts.models import Evidence, EvidencePack, LoopDecision, Rollout
from rollouts.selectors import find_rollout
from rollouts.services.errands import packing
from rollouts.services.errands.packing import pack_evidence
from rollouts.services.evidence.replay import replay_whole
from tests.rollouts.memory_world import ERRORS, LONG_PLAN, MemoryWorld
from tests.rollouts.replaying import promoted

pytestmark = [pytest.mark.story, pytest.mark.django_db]
NEWER = FORMAT + 1
SENTENCE = f"was written in format {NEWER} of the evidence"


@pytest.fixture
def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryWorld:
    made = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    monkeypatch.setattr(wiring, "worlds", lambda: made.worlds)
    return made


@pytest.fixture
def under_way(w: MemoryWorld) -> MemoryWorld:
    w.start(2, plan=LONG_PLAN)
    w.run_to("progressing")
    w.run(lambda: w.rollout.next_interval > 3)
    return w


def of_a_newer_version(row: Evidence | LoopDecision) -> None:
    """With another form, as a newer version might have: this one cannot make anything of it."""
    row.situation = {"format": NEWER, "moment": row.situation["now"]}
    row.save()


def last_interval_is_newer(w: MemoryWorld) -> int:
    """The number of that interval; what the rollout itself keeps of it has another form as well."""
    newest = Evidence.objects.order_by("-index")[0]
    of_a_newer_version(newest)
    Rollout.objects.update(verdicts={"said": {}}, gates_state={"kept": {}})
    return newest.index


# --- the loop -----------------------------------------------------------------------------------------------------


def test_loop__newest_interval_is_of_a_newer_version__nothing_moves_and_it_says_why(
    under_way: MemoryWorld,
) -> None:
    w = under_way
    index = last_interval_is_newer(w)
    before = (w.rollout.phase, w.shares(), w.rollout.next_interval, LoopDecision.objects.count())
    w.run_for(12)
    assert (w.rollout.phase, w.shares(), w.rollout.next_interval, LoopDecision.objects.count()) == before
    assert w.rollout.reason == (
        f"Interval {index} {SENTENCE}; this version of Headgate reads the formats up to {FORMAT}. Nothing moves."
    )
    assert not ItemTrouble.objects.exists()


def test_loop__newest_interval_is_of_a_newer_version__a_lost_route_is_published_again(
    under_way: MemoryWorld,
) -> None:
    w = under_way
    shares = w.shares()
    last_interval_is_newer(w)
    w.router.routes.clear()
    w.run_for(6)
    assert (w.shares(), w.lost) == (shares, 0)


def test_loop__newest_interval_is_of_a_newer_version__a_person_rolls_back(under_way: MemoryWorld) -> None:
    w = under_way
    last_interval_is_newer(w)
    w.run_for(3)
    w.roll_back()
    w.run_to("rolled-back")
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)


# --- whoever reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Evidence, LoopDecision])
def test_replay__of_what_a_newer_version_wrote__is_refused(
    under_way: MemoryWorld, kind: type[Evidence | LoopDecision]
) -> None:
    row: Any = kind.objects.order_by("-pk")[0]
    of_a_newer_version(row)
    with pytest.raises(UnknownFormat, match=SENTENCE):
        replay_whole(rollout=under_way.rollout)


def test_replay_command__of_what_a_newer_version_wrote__ends_with_the_sentence(
    under_way: MemoryWorld,
) -> None:
    last_interval_is_newer(under_way)
    with pytest.raises(CommandError, match=SENTENCE):
        call_command("replay", str(under_way.rollout.pk), stdout=StringIO())


def test_decisions__of_a_newer_version__are_refused(under_way: MemoryWorld) -> None:
    of_a_newer_version(LoopDecision.objects.order_by("-pk")[0])
    with pytest.raises(UnknownFormat, match="Decision "):
        decisions_between(under_way.rollout.pk)


def test_api__of_what_a_newer_version_wrote__is_refused_and_rolls_back(under_way: MemoryWorld) -> None:
    w = under_way
    last_interval_is_newer(w)
    api = APIClient()
    api.force_login(User.objects.get(username="eli"))
    for part in ("evidence", "verdicts", "replay"):
        answer = api.get(f"/api/v1/rollouts/{w.rollout.pk}/{part}")
        assert (answer.status_code, answer.json()["code"]) == (422, "evidence-too-new"), part
        assert SENTENCE in answer.json()["detail"], part
    assert api.get(f"/api/v1/rollouts/{w.rollout.pk}").status_code == 200
    assert api.post(f"/api/v1/rollouts/{w.rollout.pk}/rollback", {}, format="json").status_code == 200


def test_pages__of_what_a_newer_version_wrote__say_so_and_lists_show_it_all_the_same(
    under_way: MemoryWorld,
) -> None:
    w = under_way
    last_interval_is_newer(w)
    pages = Client()
    pages.force_login(User.objects.get(username="eli"))
    own = f"/rollouts/{w.rollout.pk}"
    for address in (own, f"{own}/charts/traffic", f"{own}/confirm/pause"):
        answer = pages.get(address)
        assert answer.status_code == 422, address
        assert SENTENCE in answer.content.decode(), address
    for address in ("/", "/rollouts", "/endpoints/triage"):
        assert pages.get(address).status_code == 200, address


# --- packed -------------------------------------------------------------------------------------------------------


def test_packing__of_what_a_newer_version_wrote__keeps_the_rows_and_its_error(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "FEWEST_ROWS", 1)
    promoted(w)
    of_a_newer_version(Evidence.objects.order_by("index")[1])
    rows = Evidence.objects.count()
    assert pack_evidence(now=w.now + timedelta(hours=2)) == 0
    assert (Evidence.objects.count(), EvidencePack.objects.count()) == (rows, 0)
    trouble = ItemTrouble.objects.get(pass_name=packing.PACKING)
    assert SENTENCE in trouble.error


def test_packed__by_a_newer_version__is_refused_like_its_rows(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "FEWEST_ROWS", 1)
    promoted(w)
    with monkeypatch.context() as newer:
        newer.setattr("rollouts.domain.record.recorded.FORMAT", NEWER)
        assert pack_evidence(now=w.now + timedelta(hours=2)) == 1
    for read in (lambda: thin_series(w.rollout.pk), lambda: require_readable(find_rollout(w.rollout.pk))):
        with pytest.raises(UnknownFormat, match=SENTENCE):
            read()


def test_packed__before_points_had_a_number__is_read(w: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FEWEST_ROWS", 1)
    promoted(w)
    rows = [one.digest for one in evidence_rows(w.rollout.pk)]
    monkeypatch.setattr(
        "rollouts.services.errands.packing.thin_rows",
        lambda intervals, edges: [
            {name: value for name, value in point.items() if name != "format"}
            for point in thin_rows(intervals, edges=edges)
        ],
    )
    assert pack_evidence(now=w.now + timedelta(hours=2)) == 1
    require_readable(find_rollout(w.rollout.pk))
    assert [one.digest for one in evidence_rows(w.rollout.pk)] == rows
    assert len(thin_series(w.rollout.pk)) == len(rows)
