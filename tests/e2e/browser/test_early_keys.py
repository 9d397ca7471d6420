"""Keys that are pressed before the page is ready, while it waits for an answer, or while it is left: none is lost.

Nothing here waits for luck: a script, a page or an answer is held back until the keys were pressed.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from controlplane.access.roles import Role
from rollouts.models import Rollout
from tests import factories
from tests.e2e.browser.conftest import NO_QUIET_MOMENT, Visit, Visitor
from tests.e2e.browser.holding import held_back

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]

SCRIPT = "**/app*.js"


def open_unready(visitor: Visitor, path: str) -> None:
    """Goes to a page whose own script is held back: it is parsed and shown, and nobody listens yet."""
    with visitor.page.expect_request(SCRIPT):
        visitor.page.goto(visitor.site.url + path, wait_until="commit")
    visitor.page.wait_for_selector("#search", state="attached")


def click(page: Page, selector: str) -> None:
    """A click that waits for nothing: where the page is being left, Playwright would wait for the next one."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_search__typed_before_htmx_has_a_quiet_moment__is_answered(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    visitor.page.add_init_script(NO_QUIET_MOMENT)
    visitor.open("/")
    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("triage")
    expect(visitor.page.locator("#hits a").first).to_be_visible()


def test_search__opened_and_typed_before_the_script_runs__is_answered(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/")
        visitor.page.keyboard.type("/triax")
        visitor.page.keyboard.press("Backspace")
        visitor.page.keyboard.type("ge")
    expect(visitor.page.locator("#search-words")).to_have_value("triage")
    expect(visitor.page.locator("#search-words")).to_be_focused()
    expect(visitor.page.locator("#hits a").first).to_be_visible()
    assert visitor.complaints == []


def test_search_and_enter__before_the_script_runs__lead_to_the_first_result(visit: Visit) -> None:
    rollout = factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/")
        visitor.page.keyboard.type(f"/{rollout.pk}\n")
    visitor.page.wait_for_url(f"**/rollouts/{rollout.pk}")


def test_search_button__clicked_before_the_script_runs__opens(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/")
        visitor.page.click("button.search")
        visitor.page.keyboard.type("tri")
    expect(visitor.page.locator("#search-words")).to_have_value("tri")
    expect(visitor.page.locator("#hits a").first).to_be_visible()


def test_go__before_the_script_runs__leads_there(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/")
        visitor.page.keyboard.type("gm")
    visitor.page.wait_for_url("**/models")


def test_go__each_key_on_another_page__leads_there(visit: Visit) -> None:
    """`g` while the old page is left, its second letter while the new one has no script yet."""
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, SCRIPT):
        with held_back(visitor.page, re.compile(r"/rollouts$")):
            visitor.page.keyboard.type("grg")
        visitor.page.wait_for_url("**/rollouts", wait_until="commit")
        visitor.page.wait_for_selector("#search", state="attached")
        visitor.page.keyboard.type("m")
    visitor.page.wait_for_url("**/models")


def test_rows__walked_while_the_page_is_left__are_those_of_the_next_page(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, re.compile(r"/models$")):
        visitor.page.keyboard.type("gmj\n")
        assert visitor.page.url == visitor.site.url + "/"
    visitor.page.wait_for_url("**/models/triage")


def test_search__typed_while_the_page_is_left_by_the_mouse__opens_on_the_next(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, re.compile(r"/models$")):
        click(visitor.page, ".nav a:has-text('Models')")
        visitor.page.keyboard.type("/tri")
    visitor.page.wait_for_url("**/models")
    expect(visitor.page.locator("#search-words")).to_have_value("tri")
    expect(visitor.page.locator("#hits a").first).to_be_visible()


def test_leaving__given_up_with_escape__keys_work_on_this_page_again(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    with held_back(visitor.page, re.compile(r"/models$")) as gate:
        click(visitor.page, ".nav a:has-text('Models')")
        visitor.page.keyboard.type("gr")
        visitor.page.keyboard.press("Escape")
        visitor.page.keyboard.press("?")
        gate.refuse()
    expect(visitor.page.locator("#keys")).to_be_visible()
    assert visitor.page.url == visitor.site.url + "/"


def test_enter__before_the_answer__waits_for_it_and_takes_its_first(visit: Visit) -> None:
    """The list on the screen is that of the words before; Enter must not take its first."""
    factories.endpoint("chat", of=factories.model("support"))
    factories.endpoint("answers", of=factories.model("other"))
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.type("/chat")
    expect(visitor.page.locator("#hits a").first).to_contain_text("chat")
    with held_back(visitor.page, "**/search?*"):
        visitor.page.keyboard.press("ControlOrMeta+a")
        visitor.page.keyboard.type("answers\n")
        assert visitor.page.url == visitor.site.url + "/"
    visitor.page.wait_for_url("**/endpoints/answers")


def test_search__answers_slower_than_typing__the_last_words_are_answered(visit: Visit) -> None:
    factories.endpoint("chat", of=factories.model("support"))
    factories.endpoint("cable", of=factories.model("other"))
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.press("/")
    with held_back(visitor.page, "**/search?*"):
        for letter in "cabl":
            with visitor.page.expect_request("**/search?*"):
                visitor.page.keyboard.type(letter)
    expect(visitor.page.locator("#hits [data-words]")).to_have_attribute("data-words", "cabl")
    expect(visitor.page.locator("#hits a")).to_have_count(1)


def test_search__no_answer__says_so_and_enter_asks_again(visit: Visit) -> None:
    factories.endpoint("chat", of=factories.model("support"))
    visitor = visit(Role.VIEWER)
    visitor.page.route("**/search?*", lambda route: route.abort())
    visitor.page.keyboard.type("/chat")
    expect(visitor.page.locator("#hits")).to_have_text("No answer. Enter asks again.")
    visitor.page.unroute("**/search?*")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/endpoints/chat")


def test_form__changed_before_the_script_runs__plan_follows(visit: Visit) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=20)
    visitor = visit(Role.ENGINEER)
    with held_back(visitor.page, "**/htmx*.js"), held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/rollouts/new?endpoint=triage")
        visitor.page.click("[name=share-0]")
        visitor.page.keyboard.press("ControlOrMeta+a")
        visitor.page.keyboard.type("10")
    expect(visitor.page.locator("button:has-text('Start canary to 10%')")).to_be_visible()
    assert not Rollout.objects.exists()


def test_policy__view_changed_right_after_typing__stays_changed(visit: Visit) -> None:
    """What was typed is being explained when another view is asked for: the late answer would undo that."""
    factories.minutes_of_traffic(factories.endpoint(), minutes=20)
    visitor = visit()
    visitor.open("/policies/triage-default/edit")
    page = visitor.page
    with held_back(page, "**/edit") as gate:
        page.fill("#in-alpha", "0.02")
        gate.until_met(page)
        asked = gate.waiting[0].request
        gate.shut = False
        with page.expect_event("requestfailed", lambda request: request == asked):
            page.get_by_role("button", name="YAML", exact=True).click()
    expect(page.locator("#policy-text")).to_have_value(re.compile("alpha: 0.02"))
    assert visitor.complaints == []


def test_form__step_asked_for_and_typed_on__the_plan_waits_for_the_step(visit: Visit) -> None:
    """A plan of the form without the step, answered after it, would take the step back."""
    factories.minutes_of_traffic(factories.endpoint(), minutes=20)
    visitor = visit(Role.ENGINEER)
    visitor.open("/rollouts/new?endpoint=triage")
    page = visitor.page
    plans: list[str] = []
    page.on("request", lambda request: plans.append(request.url) if "/plan?" in request.url else None)
    page.clock.install()
    with held_back(page, "**change=add-step**"):
        with page.expect_request("**change=add-step**"):
            page.click("button:has-text('Add step')")
        page.fill("[name=note]", "later")
        page.clock.run_for(2_000)
        assert plans == []
    expect(page.locator("[name=share-3]")).to_be_visible()
    assert visitor.complaints == []


def test_keys_switched_off__pressed_early__stay_off(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.page.evaluate("localStorage.setItem('keys', 'off')")
    with held_back(visitor.page, SCRIPT):
        open_unready(visitor, "/")
        visitor.page.keyboard.type("/gm")
    visitor.page.wait_for_load_state("load")
    expect(visitor.page.locator("#search")).to_be_hidden()
    assert visitor.page.url == visitor.site.url + "/"
