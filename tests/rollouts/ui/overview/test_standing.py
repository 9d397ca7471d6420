"""Who needs somebody: the light read of every endpoint says the same as the whole rows do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from controlplane.kernel.errors import Unavailable
from registry.models import Model, Version
from rollouts import selectors
from rollouts.domain.gates.outage import Outage
from rollouts.domain.restored import RestoredState
from rollouts.domain.serving import Serving
from rollouts.models import Endpoint, Rollout, Workload
from rollouts.ui.overview.needs import needs_of
from rollouts.ui.overview.page import health_pill, latest_rollouts
from rollouts.ui.overview.standing import standings
from tests import factories
from tests.factories.endpoints import held_after_restore

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def nothing(of: Endpoint) -> object:
    return None


def router(of: Endpoint) -> object:
    return Endpoint.objects.update(router_problem="port taken")


def outage(*, over: bool, of_another: bool = False) -> Callable[[Endpoint], object]:
    def make(of: Endpoint) -> object:
        assert of.stable is not None
        lasts = Outage(NOW.timestamp() - 60, 60.0, 10, 10, 0, "no engine answers", over=over)
        name = "another-v1-abcdef" if of_another else of.stable.name
        return Endpoint.objects.update(outage=Serving(name, lasts).to_json())

    return make


def workload(**values: Any) -> Callable[[Endpoint], object]:
    return lambda of: Workload.objects.filter(variant=of.stable).update(**values)


def no_workload(of: Endpoint) -> object:
    return Workload.objects.all().delete()


def without_stable(of: Endpoint) -> object:
    return Endpoint.objects.update(stable=None)


def model_gone(of: Endpoint) -> object:
    return Model.objects.update(gone_at=NOW)


def version_gone(of: Endpoint) -> object:
    return Version.objects.update(gone_at=NOW)


def version_gone_without_traffic(of: Endpoint) -> object:
    Endpoint.objects.update(desired_shares={})
    return Version.objects.update(gone_at=NOW)


def restored(state: RestoredState) -> Callable[[Endpoint], object]:
    return lambda of: held_after_restore(of, state=state)


def rolled_back(hours: int) -> Callable[[Endpoint], object]:
    return lambda of: factories.rollout_rolled_back(of=of, now=NOW - timedelta(hours=hours))


def rollout(make: Callable[..., Rollout]) -> Callable[[Endpoint], object]:
    return lambda of: make(of=of, now=NOW)


def failed(of: Endpoint) -> object:
    factories.rollout_rolled_back(of=of, now=NOW)
    return Rollout.objects.update(phase="failed")


def stuck(seconds: float) -> Callable[[Endpoint], object]:
    return lambda of: factories.turns_fail(of, since=NOW - timedelta(seconds=seconds))


def several(of: Endpoint) -> object:
    rollout(factories.rollout_paused)(of)
    model_gone(of)
    return router(of)


STATES: dict[str, tuple[Callable[[Endpoint], object], int]] = {
    "calm": (nothing, 5),
    "router": (router, 0),
    "outage": (outage(over=False), 0),
    "outage that is over": (outage(over=True), 5),
    "outage of the variant before": (outage(over=False, of_another=True), 5),
    "engine failed": (workload(phase="failed", ready=0), 0),
    "engine does not answer": (workload(phase="unready", ready=0), 0),
    "one of two does not answer": (workload(phase="unready", ready=1, desired=2), 0),
    "nothing runs": (workload(phase="absent", ready=0), 0),
    "starting": (workload(phase="starting", ready=0), 4),
    "one of two ready": (workload(ready=1, desired=2), 4),
    "never launched": (no_workload, 4),
    "serves nothing": (without_stable, 4),
    "model gone": (model_gone, 2),
    "version gone": (version_gone, 2),
    "version gone, no traffic": (version_gone_without_traffic, 5),
    **{
        f"restored: {state}": (restored(state), 2 if state in ("keeping", "returning") else 0)
        for state in RestoredState
        if state
    },
    "rolled back": (rolled_back(1), 1),
    "rolled back long ago": (rolled_back(25), 5),
    "launch failed": (rollout(factories.rollout_launch_failed), 1),
    "paused": (rollout(factories.rollout_paused), 2),
    "under way": (rollout(factories.rollout_progressing), 3),
    "way back blocked": (failed, 0),
    "turns fail": (stuck(60), 0),
    "a turn failed a moment ago": (stuck(59), 5),
    "several things": (several, 0),
}


@pytest.mark.parametrize("state", STATES)
def test_standings__any_state__has_its_attention_and_as_many_needs_as_are_told(state: str) -> None:
    make, attention = STATES[state]
    make(factories.endpoint(now=NOW))
    (standing,) = standings(now=NOW)
    endpoint = selectors.endpoints().get()
    told = needs_of([endpoint], latest_rollouts([endpoint.pk]), (), NOW, labels={}, unusable={})
    assert (standing.attention, standing.needs) == (attention, len(told))
    assert health_pill(endpoint, watched=True).tone != "fail" or standing.attention == 0


@pytest.mark.parametrize("state", STATES)
def test_standings__nobody_watches_it__comes_first_and_is_never_called_healthy(state: str) -> None:
    make, _ = STATES[state]
    make(factories.endpoint(now=NOW))
    (standing,) = standings(now=NOW, unusable={"here"})
    endpoint = selectors.endpoints().get()
    why = {"here": Unavailable("The cluster here cannot be used.")}
    told = needs_of([endpoint], latest_rollouts([endpoint.pk]), (), NOW, labels={}, unusable=why)
    assert (standing.attention, standing.needs) == (0, len(told))
    assert health_pill(endpoint, watched=False).words == "Not watched"


def test_standings__newer_rollout__replaces_the_one_before() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    factories.rollout_progressing(of=endpoint, now=NOW)
    (standing,) = standings(now=NOW)
    assert (standing.attention, standing.needs, standing.moves) == (3, 0, True)


def test_standings__any_number__one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    first = factories.endpoint("b", now=NOW)
    for name in ("c", "a"):
        factories.endpoint(name, of=first.model, now=NOW)
    with django_assert_num_queries(1):
        found = standings(now=NOW)
    assert [one.name for one in found] == ["a", "b", "c"]
