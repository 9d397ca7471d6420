"""A rollout in a browser: it changes under one's eyes, and people tell it what to do."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Route, expect

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.web.live import publish
from rollouts.models import Rollout
from rollouts.services.commands.rollouts import pause_rollout, roll_back_rollout
from tests import factories
from tests.e2e.browser.conftest import Visit
from tests.e2e.browser.holding import held_back

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]


def fresh(rollout: Rollout) -> Rollout:
    rollout.refresh_from_db()
    return rollout


def actor(role: Role = Role.ENGINEER) -> Actor:
    return Actor.person(factories.person(role))


def more_evidence(rollout: Rollout) -> None:
    """One interval more, as the loop would have written it."""
    last = rollout.evidence.order_by("-index")[0]
    interval = {**last.interval, "index": last.index + 1, "started_at": last.interval["started_at"] + 5}
    rollout.evidence.create(
        index=last.index + 1,
        ended_at=last.ended_at + timedelta(seconds=5),
        interval=interval,
        verdicts=last.verdicts,
        decision={},
        digest="",
    )


def test_live__another_person_pauses__page_shows_it_without_a_reload(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit(Role.VIEWER)
    visitor.open(f"/rollouts/{rollout.pk}")
    expect(visitor.page.locator("#live-state")).to_contain_text("Live")
    visitor.page.evaluate("window.stayed = true")
    pause_rollout(rollout_id=rollout.pk, actor=actor(), now=factories.right_now(), why="Look at this.")
    expect(visitor.page.locator("#head .pill")).to_have_text("Paused at 25%")
    expect(visitor.page.locator("#why")).to_contain_text("Look at this.")
    assert visitor.page.evaluate("window.stayed")
    assert visitor.complaints == []


def test_live__dialog_open__keeps_what_was_typed(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.click("a:has-text('Roll back to v1')")
    visitor.page.fill("#dialog [name=why]", "half a sentence")
    Rollout.objects.filter(pk=rollout.pk).update(reason="Something new happened here.")
    publish(f"rollout:{rollout.pk}", now=factories.right_now())
    expect(visitor.page.locator("#why")).to_contain_text("Something new happened")
    expect(visitor.page.locator("#dialog")).to_be_visible()
    expect(visitor.page.locator("#dialog [name=why]")).to_have_value("half a sentence")


def test_stream_lost__page_says_so_and_polls(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.page.route("**/events?**", lambda route: route.abort())
    visitor.page.clock.install()
    # The page must have heard of the failure before the clock runs on: a busy machine delivers it late.
    with visitor.page.expect_event("requestfailed", lambda request: "/events?" in request.url):
        visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.clock.run_for(2_000)
    visitor.page.clock.run_for(6_000)
    expect(visitor.page.locator("#live-state")).to_contain_text("Stream lost · polling every 10 s")
    Rollout.objects.filter(pk=rollout.pk).update(reason="Heard by asking again.")
    visitor.page.clock.run_for(12_000)
    expect(visitor.page.locator("#why")).to_contain_text("Heard by asking again.")


def test_server_silent_for_a_minute__forward_is_off_and_roll_back_is_not(visit: Visit) -> None:
    rollout = factories.rollout_paused()
    visitor = visit()
    visitor.page.clock.install()
    visitor.open(f"/rollouts/{rollout.pk}")

    def hang_up(route: Route) -> None:
        route.abort()

    visitor.page.route("**/*", hang_up)
    visitor.page.clock.run_for(75_000)
    expect(visitor.page.locator("#live-state")).to_contain_text("Stale")
    expect(visitor.page.locator("a:has-text('Resume')")).to_have_attribute("aria-disabled", "")
    expect(visitor.page.locator("[data-stale-note]")).to_be_visible()
    visitor.page.unroute("**/*", hang_up)
    visitor.page.click("a:has-text('Roll back to v1')")
    visitor.page.click("#dialog button:has-text('Roll back to v1')")
    expect(visitor.page.locator("#dialog")).to_be_hidden()
    assert fresh(rollout).phase == "rolling-back"


def test_pause_and_resume__by_keyboard_alone(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit(Role.ENGINEER)
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.focus("a:has-text('Pause')")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("#dialog[open]")
    visitor.page.keyboard.type("support lead asked")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#head .pill")).to_have_text("Paused at 25%")
    assert "support lead asked" in fresh(rollout).reason
    visitor.page.focus("a:has-text('Resume')")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_selector("#dialog[open]")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#head .pill")).to_have_text(re.compile("Waiting at 25%"))
    assert visitor.complaints == []


def test_promote__name_not_typed__button_stays_off(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.click("a:has-text('Promote now')")
    go = visitor.page.locator("#dialog button:has-text('Promote to 100%')")
    expect(go).to_be_disabled()
    visitor.page.fill("#dialog [name=typed]", "triag")
    expect(go).to_be_disabled()
    visitor.page.fill("#dialog [name=typed]", "triage")
    go.click()
    expect(visitor.page.locator("#head .pill")).to_have_text("Promoting")
    assert fresh(rollout).phase == "promoting"


def test_conflict__changed_while_the_dialog_was_open__shows_who_and_the_fresh_state(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit(Role.ENGINEER)
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.click("a:has-text('Pause')")
    visitor.page.wait_for_selector("#dialog[open]")
    roll_back_rollout(rollout_id=rollout.pk, actor=actor(Role.RELEASE_MANAGER), now=factories.right_now())
    visitor.page.click("#dialog [data-go]")
    expect(visitor.page.locator("#dialog")).to_contain_text("was changed by release-manager")
    expect(visitor.page.locator("#dialog .pill").nth(1)).to_have_text("Rolling back")
    visitor.page.click("#dialog a:has-text('Leave it')")
    expect(visitor.page.locator("#dialog")).to_be_hidden()
    assert fresh(rollout).phase == "rolling-back"


def test_viewer__sees_reasons_where_the_buttons_would_be(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit(Role.VIEWER)
    visitor.open(f"/rollouts/{rollout.pk}")
    expect(visitor.page.locator(".actions")).to_contain_text("Needs engineer.")
    assert visitor.page.locator(".actions a, .actions button").count() == 0


def test_charts__drawn__with_the_same_numbers_as_a_table(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    expect(visitor.page.locator(".chart canvas")).to_have_count(3)
    card = visitor.page.locator("section:has(#chart-traffic)")
    card.locator("summary").click()
    rows = card.locator("tbody tr")
    expect(rows).to_have_count(24)
    assert rows.last.inner_text().split("\t")[1:] == ["25%", "75%"]


def test_charts__new_evidence__is_fetched_and_drawn(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.open(f"/rollouts/{rollout.pk}")
    card = visitor.page.locator("section:has(#chart-traffic)")
    card.locator("summary").click()
    expect(card.locator("tbody tr")).to_have_count(24)
    more_evidence(rollout)
    with visitor.page.expect_request(lambda request: "since=" in request.url):
        publish(f"rollout:{rollout.pk}", now=factories.right_now())
    expect(card.locator("tbody tr")).not_to_have_count(24)


def test_charts__news_while_an_answer_is_awaited__is_asked_for_after_it(visit: Visit) -> None:
    """One question a chart at a time: answers that overtake each other would tear its data."""
    rollout = factories.rollout_progressing()
    visitor = visit()
    visitor.page.clock.install()
    visitor.open(f"/rollouts/{rollout.pk}")
    card = visitor.page.locator("section:has(#chart-traffic)")
    card.locator("summary").click()
    expect(card.locator("tbody tr")).to_have_count(24)
    before = card.locator("tbody tr").last.inner_text()
    with held_back(visitor.page, re.compile("since=")) as gate:
        for _ in range(2):
            for _ in range(12):  # the table thins: a minute is sure to be seen
                more_evidence(rollout)
            with visitor.page.expect_response(f"**/rollouts/{rollout.pk}"):
                publish(f"rollout:{rollout.pk}", now=factories.right_now())
            visitor.page.clock.run_for(1_000)
        gate.until_met(visitor.page, 3)
        asked = [route.request.url for route in gate.waiting]
        assert len(asked) == len(set(asked)) == 3
    visitor.page.clock.run_for(1_000)
    expect(card.locator("tbody tr").last).not_to_have_text(before)
    assert visitor.complaints == []


def test_launch_failed__log_is_on_the_page(visit: Visit) -> None:
    rollout = factories.rollout_launch_failed()
    visitor = visit(Role.VIEWER)
    visitor.open(f"/rollouts/{rollout.pk}")
    expect(visitor.page.locator("#launch pre")).to_contain_text("larger than the available KV cache memory")
