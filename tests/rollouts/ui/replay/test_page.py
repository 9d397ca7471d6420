"""Replays as people see them: on the rollout's page, on a page of their own, and on a policy's page."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.access.actors import HEADGATE
from rollouts.models import Evidence, GatePolicyVersion
from rollouts.services.errands.packing import pack_evidence
from rollouts.services.evidence import replay
from rollouts.services.policies.versions import define_gate_policy
from rollouts.ui.replay import page as replay_page
from tests import factories
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db


def stricter() -> GatePolicyVersion:
    """The default policy of the factories, with a limit on quality that is easily broken."""
    first = GatePolicyVersion.objects.earliest("id")
    return define_gate_policy(
        actor=HEADGATE,
        name=first.name,
        body={**first.body, "alpha": 0.4},
        now=factories.right_now(),
        note="try",
    )


def test_page__offers_a_replay_beside_the_evidence(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    page = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert f'hx-get="/rollouts/{rollout.pk}/replay"' in page
    assert 'id="replay-result"' in page


def test_replay__before_there_is_evidence__says_that_nothing_was_replayed(viewer: Client) -> None:
    rollout = factories.rollout_launching()
    text = viewer.get(f"/rollouts/{rollout.pk}/replay", headers=HTMX).content.decode()
    assert "0 intervals and 0 decisions" in text


def test_replay__of_a_recorded_rollout__is_identical_and_says_what_was_checked(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    answer = viewer.get(f"/rollouts/{rollout.pk}/replay", headers=HTMX)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "14 intervals and 0 decisions between them replayed: identical" in text
    assert "each digest covers its row" in text
    assert rollout.evidence.latest("index").digest in text


@pytest.mark.parametrize("intervals", [8, 40])
def test_replay__queries__do_not_grow_with_the_evidence(
    viewer: Client, intervals: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    rollout = factories.rollout_progressing(intervals=intervals)
    # session, person; rollout, arms; retention, decisions, rows; policies to choose from, and their number
    with django_assert_num_queries(9):
        viewer.get(f"/rollouts/{rollout.pk}/replay", headers=HTMX)


def test_replay__changed_evidence__names_the_row(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    row = Evidence.objects.get(rollout=rollout, index=5)
    row.interval["arms"]["candidate"]["errors"] += 1
    row.save()
    answer = viewer.get(f"/rollouts/{rollout.pk}/replay", headers=HTMX)
    assert answer.status_code == 422
    assert "interval 5 does not have the digest" in answer.content.decode()
    assert "backup" in answer.content.decode()


def test_replay__that_takes_long__shows_how_far_it_came_and_goes_on(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "STEPS_A_LOOK", 10)
    monkeypatch.setattr(replay, "PART_SECONDS", 0.0)
    rollout = factories.rollout_progressing(intervals=24)
    url, texts = f"/rollouts/{rollout.pk}/replay", []
    while url:
        texts.append(viewer.get(url, headers=HTMX).content.decode())
        found = re.search(r'hx-get="([^"]+run=[^"]+)"', texts[-1])
        url = found[1].replace("&amp;", "&") if found else ""
    assert [("<progress" in text) for text in texts] == [True, True, False]
    assert 'value="10" max="24"' in texts[0]
    assert "identical" in texts[-1]


def test_replay__page_of_its_own__is_whole_and_offers_other_policies(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    made = stricter()
    page = viewer.get(f"/rollouts/{rollout.pk}/replay").content.decode()
    assert "<html" in page
    assert "identical" in page
    assert f'<option value="{made}"' in page


def test_replay__under_another_policy__shows_both_and_the_first_other_decision(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    made = stricter()
    page = viewer.get(f"/rollouts/{rollout.pk}/replay?policy={made}", headers=HTMX).content.decode()
    assert str(made) in page
    assert str(rollout.gate_policy) in page
    assert "First other decision, after" in page
    assert "the traffic would have been different too" in page


def test_replay__unknown_policy__says_which_there_are(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    answer = viewer.get(f"/rollouts/{rollout.pk}/replay?policy=nope@9", headers=HTMX)
    assert answer.status_code == 400
    assert str(rollout.gate_policy) in answer.content.decode()


def test_policy_page__offers_past_rollouts(viewer: Client) -> None:
    policy = factories.rollout_rolled_back().gate_policy
    page = viewer.get(f"/policies/{policy.name}").content.decode()
    assert f"/policies/{policy.name}/{policy.version}/try" in page


def test_try__lists_rollouts_that_are_over_only(viewer: Client) -> None:
    over = factories.rollout_rolled_back()
    going = factories.rollout_progressing(of=over.endpoint)
    policy = over.gate_policy
    text = viewer.get(f"/policies/{policy.name}/{policy.version}/try", headers=HTMX).content.decode()
    assert f"/rollouts/{over.pk}/replay" in text
    assert f"/rollouts/{going.pk}/replay" not in text


def test_try__more_than_a_page__is_turned(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_page, "PAST_A_PAGE", 1)
    first = factories.rollout_rolled_back()
    second = factories.rollout_promoted(of=first.endpoint, watching=False)
    policy = first.gate_policy
    url = f"/policies/{policy.name}/{policy.version}/try"
    text = viewer.get(url, headers=HTMX).content.decode()
    assert f"/rollouts/{second.pk}/replay" in text
    assert f'href="{url}?before={second.pk}"' in text
    text = viewer.get(f"{url}?before={second.pk}").content.decode()
    assert f"/rollouts/{first.pk}/replay" in text
    assert "?before=" not in text


def test_replay__more_policies_than_are_offered__its_own_come_first_and_the_others_are_counted(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_page, "POLICIES_SHOWN", 1)
    rollout = factories.rollout_rolled_back()
    own = rollout.gate_policy
    GatePolicyVersion.objects.bulk_create(
        GatePolicyVersion(name=name, version=1, body=own.body, digest=own.digest, created_at=own.created_at)
        for name in ("a", "b")
    )
    text = viewer.get(f"/rollouts/{rollout.pk}/replay").content.decode()
    assert re.findall(r'<option value="([^"]+)"', text) == [str(own)]
    assert "2 more versions not listed" in text


def test_try__one_row__shows_recorded_and_replayed(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    made = stricter()
    row = viewer.get(f"/rollouts/{rollout.pk}/replay?row=1&policy={made}", headers=HTMX).content.decode()
    assert "Recorded: back after" in row
    assert "Replayed: back after" in row
    assert "<table" not in row


def test_try__queries__do_not_grow_with_the_rollouts(
    viewer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    over = factories.rollout_rolled_back()
    policy = over.gate_policy
    url = f"/policies/{policy.name}/{policy.version}/try"
    with django_assert_max_num_queries(5):  # session, person; policy; rollouts, arms
        viewer.get(url, headers=HTMX)
    factories.rollout_promoted(of=over.endpoint, watching=False)
    with django_assert_max_num_queries(5):
        viewer.get(url, headers=HTMX)


# --- charts of packed evidence --------------------------------------------------------------------------------------


def test_charts__after_packing__show_the_same(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    urls = [f"/rollouts/{rollout.pk}/charts/{name}" for name in ("traffic", "errors", "quality")]
    before = [viewer.get(url).json() for url in urls]
    assert pack_evidence(now=factories.right_now() + timedelta(hours=2)) == 1
    assert [viewer.get(url).json() for url in urls] == before


def test_arms__after_packing__show_the_same(viewer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    arms = re.compile(r'id="arms".*?</section>', re.S)
    before = arms.findall(viewer.get(f"/rollouts/{rollout.pk}").content.decode())
    pack_evidence(now=factories.right_now() + timedelta(hours=2))
    after = arms.findall(viewer.get(f"/rollouts/{rollout.pk}").content.decode())
    assert before == after != []
