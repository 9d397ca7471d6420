"""An outage on the pages: the banner, what needs somebody, the history, and who answered meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from rollouts import selectors
from rollouts.domain.gates.outage import Outage
from rollouts.domain.serving import Serving
from rollouts.models import Endpoint, Rollout
from rollouts.ui.overview import page as overview_page
from rollouts.ui.parts.outages import ANOTHER, helper_of, outage_note
from rollouts.ui.rollout.page import RolloutPage, build
from tests import factories
from tests.factories import bandits
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.worlds import nothing_wrong

pytestmark = pytest.mark.django_db

NOW = factories.right_now().replace(hour=14, minute=3, second=51)
SINCE = NOW - timedelta(seconds=100)
OUTAGE = Outage(SINCE.timestamp(), 95.0, 425, 425, 400, "its engine is starting: loading weights")
SENTENCE = "Of 425 requests in that time, 400 were answered by v2 and 25 failed for their users."


def out_of_order(served: Endpoint, **changed: Any) -> Endpoint:
    assert served.stable is not None
    served.outage = Serving(served.stable.name, Outage(**{**OUTAGE.to_json(), **changed})).to_json()
    served.save()
    return served


def held(made: Rollout) -> Rollout:
    """The rollout as the loop leaves it while its baseline is out of order."""
    out_of_order(made.endpoint)
    made.verdicts = {**made.verdicts, "outage": OUTAGE.to_json()}
    made.reason, made.next_step = (
        f"Held at 25%. {OUTAGE.sentence}",
        "It goes on when the baseline works again.",
    )
    made.save()
    return made


def page_of(made: Rollout) -> RolloutPage:
    return build(rollout=selectors.find_rollout(made.pk), user=factories.person(), now=NOW, stop_on=False)


def test_rollout__held_by_an_outage__says_since_when_how_many_and_who_answered() -> None:
    page = page_of(held(factories.rollout_progressing(now=NOW)))
    assert page.why.tone == "fail"
    assert page.why.strong == "v1 has been out of order since 14:02:11 UTC, for 1 min 40 s."
    assert page.why.first == (
        "Held at 25%, because its engine is starting: loading weights. Nothing that is measured meanwhile counts in "
        "favour of v2."
    )
    assert page.why.more == f"{SENTENCE} It goes on when the baseline works again."
    assert page.outage is None  # said once


def test_paused_rollout__baseline_out_of_order__has_a_banner_of_its_own(engineer: Client) -> None:
    made = factories.rollout_paused(now=NOW)
    out_of_order(made.endpoint)
    page = page_of(made)
    assert page.why.strong == "ana paused the rollout."
    assert page.outage is not None
    assert page.outage.more == SENTENCE
    for headers in ({}, HTMX):
        text = engineer.get(f"/rollouts/{made.pk}", headers=headers).content.decode()
        assert "v1 has been out of order since 14:02:11 UTC" in text


def test_rollout_that_is_over__later_outage_of_the_endpoint__is_none_of_its_business() -> None:
    made = factories.rollout_rolled_back(now=NOW)
    out_of_order(made.endpoint)
    assert page_of(made).outage is None


def test_outage_that_is_over__is_shown_nowhere(engineer: Client) -> None:
    served = out_of_order(factories.endpoint(now=NOW), over=True)
    assert outage_note(served, NOW, labels={}) is None
    assert "out of order" not in engineer.get("/endpoints/triage").content.decode()


def test_endpoint__out_of_order__has_a_banner_and_a_pill(engineer: Client) -> None:
    out_of_order(factories.endpoint(now=NOW), rescued=0)
    text = engineer.get("/endpoints/triage").content.decode()
    assert "v1 has been out of order since 14:02:11 UTC" in text
    assert "Of 425 requests in that time, 425 failed for their users." in text
    assert "Out of order" in text


def test_overview__out_of_order__needs_somebody_first() -> None:
    factories.rollout_paused(now=NOW)
    other = factories.endpoint("chat", of=Endpoint.objects.get().model, now=NOW)
    out_of_order(other, rescued=0)
    need = overview_page.build(worlds=nothing_wrong(), now=NOW).needs[0]
    assert (need.tone, need.title, need.at) == ("fail", "chat: v1 is out of order", SINCE)
    assert need.detail.startswith("Its engine is starting: loading weights. Of 425 requests in that time")


def test_overview__outage__costs_no_query(django_assert_num_queries: Any) -> None:
    served = factories.endpoint(now=NOW)
    with django_assert_num_queries(12):
        overview_page.build(worlds=nothing_wrong(), now=NOW)
    out_of_order(served)
    with django_assert_num_queries(12):
        overview_page.build(worlds=nothing_wrong(), now=NOW)


def test_bandit__outage__names_nobody_where_several_may_have_answered() -> None:
    made = bandits.rollout_bandit(now=NOW)
    served = out_of_order(made.endpoint)
    assert helper_of(served, {}) == ANOTHER


def test_helper__no_rollout__is_the_previous_variant_that_is_still_warm() -> None:
    served = factories.endpoint(now=NOW)
    served.previous = factories.variant(served, 2, now=NOW)
    assert helper_of(served, {served.previous.name: "v2"}) == "v2"


def test_endpoint__rollout_held_by_the_outage__is_told_in_one_banner_each(engineer: Client) -> None:
    held(factories.rollout_progressing(now=NOW))
    text = engineer.get("/endpoints/triage").content.decode()
    assert "Held at 25%." in text
    assert text.count("425 requests in that time") == 1
    assert "of its 425 requests failed" not in text


def test_helper__route_in_force_names_one_rescuer__is_that_one() -> None:
    served = factories.endpoint(now=NOW)
    served.applied = {"rescuers": ["triage-v3-abc"]}
    assert helper_of(served, {"triage-v3-abc": "v3"}) == "v3"
    served.applied = {"rescuers": ["triage-v3-abc", "triage-v2-abc"]}
    assert helper_of(served, {"triage-v3-abc": "v3"}) == ANOTHER


def test_endpoint__rescue_switched_off__says_that_nobody_answers(engineer: Client) -> None:
    served = factories.endpoint(now=NOW)
    assert "another healthy variant answers" in engineer.get("/endpoints/triage").content.decode()
    served.rescue = False
    served.save()
    assert "nobody answers" in engineer.get("/endpoints/triage").content.decode()
