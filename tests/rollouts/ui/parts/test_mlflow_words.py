"""What MLflow really has, on the pages of endpoint and rollout and on the overview."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from controlplane.passes.models import ItemTrouble
from registry.models import Alias, MirrorState, Model, Version
from rollouts import selectors
from rollouts.models import Endpoint
from rollouts.selectors import WRITE_BACKS
from rollouts.ui.overview.page import build as overview
from rollouts.ui.parts.mlflow_words import MlflowNow, mlflow_now
from tests import factories
from tests.rollouts.worlds import nothing_wrong

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def words() -> MlflowNow:
    found = selectors.find_endpoint("triage")
    return mlflow_now(found, found, NOW)


def point_to(number: int) -> None:
    Alias.objects.filter(name="triage-production").update(version=Version.objects.get(number=number))


def fail(endpoint: Endpoint) -> None:
    ItemTrouble.objects.create(
        pass_name=WRITE_BACKS, item=str(endpoint.pk), label="alias", attempts=4, error="MLflow failed (500).",
        first_failed_at=NOW - timedelta(days=1), last_attempt_at=NOW, next_attempt_at=NOW + timedelta(minutes=10),
    )  # fmt: skip


def test_words__alias_as_it_should_be__where_and_when_and_nothing_more(endpoint: Endpoint) -> None:
    assert words() == MlflowNow("triage-production → v1, read just now", "pass")


def test_words__mirror_is_old__says_when_it_was_read(endpoint: Endpoint) -> None:
    MirrorState.objects.update(models_read_at=NOW - timedelta(days=2))
    assert words().short == f"triage-production → v1, read {NOW - timedelta(days=2):%Y-%m-%d %H:%M} UTC"


def test_words__this_model_could_not_be_read_since__says_when_it_was(endpoint: Endpoint) -> None:
    Model.objects.update(last_read_at=NOW - timedelta(days=2))
    assert words().short == f"triage-production → v1, read {NOW - timedelta(days=2):%Y-%m-%d %H:%M} UTC"


def test_words__alias_elsewhere__never_written(endpoint: Endpoint) -> None:
    point_to(2)
    found = words()
    assert (found.short, found.tone) == ("triage-production → v2, read just now", "warn")
    assert found.strong == "MLflow says otherwise: triage-production → v2, while v1 serves."
    assert found.detail == "It is written within seconds."


def test_words__alias_not_there__said(endpoint: Endpoint) -> None:
    Alias.objects.all().delete()
    assert words().strong == "MLflow says otherwise: no alias triage-production, while v1 serves."


def test_words__writing_fails__why_since_when_and_the_next_try(endpoint: Endpoint) -> None:
    point_to(2)
    fail(endpoint)
    since, until = NOW - timedelta(days=1), NOW + timedelta(minutes=10)
    moment = f"{until:%H:%M:%S} UTC" if until.date() == NOW.date() else f"{until:%Y-%m-%d %H:%M} UTC"
    assert words().detail == (
        f"Writing it has failed since {since:%Y-%m-%d %H:%M} UTC and is tried again at {moment}: MLflow failed (500)."
    )


def test_words__endpoint_that_never_served__is_not_otherwise(endpoint: Endpoint) -> None:
    Endpoint.objects.update(desired_shares={})
    Alias.objects.all().delete()
    assert words().strong == ""


def test_pages__version_deleted_while_it_serves__said_on_endpoint_rollout_and_overview(
    client: Client,
) -> None:
    client.force_login(factories.person())
    rollout = factories.rollout_paused(now=NOW)
    Version.objects.filter(number=1).update(gone_at=NOW)
    said = "v1 was deleted in MLflow while it serves."
    for path in ("/endpoints/triage", f"/rollouts/{rollout.pk}", "/"):
        assert said in client.get(path).content.decode(), path
    need = next(need for need in overview(worlds=nothing_wrong(), now=NOW).needs if "deleted" in need.title)
    assert (need.title, need.at) == (f"triage: {said}", NOW)
    assert "It goes on serving from its verified files" in need.detail


def test_pages__model_deleted__said_with_what_else_is_known(client: Client, endpoint: Endpoint) -> None:
    client.force_login(factories.person())
    Model.objects.update(gone_at=NOW, gone_why="It may have been renamed: MLflow's 'a' and 'b' fit 'triage'.")
    text = client.get("/endpoints/triage").content.decode()
    assert "The model triage was deleted in MLflow." in text
    assert "It may have been renamed" in text


def test_needs__a_pass_fails_for_a_while__somebody_should_know(endpoint: Endpoint) -> None:
    fail(endpoint)
    need = next(
        need
        for need in overview(worlds=nothing_wrong(), now=NOW).needs
        if need.title.startswith("Write-backs")
    )
    assert need.title == "Write-backs to MLflow: not everything can be done"
    assert "MLflow failed (500). It is tried again by itself." in need.detail


def test_needs__a_pass_failed_a_moment_ago__nobody_yet(endpoint: Endpoint) -> None:
    fail(endpoint)
    ItemTrouble.objects.update(first_failed_at=NOW - timedelta(seconds=20))
    assert not [
        need
        for need in overview(worlds=nothing_wrong(), now=NOW).needs
        if need.title.startswith("Write-backs")
    ]
