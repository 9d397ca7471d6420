"""A new bandit by the form: what is typed is kept and marked, the plan is live, and it starts with all its arms."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.models import Endpoint, Rollout
from rollouts.ui.new.bandit_form import dial_words
from rollouts.ui.new.form import Draft, blank_form, read_form, understand
from tests import factories
from tests.factories import bandits
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.ui.new.test_page import fields, start_is_off

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(made, minutes=30, now=NOW)
    factories.ratings(made, up=300, down=900, now=NOW)
    return made


def sent(*versions: str, **changed: str) -> dict[str, Any]:
    """What a browser sends for a bandit of `versions`."""
    return {
        **fields(
            strategy="bandit",
            strategy_shown="bandit",
            **{
                "deadline": "24",
                "bandit-beta": "0.7",
                "bandit-alpha": "0.05",
                "bandit-floor": "4",
                "bandit-baseline": "12.5",
                "bandit-burn-in": "300",
                "bandit-reweight": "30",
                "bandit-skip": "1",
                "bandit-discount": "1",
                **changed,
            },
        ),
        "version": list(versions or ("3", "2")),
    }


def typed(data: dict[str, Any]) -> QueryDict:
    query = QueryDict(mutable=True)
    for name, value in data.items():
        query.setlist(name, value if isinstance(value, list) else [value])
    return query


def draft(endpoint: Endpoint, *versions: str, **changed: str) -> Draft:
    form = read_form(typed(sent(*versions, **changed)), endpoint=endpoint)
    return understand(form, endpoint=endpoint)


# --- what the form means ------------------------------------------------------------------------------------


def test_understand__bandit__is_its_plan_and_all_its_versions(endpoint: Endpoint) -> None:
    found = draft(endpoint)

    assert found.problems == {}
    assert found.versions == (2, 3)
    spec = BanditSpec(
        beta=0.7, floor_bp=400, baseline_bp=1_250, burn_in=300, reweight_seconds=30, min_change_bp=100
    )
    assert found.plan == Plan("bandit", (), watch_seconds=900, deadline_seconds=86_400, settings=spec)


def test_blank_form__bandit__has_the_usual_settings(endpoint: Endpoint) -> None:
    form = blank_form(endpoint=endpoint, version="2", like=None, strategy="bandit")

    found = understand(form, endpoint=endpoint)

    assert found.problems == {}
    assert found.plan == Plan("bandit", (), settings=BanditSpec())


@pytest.mark.parametrize("strategy", ["canary", "bandit"])
def test_blank_form__earlier_bandit__takes_over_its_settings(endpoint: Endpoint, strategy: str) -> None:
    earlier = bandits.bandit_pending(of=endpoint, now=NOW, arms=3)
    form = blank_form(endpoint=endpoint, version="2", like=earlier, strategy=strategy)

    found = understand(form, endpoint=endpoint)

    assert found.problems == {}
    assert found.plan is not None
    assert (found.plan == earlier.parsed_plan) == (strategy == "bandit")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bandit-beta", "0", "Dial is 0; it must be above 0 and at most 1."),
        ("bandit-alpha", "x", "'x' is no alpha: a number is needed."),
        ("bandit-alpha", "0.6", "Alpha is 0.6; it must be above 0 and at most 0.5."),
        ("bandit-floor", "60", "Floor is 60; it must be 0 to 50%."),
        ("bandit-floor", "4.005", "Floor is 4.005; it must be 0 to 50%."),
        ("bandit-baseline", "0", "Baseline share is 0; it must be above 0 and at most 90%."),
        ("bandit-burn-in", "-1", "Burn-in is -1; it must be a whole number, 0 or more."),
        ("bandit-burn-in", "1.5", "Burn-in is 1.5; it must be a whole number, 0 or more."),
        ("bandit-reweight", "0.5", "Reweight every is 0.5; it must be 1 to 86,400 s."),
        ("bandit-skip", "51", "Skip below is 51; it must be 0 to 50%."),
        ("bandit-discount", "0.4", "Discount is 0.4; it must be 0.5 to 1."),
        ("bandit-discount", "", "The discount is missing."),
        ("deadline", "soon", "'soon' is no deadline: a number is needed."),
        ("deadline", "-1", "Deadline is -1; it must be above 0 and at most 720 h."),
        ("watch", "long", "'long' is no watch: a number is needed."),
    ],
)
def test_understand__one_mistake__is_found_where_it_was_made(
    endpoint: Endpoint, name: str, text: str, said: str
) -> None:
    found = draft(endpoint, **{name: text})

    assert list(found.problems) == [name]
    assert found.problems[name].message == said


def test_understand__version_of_thousands_of_digits__is_none(endpoint: Endpoint) -> None:
    assert draft(endpoint, "2", "9" * 5_000).versions == (2,)
    assert list(draft(endpoint, "9" * 5_000).problems) == ["version"]


def test_understand__several_mistakes__are_all_found(endpoint: Endpoint) -> None:
    found = draft(endpoint, **{"bandit-floor": "60", "bandit-alpha": "x", "deadline": "", "watch": "?"})

    assert set(found.problems) == {"bandit-floor", "bandit-alpha", "deadline", "watch"}


def test_understand__no_version__is_found(endpoint: Endpoint) -> None:
    form = read_form(typed({**sent(), "version": []}), endpoint=endpoint)

    assert list(understand(form, endpoint=endpoint).problems) == ["version"]


@pytest.mark.parametrize(
    ("beta", "words"),
    [
        ("0.3", "decides soonest"),
        ("0.5", "a compromise"),
        ("0.7", "decides later"),
        ("1", "fewest bad answers"),
    ],
)
def test_dial__position__is_said_in_words(beta: str, words: str) -> None:
    assert dial_words(beta).startswith(f"{beta}: ")
    assert words in dial_words(beta)


@pytest.mark.parametrize("beta", ["", "much", "0", "2"])
def test_dial__no_position__says_nothing(beta: str) -> None:
    assert dial_words(beta) == ""


# --- the page -----------------------------------------------------------------------------------------------


def plan_text(client: Client, *versions: str, **changed: str) -> str:
    response = client.get("/rollouts/new/plan", sent(*versions, **changed), headers=HTMX)
    assert response.status_code == 200
    return response.content.decode()


def value_of(text: str, name: str) -> str:
    found = re.search(rf'<input [^>]*name="{name}" value="([^"]*)"', text)
    assert found is not None, name
    return found.group(1)


def test_page__address_with_strategy__shows_the_bandit(engineer: Client, endpoint: Endpoint) -> None:
    text = engineer.get("/rollouts/new?strategy=bandit").content.decode()

    assert 'type="checkbox" name="version" value="3" checked' in text
    assert 'id="bandit-beta"' in text
    assert "Start bandit of 2 arms" in text
    assert not start_is_off(text)


def test_plan__strategy_changed__keeps_what_was_typed_for_both(engineer: Client, endpoint: Endpoint) -> None:
    as_bandit = plan_text(engineer, "2", "3", **{"share-1": "33", "bandit-floor": "7"})
    as_canary = engineer.get(
        "/rollouts/new/plan",
        {**sent("3", "2", **{"share-1": "33", "bandit-floor": "7"}), "strategy": "canary"},
    ).content.decode()

    assert value_of(as_bandit, "share-1") == "33"
    assert value_of(as_canary, "bandit-floor") == "7"
    assert 'type="radio" name="version" value="3" checked' in as_canary
    assert 'name="also" value="2"' in as_canary
    assert value_of(as_canary, "bandit-beta") == "0.7"


def test_plan__bandit__says_shares_times_engines_and_load(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer)

    assert 'aria-label="First shares: v1 33.34%, v2 33.33%, v3 33.33%"' in text
    assert "3 engines, 2 new." in text
    assert "An arm rated down half as often as the others" in text
    assert "2 more engines need" in text
    assert "Equal shares" in text
    assert "by the deadline" in text
    assert "Start bandit of 3 arms" in text
    assert not start_is_off(text)


def test_plan__nobody_rates__warns_and_shows_no_times(engineer: Client, endpoint: Endpoint) -> None:
    endpoint.feedback.all().delete()

    text = plan_text(engineer)

    assert "No rating in the last 24 h" in text
    assert "Without ratings a bandit learns nothing" in text
    assert "unknown: nothing rated down yet" in text
    assert "What ratings decide" not in text
    assert not start_is_off(text)


def test_plan__mistake__stands_at_its_field_and_start_is_off(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer, **{"bandit-floor": "60"})

    assert 'aria-describedby="bandit-floor-hint bandit-floor-problem" aria-invalid="true"' in text
    assert value_of(text, "bandit-floor") == "60"
    assert start_is_off(text)


def test_plan__floors_leave_no_room__stands_at_the_floor(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer, **{"bandit-floor": "45", "bandit-baseline": "20"})

    problem = re.search(r'id="bandit-floor-problem"[^>]*>(.*?)</span></span>', text)
    assert problem is not None
    assert "more than 10,000" in problem.group(1)
    assert start_is_off(text)


def test_plan__stable_version_among_them__is_off(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer, "1", "2")

    assert "is what serves now" in text
    assert start_is_off(text)


def test_plan__api_call__is_the_same_bandit(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer)

    call = re.search(r'id="call"[^>]*>(.*?)</pre>', text, re.DOTALL)
    assert call is not None
    body = re.search(r"-d '(.*)'", unescape(call.group(1)), re.DOTALL)
    assert body is not None
    found = json.loads(body.group(1))
    assert found["versions"] == [2, 3]
    assert found["plan"]["bandit"]["floor_bp"] == 400
    assert "version" not in found


def test_plan__more_versions__cost_a_bounded_number_of_queries(engineer: Client, endpoint: Endpoint) -> None:
    factories.version(endpoint.model, 4)
    with CaptureQueriesContext(connection) as two:
        plan_text(engineer, "2", "3")
    with CaptureQueriesContext(connection) as three:
        plan_text(engineer, "2", "3", "4")

    assert len(three) == len(two) <= 17, [query["sql"][:90] for query in two]


# --- the start ----------------------------------------------------------------------------------------------


def test_start__good_form__starts_with_all_arms(engineer: Client, endpoint: Endpoint) -> None:
    response = engineer.post("/rollouts/new", sent("3", "2"))

    rollout = Rollout.objects.get()
    assert response.status_code == 303
    assert response.headers["Location"] == f"/rollouts/{rollout.pk}"
    assert rollout.strategy == "bandit"
    assert [arm.variant.version.number for arm in rollout.arms.all()] == [1, 2, 3]
    assert rollout.parsed_plan.settings == BanditSpec(
        beta=0.7, floor_bp=400, baseline_bp=1_250, burn_in=300, reweight_seconds=30, min_change_bp=100
    )


def test_start__without_script_strategy_just_chosen__shows_its_settings_first(
    engineer: Client, endpoint: Endpoint
) -> None:
    response = engineer.post("/rollouts/new", {**fields(), "strategy": "bandit", "strategy_shown": "canary"})

    text = response.content.decode()
    assert response.status_code == 200
    assert 'id="bandit-beta"' in text
    assert value_of(text, "note") == "better refunds"
    assert not Rollout.objects.exists()


def test_start__mistake__starts_nothing_and_keeps_what_was_typed(
    engineer: Client, endpoint: Endpoint
) -> None:
    response = engineer.post("/rollouts/new", sent("2", "3", **{"bandit-floor": "60", "bandit-beta": "0.9"}))

    text = response.content.decode()
    assert response.status_code == 400
    assert (value_of(text, "bandit-floor"), value_of(text, "bandit-baseline")) == ("60", "12.5")
    assert text.count('name="version"') == 3
    assert 'name="version" value="2" checked' in text
    assert not Rollout.objects.exists()
