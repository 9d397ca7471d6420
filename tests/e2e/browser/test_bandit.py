"""A bandit in a browser: it is read with a keyboard, stays as one left it, and lets a person choose."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from controlplane.web.live import publish
from rollouts.models import Arm, Rollout
from tests import factories
from tests.e2e.browser.conftest import NO_QUIET_MOMENT, Visit
from tests.factories import bandits

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]
LIFE = bandits.Life(bandits.LEARNING.arms, 40)


def test_live__shares_move__page_follows_and_keeps_what_was_opened(visit: Visit) -> None:
    rollout = bandits.rollout_bandit(life=LIFE)
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    closed = visitor.page.locator("#gates details:not([open]) > summary").first
    closed.focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#gates details[open]")).to_have_count(2)
    Arm.objects.filter(rollout=rollout, name="candidate").update(observed_bp=7_700, desired_bp=7_700)
    Rollout.objects.filter(pk=rollout.pk).update(reason="Something new happened here.")
    publish(f"rollout:{rollout.pk}", now=factories.right_now())
    expect(visitor.page.locator("#why")).to_contain_text("Something new happened")
    expect(visitor.page.locator("#arms")).to_contain_text("77%")
    expect(visitor.page.locator("#gates details[open]")).to_have_count(2)
    assert visitor.complaints == []


def test_allocation__as_table__has_a_column_an_arm(visit: Visit) -> None:
    rollout = bandits.rollout_bandit(life=LIFE)
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.wait_for_selector(".u-over")
    card = visitor.page.locator("section[aria-labelledby=chart-traffic]")
    card.get_by_text("View as table").click()
    expect(card.locator("thead th")).to_have_text(["Time", "v2", "v3", "v4", "v1"])
    expect(card.locator("tbody tr").last).to_contain_text("10%")


def test_choose__keyboard_only__promotes_the_arm_that_was_chosen(visit: Visit) -> None:
    rollout = bandits.rollout_bandit(life=LIFE)
    visitor = visit()
    page = visitor.page
    visitor.open(f"/rollouts/{rollout.pk}")
    page.get_by_role("link", name="Choose an arm").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_contain_text("Choose an arm of rollout")
    page.locator("#dialog").get_by_role("link", name="Promote v3").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_contain_text("The alias triage-production moves to v3")
    page.locator("#dialog [name=typed]").focus()
    page.keyboard.type("triage")
    page.keyboard.press("Enter")
    expect(page.locator("#head .pill")).to_have_text("Promoting")
    rollout.refresh_from_db()
    assert rollout.candidate.version.label == "v3"
    assert visitor.complaints == []


def test_dialog__its_next_page__is_bound_in_the_moment_it_is_seen(visit: Visit) -> None:
    """Else an early Enter leaves the page that the dialog stands on."""
    rollout = bandits.rollout_bandit(life=LIFE)
    visitor = visit()
    page = visitor.page
    page.add_init_script(NO_QUIET_MOMENT)
    visitor.open(f"/rollouts/{rollout.pk}")
    page.evaluate("window.stayed = true")
    page.get_by_role("link", name="Choose an arm").click()
    page.locator("#dialog").get_by_role("link", name="Promote v3").click()
    page.wait_for_selector("#dialog [name=typed]")
    page.focus("#dialog [name=typed]")
    page.keyboard.type("triage\n")
    expect(page.locator("#head .pill")).to_have_text("Promoting")
    assert page.evaluate("window.stayed")
