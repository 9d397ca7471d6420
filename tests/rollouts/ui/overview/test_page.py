"""The overview: what needs a person first, and a cost that does not grow."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.web.health import beat
from registry.models import MirrorState
from rollouts.models import Endpoint, MinuteSample, Workload
from rollouts.ui.overview import page as overview_page
from rollouts.ui.overview.page import OverviewPage, build
from rollouts.ui.parts.traffic import quantile, rates_of
from tests import factories
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.worlds import nothing_wrong

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def page() -> OverviewPage:
    return build(worlds=nothing_wrong(), now=NOW)


def titles(built: OverviewPage) -> list[str]:
    return [need.title for need in built.needs]


def test_overview__nothing_there__says_how_to_begin(viewer: Client) -> None:
    text = viewer.get("/").content.decode()
    assert "No endpoint yet: nothing is served." in text
    assert "Nothing waits for a person." in text


def test_needs__rolled_back_by_itself__comes_with_its_cause() -> None:
    rollout = factories.rollout_rolled_back(now=NOW)
    (need,) = page().needs
    assert need.title == "triage rolled back to v1 by itself"
    assert "is beyond its limit" in need.detail
    assert need.url == f"/rollouts/{rollout.pk}"


def test_needs__rolled_back_long_ago__is_not_shown() -> None:
    factories.rollout_rolled_back(now=NOW - timedelta(hours=25))
    assert titles(page()) == []


def test_needs__newer_rollout_of_the_endpoint__replaces_the_old_cause() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    factories.rollout_progressing(of=endpoint, now=NOW)
    assert titles(page()) == []


def test_needs__launch_failed__says_so() -> None:
    factories.rollout_launch_failed(now=NOW)
    assert titles(page()) == ["triage: v2 did not launch"]


def test_needs__paused__waits_for_a_decision() -> None:
    factories.rollout_paused(now=NOW)
    assert titles(page()) == ["triage: paused at 25%"]


def test_needs__loop_silent__is_said_once_it_had_spoken() -> None:
    factories.endpoint(now=NOW)
    assert titles(page()) == []
    beat(name="worker", now=NOW - timedelta(seconds=90))
    assert titles(page()) == ["The control loop is silent"]


def test_needs__mlflow_down__is_said() -> None:
    MirrorState.objects.create(id=1, last_error="connection refused.", last_error_at=NOW)
    assert titles(page()) == ["MLflow does not answer"]


def test_needs__changed_version__names_it() -> None:
    version = factories.model(now=NOW).versions.get(number=2)
    version.manifest_state, version.manifest_problem = "changed", "The file config.json differs."
    version.save()
    assert titles(page()) == ["triage v2 is no longer what was registered"]


def test_needs__router_problem_and_dead_engine__are_both_named() -> None:
    endpoint = factories.endpoint(now=NOW)
    endpoint.router_problem = "listener refused: port taken"
    endpoint.save()
    other = factories.endpoint("chat", of=endpoint.model, now=NOW)
    Workload.objects.filter(variant=other.stable).update(phase="failed", ready=0, message="killed for memory")
    assert titles(page()) == [
        f"chat: {other.stable.name} is not ready",  # type: ignore[union-attr]
        "triage: the router has a problem",
    ]


def test_endpoints__several__the_one_that_needs_somebody_is_first() -> None:
    quiet = factories.endpoint("a-quiet-one", now=NOW)
    factories.rollout_progressing(of=factories.endpoint("moving", of=quiet.model, now=NOW), now=NOW)
    factories.rollout_rolled_back(of=factories.endpoint("returned", of=quiet.model, now=NOW), now=NOW)
    built = page()
    assert [row.name for row in built.endpoints] == ["returned", "moving", "a-quiet-one"]
    assert built.endpoints[1].shares == ((7_500, 0), (2_500, 1))
    assert built.endpoints[1].shares_words == "v1 75% · v2 25%"
    assert built.active_count == "1 rollout in progress"


def test_endpoints__more_than_a_page__the_broken_one_last_by_name_is_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overview_page, "ENDPOINTS_A_PAGE", 2)
    first = factories.endpoint("a", now=NOW)
    for name in ("b", "c"):
        factories.endpoint(name, of=first.model, now=NOW)
    Endpoint.objects.filter(pk=factories.endpoint("zebra", of=first.model, now=NOW).pk).update(
        router_problem="listener refused: port taken"
    )
    built = page()
    assert [row.name for row in built.endpoints] == ["zebra", "a"]
    assert titles(built) == ["zebra: the router has a problem"]


def test_counts__more_endpoints_than_a_page__are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_page, "ENDPOINTS_A_PAGE", 2)
    first = factories.endpoint("a", now=NOW)
    factories.minutes_of_traffic(first, minutes=6, now=NOW)
    one = float(build(worlds=nothing_wrong(), now=NOW).rate.split()[0])
    for name in ("b", "c", "d"):
        other = factories.endpoint(name, of=first.model, now=NOW)
        factories.minutes_of_traffic(other, minutes=6, now=NOW)
        factories.rollout_progressing(of=other, now=NOW)
    built = page()
    assert built.endpoint_count == "4 endpoints"
    assert built.active_count == "3 rollouts in progress"
    assert float(built.rate.split()[0]) == pytest.approx(4 * one, rel=0.05)


@pytest.mark.parametrize("path", ["/", "/endpoints"])
def test_endpoints__pages_turned__show_every_endpoint_once(
    viewer: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(overview_page, "ENDPOINTS_A_PAGE", 2)
    first = factories.endpoint("a", now=NOW)
    for name in ("b", "c"):
        factories.endpoint(name, of=first.model, now=NOW)
    factories.rollout_paused(of=factories.endpoint("waits", of=first.model, now=NOW), now=NOW)
    factories.rollout_paused(of=factories.endpoint("waits-too", of=first.model, now=NOW), now=NOW)
    seen, query = [], ""
    for _ in range(3):
        text = viewer.get(f"{path}{query}").content.decode()
        seen.append(re.findall(r'id="row-([a-z-]+)"', text))
        query = "".join(re.findall(r'href="(\?attention=[^"]+)"', text)).replace("&amp;", "&")
    assert seen == [["waits", "waits-too"], ["a", "b"], ["c"]]
    assert query == ""


def test_needs__more_than_are_shown__all_are_counted_and_said(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_page, "ENDPOINTS_A_PAGE", 2)
    first = factories.endpoint("a", now=NOW)
    for name in ("b", "c", "d"):
        factories.endpoint(name, of=first.model, now=NOW)
    Endpoint.objects.update(router_problem="listener refused: port taken")
    built = page()
    assert (len(built.needs), built.need_count) == (2, 4)
    text = viewer.get("/").content.decode()
    assert "2 of 4 are shown" in text
    assert 'href="/endpoints?attention=0&amp;after=b"' in text


def test_needs__page_turned__are_still_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_page, "ENDPOINTS_A_PAGE", 1)
    first = factories.endpoint("a", now=NOW)
    factories.rollout_paused(of=factories.endpoint("waits", of=first.model, now=NOW), now=NOW)
    built = build(worlds=nothing_wrong(), now=NOW, behind=(2, "waits"))
    assert [row.name for row in built.endpoints] == ["a"]
    assert titles(built) == ["waits: paused at 25%"]


def test_needs__more_changed_versions_than_named__the_others_are_counted() -> None:
    model = factories.model(now=NOW)
    for number in range(10, 17):
        factories.version(model, number)
    model.versions.update(manifest_state="changed", manifest_problem="The file config.json differs.")
    built = page()
    changed = model.versions.count()
    assert titles(built)[-1] == f"{changed - 5} more versions are no longer what was registered"


def test_finished__more_than_are_shown__says_of_how_many(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_page, "FINISHED_SHOWN", 1)
    endpoint = factories.endpoint(now=NOW)
    for _ in range(3):
        factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    assert "newest 1 of 3" in viewer.get("/").content.decode()


def test_finished__promoted_and_rolled_back__say_what_users_saw() -> None:
    endpoint = factories.endpoint(now=NOW)
    rollout = factories.rollout_rolled_back(of=endpoint, now=NOW - timedelta(minutes=5))
    factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    promoted, returned = page().finished
    assert promoted.title == "promoted v2"
    assert returned.title == "v3 rolled back to v1"
    served = rollout.arms.get(name="candidate").requests
    assert returned.detail == f"golden-set score · {served} requests saw v3"


def test_rates__last_minutes__leave_the_minute_under_way_out() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=20, now=NOW)
    rates = rates_of([endpoint.pk], now=NOW)[endpoint.pk]
    until = NOW.replace(second=0)
    rows = MinuteSample.objects.filter(minute__gte=until - timedelta(minutes=5), minute__lt=until)
    requests = sum(row.requests for row in rows)
    assert rates.per_second == pytest.approx(requests / 300)
    assert rates.errors == pytest.approx(sum(row.errors for row in rows) / requests)
    assert rates.p95_seconds is not None
    assert 0.1 < rates.p95_seconds < 0.5


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ([[0.1, 100], [0.2, 0]], 0.195),
        ([[0.1, 50], [0.2, 5]], 0.2),
        ([[0.1, 5], [0.2, 0]], 0.1),
        ([[0.1, 50], [0.2, 20]], float("inf")),
        ([], None),
    ],
)
def test_quantile__between_edges__is_straight(over: list[list[float]], expected: float | None) -> None:
    found = quantile([{"total": 100, "over": over}], 0.95)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_quantile__nothing_measured__is_unknown() -> None:
    assert quantile([None, {"total": 0, "over": [[0.1, 0]]}], 0.95) is None


@pytest.mark.parametrize("path", ["/", "/endpoints"])
def test_queries__more_endpoints__cost_the_same(viewer: Client, path: str) -> None:
    first = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(first, minutes=5, now=NOW)
    factories.rollout_rolled_back(of=first, now=NOW)
    factories.rollout_paused(of=first, now=NOW)
    before = count_queries(viewer, path)
    for name in ("b", "c", "d"):
        other = factories.endpoint(name, of=first.model, now=NOW)
        factories.rollout_rolled_back(of=other, now=NOW)
    assert count_queries(viewer, path) == before
    assert before <= 16


def count_queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        client.get(path, headers=HTMX)
    return len(captured)
