"""A gate policy is written in a browser: live explanation, mistakes at their field, form and YAML, without script."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from controlplane.access.actors import HEADGATE
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.e2e.browser.conftest import Visit

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]
EDIT = "/policies/triage-default/edit"


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint()
    factories.minutes_of_traffic(made, minutes=20)
    return made


def store(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def test_edit__typing__explains_live_and_keeps_the_cursor(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit()
    visitor.open(EDIT)
    page = visitor.page
    page.fill("#in-alpha", "0.01")
    expect(page.locator("#explain")).to_contain_text("by mistake in at most 1 of 100 rollouts")
    page.locator("#delta-1").press("End")
    page.locator("#delta-1").press_sequentially("x")
    expect(page.locator("#delta-1-problem")).to_contain_text("must be a number")
    expect(page.get_by_role("button", name="Store as")).to_be_disabled()
    assert page.input_value("#delta-1") == "2x"
    assert page.evaluate("document.activeElement.id") == "delta-1"
    page.fill("#delta-1", "3")
    expect(page.locator("#explain")).to_contain_text("gates.errors.delta")
    store(page, "Store as triage-default@2")
    expect(page.get_by_role("status")).to_contain_text("triage-default@2 is stored.")
    made = GatePolicyVersion.objects.get(version=2).policy
    assert (made.alpha, made.gate("errors").delta) == (0.01, 0.03)
    assert visitor.complaints == []


def test_edit__rows_come_and_go__others_keep_what_was_typed(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit()
    visitor.open(EDIT)
    page = visitor.page
    page.fill("#weight-3", "0.2")
    page.get_by_role("button", name="Remove the gate Error rate").click()
    expect(page.locator(".gatebox")).to_have_count(3)
    assert page.input_value("#weight-3") == "0.2"
    page.get_by_role("button", name="Feedback").click()
    expect(page.locator(".gatebox")).to_have_count(4)
    assert page.input_value("#key-4") == "thumbs-2"
    page.get_by_role("button", name="Equal parts").click()
    expect(page.locator("#weights")).to_have_text("1")
    expect(page.get_by_role("button", name="Store as")).to_be_enabled()


def test_edit__yaml_and_back__says_the_same_and_mistakes_have_lines(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit()
    visitor.open(EDIT)
    page = visitor.page
    page.fill("#in-alpha", "0.02")
    page.get_by_role("button", name="YAML", exact=True).click()
    text = page.locator("#policy-text")
    expect(text).to_have_value("alpha: 0.02\n" + text.input_value().partition("\n")[2])
    text.fill("zzz: 1\n" + text.input_value())
    expect(page.locator("#text-problems")).to_contain_text("Line 1, zzz")
    page.get_by_role("button", name="Form", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing that you typed is lost.")
    text.fill(text.input_value().removeprefix("zzz: 1\n"))
    expect(page.locator("#text-problems")).to_have_count(0)
    page.get_by_role("button", name="Form", exact=True).click()
    expect(page.locator("#in-alpha")).to_have_value("0.02")
    assert visitor.complaints == []


def test_edit__newer_version_meanwhile__draft_is_kept_and_stored_on_top(
    visit: Visit, endpoint: Endpoint
) -> None:
    visitor = visit()
    visitor.open(EDIT)
    page = visitor.page
    body = endpoint.gate_policy.body
    page.fill("#in-alpha", "0.01")
    expect(page.get_by_role("button", name="Store as triage-default@2")).to_be_enabled()
    define_gate_policy(
        actor=HEADGATE, name="triage-default", body={**body, "beta": 0.2}, now=factories.right_now()
    )
    store(page, "Store as triage-default@")
    expect(page.get_by_role("alert")).to_contain_text("triage-default@2 was stored by Headgate")
    assert page.input_value("#in-alpha") == "0.01"
    store(page, "Store as triage-default@3")
    expect(page.get_by_role("status")).to_contain_text("triage-default@3 is stored.")


def test_edit__without_script__works_by_full_posts(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit(java_script_enabled=False)
    visitor.open(EDIT)
    page = visitor.page
    page.get_by_role("button", name="Latency").click()
    assert page.locator(".gatebox").count() == 5
    page.get_by_role("button", name="Equal parts").click()
    store(page, "Store as triage-default@2")
    assert page.url.endswith("/policies/triage-default?version=2&stored=2")
    page.get_by_role("button", name="Use @2").click()
    assert page.get_by_role("status").inner_text().startswith("triage uses triage-default@2")
    endpoint.refresh_from_db()
    assert str(endpoint.gate_policy) == "triage-default@2"


def test_edit__keyboard_only__stores(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit()
    page = visitor.page
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/policies")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/policies/triage-default")
    page.get_by_role("link", name="Edit as @2").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{EDIT}")
    page.locator("#in-alpha").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.04")
    button = page.get_by_role("button", name="Store as triage-default@2")
    expect(button).to_be_enabled()
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("triage-default@2 is stored.")
