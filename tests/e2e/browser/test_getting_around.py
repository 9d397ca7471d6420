"""Starting a rollout, the global stop, search and keys, themes, signing out."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from pytest_django.fixtures import Settings

from controlplane.access.roles import Role
from registry.models import GoldenSet
from rollouts.models import GlobalStop, Rollout
from tests import factories
from tests.e2e.browser.conftest import Visit

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]


def test_new_rollout__mistake_mended_by_its_fix__starts(visit: Visit) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=20)
    visitor = visit(Role.RELEASE_MANAGER)  # another objective is a weaker policy
    visitor.open("/rollouts/new?endpoint=triage")
    start = visitor.page.locator("button:has-text('Start canary to 5%')")
    expect(start).to_be_enabled()
    objective = visitor.page.locator("[name=objective-ttft]")
    objective.fill("333")
    expect(start).to_be_disabled()
    expect(visitor.page.locator("#plan")).to_contain_text("333 ms is not an edge of the histogram")
    visitor.page.click("button:has-text('400 ms')")
    expect(objective).to_have_value("400")
    expect(start).to_be_enabled()
    visitor.page.click("button:has-text('Add step')")
    expect(visitor.page.locator("[name=share-3]")).to_have_value("75")
    visitor.page.fill("[name=note]", "better refunds")
    start.click()
    visitor.page.wait_for_url(re.compile(r"/rollouts/\d+$"))
    rollout = Rollout.objects.get()
    assert visitor.page.url.endswith(f"/rollouts/{rollout.pk}")
    assert [step.share_bp for step in rollout.parsed_plan.steps] == [500, 2_500, 5_000, 7_500]
    assert rollout.policy_words == "policy of this rollout, from triage-default@1"
    assert visitor.complaints == []


def test_new_rollout__typing__keeps_focus_and_text_while_the_plan_follows(visit: Visit) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=20)
    visitor = visit(Role.ENGINEER)
    visitor.open("/rollouts/new?endpoint=triage")
    visitor.page.click("[name=share-0]")
    visitor.page.keyboard.press("Control+A")
    visitor.page.keyboard.type("10", delay=30)
    expect(visitor.page.locator("button:has-text('Start canary to 10%')")).to_be_visible()
    expect(visitor.page.locator("[name=share-0]")).to_be_focused()
    expect(visitor.page.locator("[name=share-0]")).to_have_value("10")


def test_new_rollout__another_endpoint__brings_its_versions_and_steps(visit: Visit) -> None:
    first = factories.endpoint()
    factories.rollout_rolled_back(of=first)
    factories.endpoint("chat", of=factories.model("support", versions=2))
    visitor = visit(Role.ENGINEER)
    visitor.open("/rollouts/new?endpoint=triage")
    expect(visitor.page.locator("[name=hold-0]")).to_have_value("1")
    visitor.page.select_option("[name=endpoint]", "chat")
    expect(visitor.page.locator("#new .sub")).to_contain_text("chat-v1")
    expect(visitor.page.locator("[name=hold-0]")).to_have_value("10")
    expect(visitor.page.locator("[name=version]")).to_have_count(2)


def test_global_stop__set__covers_every_open_page_until_it_is_lifted(visit: Visit) -> None:
    rollout = factories.rollout_paused()
    watcher = visit(Role.ENGINEER)
    watcher.open(f"/rollouts/{rollout.pk}")
    manager = visit(Role.RELEASE_MANAGER)
    manager.open("/")
    manager.page.click("a:has-text('Stop every rollout')")
    manager.page.fill("#dialog [name=why]", "network incident")
    manager.page.click("#dialog button:has-text('Stop every rollout')")
    expect(manager.page.locator(".banner")).to_contain_text("“network incident”")
    expect(watcher.page.locator(".banner")).to_contain_text("Global stop.")
    expect(watcher.page.locator("a:has-text('Resume')")).to_have_count(0)
    expect(watcher.page.locator("a:has-text('Roll back to v1')")).to_be_visible()
    manager.page.click("a:has-text('Lift the stop')")
    manager.page.click("#dialog button:has-text('Lift the stop')")
    expect(watcher.page.locator(".banner")).to_have_count(0)
    expect(manager.page.locator(".banner")).to_have_count(0)
    assert not GlobalStop.objects.get(pk=1).on
    assert watcher.complaints == manager.complaints == []


def test_keys__search_go_and_rows(visit: Visit) -> None:
    factories.rollout_paused()
    visitor = visit(Role.VIEWER)
    visitor.open("/")
    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("triage")
    visitor.page.wait_for_selector("#hits a")
    visitor.page.keyboard.press("ArrowDown")
    expect(visitor.page.locator("#hits a").first).to_be_focused()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator("#search")).to_be_hidden()
    visitor.page.keyboard.press("g")
    visitor.page.keyboard.press("r")
    visitor.page.wait_for_url("**/rollouts")
    visitor.page.keyboard.press("j")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/rollouts/*")


def test_keys__switched_off__stay_off(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.open("/")
    visitor.page.keyboard.press("?")
    visitor.page.uncheck("#keys-on")
    visitor.page.click("#keys button:has-text('Close')")
    visitor.page.reload()
    visitor.page.keyboard.press("/")
    expect(visitor.page.locator("#search")).to_be_hidden()
    visitor.page.click("button.search")  # it can still be opened, so it would have been
    expect(visitor.page.locator("#search")).to_be_visible()


def test_theme__switched__is_kept_and_charts_follow(visit: Visit) -> None:
    visitor = visit(color_scheme="light")
    visitor.open("/")
    visitor.page.click("[data-theme-switch]")
    assert visitor.page.evaluate("document.documentElement.dataset.theme") == "dark"
    visitor.page.reload()
    assert visitor.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_golden_set__uploaded_from_a_file__is_there(visit: Visit) -> None:
    visitor = visit(Role.ENGINEER)
    visitor.open("/golden-sets")
    visitor.page.fill("[name=name]", "tickets")
    line = b'{"messages": [{"role": "user", "content": "hello"}], "expected": "hi", "scorer": "exact"}\n'
    visitor.page.set_input_files(
        "[name=file]", {"name": "t.jsonl", "mimeType": "application/jsonl", "buffer": line}
    )
    visitor.page.click("button:has-text('Upload')")
    visitor.page.wait_for_url("**/golden-sets/tickets")
    assert GoldenSet.objects.get().size == 1


def test_without_script__a_rollout_can_still_be_rolled_back(visit: Visit) -> None:
    rollout = factories.rollout_progressing()
    visitor = visit(Role.ENGINEER, java_script_enabled=False)
    visitor.open(f"/rollouts/{rollout.pk}")
    visitor.page.click("a:has-text('Roll back to v1')")
    visitor.page.click("button:has-text('Roll back to v1')")
    visitor.page.wait_for_url(f"**/rollouts/{rollout.pk}")
    rollout.refresh_from_db()
    assert rollout.phase == "rolling-back"


def test_sign_in__name_and_password__leads_where_one_wanted_to_go(visit: Visit, settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # what the site reads
    factories.person(Role.VIEWER)
    visitor = visit(Role.ENGINEER)
    visitor.page.context.clear_cookies()
    visitor.open("/models")
    visitor.page.fill("[name=username]", "viewer")
    visitor.page.fill("[name=password]", "not the one")
    visitor.page.click("button:has-text('Sign in')")
    expect(visitor.page.get_by_role("alert")).to_have_text("Name and password do not match.")
    visitor.page.fill("[name=password]", factories.PASSWORD)
    visitor.page.click("button:has-text('Sign in')")
    visitor.page.wait_for_url("**/models")
    expect(visitor.page.locator(".side .foot")).to_contain_text("viewer")


def test_sign_out__from_the_sidebar__ends_the_session(visit: Visit) -> None:
    visitor = visit(Role.VIEWER)
    visitor.page.click(".side button[aria-label='Sign out']")
    visitor.page.wait_for_url("**/sign-in")
    visitor.open("/rollouts")
    assert "/sign-in?next=/rollouts" in visitor.page.url


def test_phone__sign_out_and_places__are_reachable(visit: Visit) -> None:
    visitor = visit(Role.VIEWER, viewport={"width": 390, "height": 844})
    visitor.page.click(".nav a:has-text('Models')")
    visitor.page.wait_for_url("**/models")
    visitor.page.click("details.menu summary")
    visitor.page.click("details.menu button:has-text('Sign out')")
    visitor.page.wait_for_url("**/sign-in")
