"""A replay, asked for in a browser: on the rollout's page, and for a policy on past rollouts."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from controlplane.access.actors import HEADGATE
from rollouts.models import Evidence
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.e2e.browser.conftest import Visit

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]


def test_replay__asked_for_on_the_page__is_identical_and_lists_what_was_checked(visit: Visit) -> None:
    rollout = factories.rollout_rolled_back()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.get_by_role("link", name="Replay", exact=True).click()
    result = visitor.page.locator("#replay-result")
    expect(result).to_contain_text("identical, every byte")
    expect(result.get_by_role("list", name="What was checked").get_by_role("listitem")).to_have_count(4)


def test_replay__of_changed_evidence__names_the_row_on_the_page(visit: Visit) -> None:
    rollout = factories.rollout_rolled_back()
    Evidence.objects.filter(rollout=rollout, index=6).delete()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.get_by_role("link", name="Replay", exact=True).click()
    expect(visitor.page.locator("#replay-result")).to_contain_text("interval 6 is missing")


def test_policy__tried_on_a_past_rollout__shows_both_courses_in_its_row(visit: Visit) -> None:
    rollout = factories.rollout_rolled_back()
    body = {**rollout.gate_policy.body, "alpha": 0.4}
    other = define_gate_policy(actor=HEADGATE, name="sooner", body=body, now=factories.right_now())
    visitor = visit()
    visitor.open(f"/policies/{other.name}")
    visitor.page.get_by_role("link", name="Choose a rollout").click()
    visitor.page.get_by_role("link", name=f"Replay #{rollout.pk} with {other}").click()
    row = visitor.page.get_by_role("row").filter(has_text=f"#{rollout.pk}")
    expect(row).to_contain_text("Recorded: back after")
    row.get_by_role("link", name="Compare").click()
    expect(visitor.page.get_by_role("heading", name="Under another policy")).to_be_visible()
