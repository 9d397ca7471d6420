"""What a key does with dialogs open, in fields, held down, with modifiers, in an input method, after swaps."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from controlplane.access.roles import Role
from controlplane.web.live import publish
from rollouts.models import Rollout
from tests import factories
from tests.e2e.browser.conftest import Visit

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]


def hold_down(page: Page, key: str, times: int) -> None:
    """The key as a held one comes: down, again and again, then up."""
    for _ in range(times):
        page.keyboard.down(key)
    page.keyboard.up(key)


def tell(page: Page, selector: str, key: str, **more: object) -> bool:
    """A key event that no keyboard of the tests makes; whether the page took it."""
    script = """([selector, options]) => !document.querySelector(selector).dispatchEvent(
        new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...options }))"""
    taken: bool = page.evaluate(script, [selector, {"key": key, **more}])
    return taken


def test_slash__held_down__opens_an_empty_search(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    hold_down(visitor.page, "/", 5)
    expect(visitor.page.locator("#search")).to_be_visible()
    expect(visitor.page.locator("#search-words")).to_have_value("")
    visitor.page.keyboard.press("/")
    expect(visitor.page.locator("#search-words")).to_have_value("/")


def test_go__first_key_held_down__still_leads_there(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    hold_down(visitor.page, "g", 4)
    visitor.page.keyboard.press("m")
    visitor.page.wait_for_url("**/models")


def test_go__second_key_much_later__is_no_longer_one(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.page.clock.install()
    visitor.open("/")
    visitor.page.keyboard.press("g")
    visitor.page.clock.run_for(2_000)
    visitor.page.keyboard.press("m")
    visitor.page.keyboard.press("?")
    expect(visitor.page.locator("#keys")).to_be_visible()
    assert visitor.page.url == visitor.site.url + "/"


def test_go__another_key_between__starts_anew(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.type("gxgm")
    visitor.page.wait_for_url("**/models")


def test_rows__key_held_down__walks_on_and_round(visit: Visit) -> None:
    model = factories.model()
    for name in ("chat", "extract", "summary"):
        factories.endpoint(name, of=model)
    visitor = visit(Role.VIEWER)
    visitor.open("/endpoints")
    hold_down(visitor.page, "j", 4)
    expect(visitor.page.locator("main tbody a.name").first).to_be_focused()
    visitor.page.keyboard.press("k")
    expect(visitor.page.locator("main tbody a.name").last).to_be_focused()


@pytest.mark.parametrize("modifier", ["Control", "Alt", "Meta"])
def test_shortcut__with_a_modifier__is_the_browsers(visit: Visit, modifier: str) -> None:
    visitor = visit(Role.VIEWER)
    for key in ("/", "?", "j"):
        assert not tell(
            visitor.page, "body", key, **{f"{modifier.lower().replace('control', 'ctrl')}Key": True}
        )
    expect(visitor.page.locator("dialog[open]")).to_have_count(0)


def test_shortcut__under_caps_lock__is_the_same(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    assert tell(visitor.page, "body", "G")
    assert tell(visitor.page, "body", "M")
    visitor.page.wait_for_url("**/models")


def test_letters__in_a_field__are_text(visit: Visit) -> None:
    visitor = visit(Role.ENGINEER)
    visitor.open("/golden-sets")
    visitor.page.focus("[name=name]")
    visitor.page.keyboard.type("gm/?jk")
    expect(visitor.page.locator("[name=name]")).to_have_value("gm/?jk")
    expect(visitor.page.locator("dialog[open]")).to_have_count(0)


def test_letters__on_a_box_to_tick__are_shortcuts(visit: Visit) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=20)
    visitor = visit(Role.ENGINEER)
    visitor.open("/rollouts/new?endpoint=triage")
    visitor.page.focus("[name=strategy][value=canary]")
    visitor.page.keyboard.press("/")
    expect(visitor.page.locator("#search")).to_be_visible()


def test_letters__with_a_dialog_open__do_nothing_behind_it(visit: Visit) -> None:
    rollout = factories.rollout_paused()
    visitor = visit(Role.ENGINEER)
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.keyboard.press("?")
    visitor.page.keyboard.type("/gmj?")
    expect(visitor.page.locator("dialog[open]")).to_have_count(1)
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("dialog[open]")).to_have_count(0)
    visitor.page.keyboard.type("gm")
    visitor.page.wait_for_url("**/models")


def test_all_keys__opened_from_the_search__takes_its_place(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.press("/")
    visitor.page.click("#hits button")
    expect(visitor.page.locator("#keys")).to_be_visible()
    expect(visitor.page.locator("#search")).to_be_hidden()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("#keys")).to_be_hidden()


def test_account_menu__escape__closes_it(visit: Visit) -> None:
    visitor = visit(Role.VIEWER, viewport={"width": 390, "height": 844})
    visitor.page.click("details.menu summary")
    expect(visitor.page.locator("details.menu[open]")).to_have_count(1)
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("details.menu[open]")).to_have_count(0)
    expect(visitor.page.locator("details.menu summary")).to_be_focused()


@pytest.mark.parametrize("how", [{"isComposing": True}, {"keyCode": 229}], ids=["composing", "just ended"])
def test_search__key_of_an_input_method__is_not_ours(visit: Visit, how: dict[str, object]) -> None:
    """Enter takes the word that the input method offers, Escape gives it up; neither leads away nor closes."""
    factories.endpoint()
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.type("/triage")
    expect(visitor.page.locator("#hits a").first).to_be_visible()
    for key in ("Enter", "Escape", "ArrowDown"):
        assert not tell(visitor.page, "#search-words", key, **how)
    expect(visitor.page.locator("#search")).to_be_visible()
    expect(visitor.page.locator("#search-words")).to_be_focused()


def test_search__left_by_a_result_and_come_back_to__is_closed_and_keys_work(visit: Visit) -> None:
    factories.endpoint()
    visitor = visit(Role.VIEWER)
    visitor.page.keyboard.type("/triage")
    expect(visitor.page.locator("#hits a").first).to_be_visible()
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/models/triage")
    visitor.page.go_back()
    visitor.page.wait_for_url(visitor.site.url + "/")
    expect(visitor.page.locator("#search")).to_be_hidden()
    visitor.page.keyboard.type("gm")
    visitor.page.wait_for_url("**/models")


def test_row__focused_while_another_one_comes_above__stays_the_one_that_enter_opens(visit: Visit) -> None:
    endpoint = factories.endpoint()
    first = factories.rollout_rolled_back(of=endpoint)
    visitor = visit(Role.VIEWER)
    visitor.open("/rollouts")
    visitor.page.keyboard.press("j")
    expect(visitor.page.locator(f"main a.name[href='/rollouts/{first.pk}']")).to_be_focused()
    second = factories.rollout_progressing(of=endpoint)
    # Its own row changes too: nothing but its identity tells that it is the same one.
    Rollout.objects.filter(pk=first.pk).update(created_at=first.created_at - timedelta(hours=30))
    publish("overview", now=factories.right_now())
    expect(visitor.page.locator(f"main a.name[href='/rollouts/{second.pk}']")).to_be_visible()
    expect(visitor.page.locator(f"main a.name[href='/rollouts/{first.pk}']")).to_be_focused()
    assert visitor.complaints == []
