"""Starting a bandit in a browser: the form changes with the strategy, nothing typed is lost, and it starts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from controlplane.access.roles import Role
from rollouts.domain.strategies.bandit.settings import spec_of
from rollouts.models import Endpoint, Rollout
from tests import factories
from tests.e2e.browser.conftest import Visit
from tests.e2e.browser.test_accessibility import violations

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.needs("chromium")]


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint()
    factories.minutes_of_traffic(made, minutes=30)
    factories.ratings(made, up=300, down=900)
    return made


def test_start__by_the_form__a_bandit_of_three_arms(visit: Visit, endpoint: Endpoint) -> None:
    visitor = visit(Role.ENGINEER)
    page = visitor.page
    visitor.open("/rollouts/new")
    page.fill("[name=share-1]", "30")
    page.check("[name=strategy][value=bandit]")
    expect(page.locator("#bandit-beta")).to_be_visible()
    expect(page.locator("#plan")).to_contain_text("Start bandit of 2 arms")
    page.check("#try-2")
    expect(page.locator("#plan")).to_contain_text("Start bandit of 3 arms")
    page.focus("#bandit-beta")
    page.keyboard.press("End")
    expect(page.locator("#dial-words")).to_contain_text("1: fewest bad answers")

    page.fill("#bandit-floor", "60")
    expect(page.locator("#bandit-floor-problem")).to_contain_text("must be 0 to 50%")
    expect(page.locator("#plan button[type=submit]")).to_be_disabled()
    expect(page.locator("#bandit-floor")).to_have_value("60")
    page.fill("#bandit-floor", "7")
    expect(page.locator("#plan")).to_contain_text("An arm rated down half as often")

    page.check("[name=strategy][value=canary]")
    expect(page.locator("[name=share-1]")).to_have_value("30")
    expect(page.locator("#only-3")).to_be_checked()
    page.check("[name=strategy][value=bandit]")
    expect(page.locator("#bandit-floor")).to_have_value("7")
    expect(page.locator("#try-2")).to_be_checked()
    expect(page.locator("#try-3")).to_be_checked()

    page.click("#plan button[type=submit]")
    page.wait_for_url(re.compile(r"/rollouts/\d+$"))
    rollout = Rollout.objects.get()
    assert [arm.variant.version.number for arm in rollout.arms.all()] == [1, 2, 3]
    spec = spec_of(rollout.parsed_plan)
    assert spec is not None
    assert (spec.beta, spec.floor_bp) == (1.0, 700)
    assert visitor.complaints == []


@pytest.mark.parametrize(
    ("size", "theme"),
    [({"width": 1440, "height": 900}, "light"), ({"width": 390, "height": 844}, "dark")],
    ids=["wide", "narrow"],
)
def test_form__with_mistakes_and_without__axe_finds_nothing(
    visit: Visit, endpoint: Endpoint, size: dict[str, int], theme: str
) -> None:
    visitor = visit(viewport=size, color_scheme=theme)
    visitor.open("/rollouts/new?strategy=bandit")
    assert violations(visitor) == []
    visitor.page.fill("#bandit-floor", "60")
    expect(visitor.page.locator("#bandit-floor-problem")).to_be_visible()
    assert violations(visitor) == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert visitor.complaints == []


def test_start__without_script__shows_the_settings_first_and_then_starts(
    visit: Visit, endpoint: Endpoint
) -> None:
    visitor = visit(Role.ENGINEER, java_script_enabled=False)
    page = visitor.page
    visitor.open("/rollouts/new")
    page.check("[name=strategy][value=bandit]")
    page.click("#plan button[type=submit]")
    expect(page.locator("#bandit-beta")).to_be_visible()
    assert not Rollout.objects.exists()

    page.check("#try-2")
    page.fill("#bandit-floor", "60")
    page.click("#plan button[type=submit]")
    expect(page.locator("#bandit-floor-problem")).to_contain_text("must be 0 to 50%")
    expect(page.locator("#bandit-floor")).to_have_value("60")

    page.fill("#bandit-floor", "7")
    page.click("#plan button[type=submit]")
    page.wait_for_url(re.compile(r"/rollouts/\d+$"))
    assert Rollout.objects.get().arms.count() == 3
