"""What an observation means: plain values of rows and of what was seen, without a database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.decision import ArmView, RolloutView
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.models import Endpoint, FilesState, Variant, Workload
from rollouts.ports import ObservedRoute, WorkloadStatus
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.situation import (
    USUAL_LAG,
    in_force,
    route_lag_words,
    shares_in_force,
    shares_set_by_hand,
    situation_of,
    split,
    splits_as_desired,
    statuses_of,
)
from tests import factories

NOW = factories.right_now()
HALF = {"v1": 5_000, "v2": 5_000}


def route(shares: dict[str, int], *, generation: int = 1, accepted: int = 1, **changes: Any) -> ObservedRoute:
    return ObservedRoute(
        "triage",
        shares,
        changes.pop("healthy", frozenset()),
        generation=generation,
        accepted=accepted,
        **changes,
    )


def seen(shown: ObservedRoute | None = None, **changes: Any) -> Observation:
    return Observation(**{"statuses": {}, "route": shown, "route_known": True, **changes})


def endpoint(**changes: Any) -> Endpoint:
    return Endpoint(**{"name": "triage", "desired_shares": HALF, "applied": {"shares": HALF}, **changes})


def workload(**changes: Any) -> Workload:
    return Workload(**{"variant": Variant(name="v1"), "wanted": True, "phase": "starting", **changes})


def status_of(row: Workload, *found: WorkloadStatus) -> WorkloadStatus | None:
    observation = seen(statuses={one.variant: one for one in found}, workloads=(row,))
    return statuses_of(observation).get("v1")


# --- engines ----------------------------------------------------------------------------------------------------------


def test_statuses__cluster_does_not_answer__none_is_known() -> None:
    assert statuses_of(seen(statuses=None, workloads=(workload(),))) == {}


def test_statuses__cluster_knows_it__is_what_it_says() -> None:
    said = WorkloadStatus("v1", WorkloadPhase.READY, ready=1, desired=1)
    assert status_of(workload(), said) is said


@pytest.mark.parametrize(
    ("row", "phase", "message"),
    [
        ({"wanted": False}, WorkloadPhase.ABSENT, ""),
        ({}, WorkloadPhase.STARTING, "waiting to be launched"),
        ({"message": "no room yet"}, WorkloadPhase.STARTING, "no room yet"),
        (
            {"files_state": FilesState.WANTED, "files_note": "1 of 2 GB", "message": "x"},
            WorkloadPhase.STARTING,
            "1 of 2 GB",
        ),
        (
            {"phase": "failed", "reason": "tampered-file", "message": "w differs"},
            WorkloadPhase.FAILED,
            "w differs",
        ),
        (
            {"phase": "failed", "files_state": FilesState.HERE, "message": "old news"},
            WorkloadPhase.STARTING,
            "old news",
        ),
    ],
    ids=["not wanted", "wanted", "with words", "waits for files", "refused before", "launched anew"],
)
def test_statuses__cluster_does_not_know_it__is_what_we_know(
    row: dict[str, Any], phase: WorkloadPhase, message: str
) -> None:
    found = status_of(workload(**row))
    assert found is not None
    assert (found.phase, found.message) == (phase, message)


def test_statuses__failed_before_and_to_be_launched_anew__its_failure_is_old_news() -> None:
    failed = WorkloadStatus("v1", WorkloadPhase.FAILED, reason=FailureReason.NO_MEMORY)
    found = status_of(workload(files_state=FilesState.WANTED), failed)
    assert found is not None
    assert (found.phase, found.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
    assert status_of(workload(), failed) is failed


def test_statuses__deleted_by_somebody__says_what_the_cluster_says_of_it() -> None:
    gone = WorkloadStatus("v1", WorkloadPhase.ABSENT, message="eli deleted it")
    found = status_of(workload(message="ready"), gone)
    assert found is not None
    assert (found.phase, found.message) == (WorkloadPhase.STARTING, "eli deleted it")


# --- the route --------------------------------------------------------------------------------------------------------


def test_split__shares_of_nothing__are_left_out() -> None:
    assert split({"v1": 10_000, "v2": 0}) == {"v1": 10_000}


@pytest.mark.parametrize(
    ("changes", "observation", "expected"),
    [
        ({}, seen(route(HALF)), True),
        ({}, seen(route({"v1": 10_000})), False),
        ({}, seen(None), False),
        ({"desired_shares": {}}, seen(route({})), False),
        ({}, seen(route(HALF), traffic_waits=True), False),
        ({"accepted_at": NOW}, seen(route(HALF, generation=1, accepted=2)), False),
        ({"accepted_at": NOW}, seen(route(HALF, generation=2, accepted=2)), True),
        ({}, seen(route(HALF, generation=1, accepted=2)), True),
    ],
    ids=[
        "as desired", "otherwise", "no route", "never asked", "a newer one waits", "not settled", "settled",
        "a table that was put back",
    ],
)  # fmt: skip
def test_in_force__only_the_desired_split_with_nothing_on_its_way(
    changes: dict[str, Any], observation: Observation, expected: bool
) -> None:
    assert in_force(endpoint(**changes), observation) is expected


def test_splits_as_desired__whatever_waits__is_about_the_shares_alone() -> None:
    assert splits_as_desired(
        endpoint(desired_shares={**HALF, "v3": 0}), seen(route(HALF), traffic_waits=True)
    )


@pytest.mark.parametrize(
    ("changes", "observation", "expected"),
    [
        ({}, seen(route({"v1": 9_000, "v2": 1_000, "v3": 0})), {"v1": 9_000, "v2": 1_000}),
        ({}, seen(route(HALF)), None),
        ({}, seen(None), None),
        ({"applied": {}}, seen(route({"v1": 9_000, "v2": 1_000})), None),
        ({}, seen(route({"v1": 10_000}), traffic_waits=True), None),
    ],
    ids=["by hand", "as published", "router lost it", "nothing was published", "ours is on its way"],
)
def test_drift__is_what_differs_from_what_was_published_while_nothing_of_ours_waits(
    changes: dict[str, Any], observation: Observation, expected: dict[str, int] | None
) -> None:
    assert shares_set_by_hand(endpoint(**changes), observation) == expected


def test_shares_in_force__router_cannot_be_read__are_those_that_were_read_back_last() -> None:
    assert shares_in_force(endpoint(), seen(route({"v1": 10_000}))) == {"v1": 10_000}
    assert shares_in_force(endpoint(), seen(None, route_known=False)) == HALF
    assert shares_in_force(endpoint(applied={}), seen(None)) == {}


@pytest.mark.parametrize(
    ("ago", "observation", "said"),
    [
        (USUAL_LAG, seen(route(HALF, accepted=2)), "The one before stays in force."),
        (USUAL_LAG, seen(None), "has not put it in force yet."),
        (USUAL_LAG - timedelta(seconds=1), seen(route(HALF, accepted=2)), ""),
        (USUAL_LAG, seen(route(HALF)), ""),
        (USUAL_LAG, seen(None, route_known=False), ""),
    ],
    ids=["late", "its first route", "as long as usual", "in force", "router cannot be read"],
)
def test_late_words__after_the_usual_time__say_what_is_in_force(
    ago: timedelta, observation: Observation, said: str
) -> None:
    words = route_lag_words(endpoint(accepted_at=NOW - ago), observation, NOW)
    assert words.endswith(said) if said else words == ""


def test_late_words__nothing_was_accepted__are_empty() -> None:
    assert route_lag_words(endpoint(accepted_at=None), seen(route(HALF, accepted=2)), NOW) == ""


# --- all of it --------------------------------------------------------------------------------------------------------


def view() -> RolloutView:
    arms = (ArmView("baseline", "v1", "v1", 10_000), ArmView("candidate", "v2", "v2"))
    return RolloutView(
        Phase.PROVISIONING, PauseReason.NONE, factories.PLAN, arms, -1, 0.0, None, 0, None, 0.0
    )


def situation(observation: Observation, *found: WorkloadStatus, **changes: Any) -> Any:
    return situation_of(
        endpoint(**changes), view(), observation, {one.variant: one for one in found},
        answered=frozenset({"v2"}), hold=None, now=NOW,
    )  # fmt: skip


def test_situation__engines_of_others__are_no_part_of_it() -> None:
    ready = [WorkloadStatus(name, WorkloadPhase.READY, ready=1, desired=1) for name in ("v1", "v2", "v9")]
    assert set(situation(seen(route(HALF)), *ready).engines) == {"v1", "v2"}


def test_situation__files_that_we_fetched__count_until_when_they_came_here_or_further() -> None:
    rows = (workload(files_at=NOW),)
    for at_cluster, counts in (
        (NOW.timestamp() - 9, NOW.timestamp()),
        (NOW.timestamp() + 9, NOW.timestamp() + 9),
    ):
        said = WorkloadStatus("v1", WorkloadPhase.STARTING, files_at=at_cluster)
        assert situation(seen(route(HALF), workloads=rows), said).engines["v1"].files_at == counts


@pytest.mark.parametrize(("desired", "was_whole"), [(3, True), (1, False)])
def test_situation__of_several_replicas__says_whether_all_were_ready_before(
    desired: int, was_whole: bool
) -> None:
    said = WorkloadStatus("v1", WorkloadPhase.READY, ready=1, desired=desired)
    found = situation(seen(route(HALF), workloads=(workload(ready_at=NOW),)), said)
    assert found.engines["v1"].was_whole is was_whole


def test_situation__router_cannot_be_read__nothing_is_routed_healthy_or_refused() -> None:
    found = situation(seen(None, route_known=False, refusal="it was refused before"))
    assert (found.routed, found.healthy, found.rejected) == (None, frozenset(), "")


@pytest.mark.parametrize(
    ("rejected", "refusal", "said"),
    [("", "ours", "ours"), ("the router's", "ours", "the router's"), ("", "", "")],
)
def test_situation__a_route_that_was_refused__is_said_in_the_routers_words_first(
    rejected: str, refusal: str, said: str
) -> None:
    assert situation(seen(route(HALF, rejected=rejected), refusal=refusal)).rejected == said
