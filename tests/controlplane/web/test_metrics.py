"""`/metrics` in Prometheus' text format."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from controlplane.web.health import beat
from tests import factories

pytestmark = pytest.mark.django_db


def scrape(client: Client) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and label values, in the order of the label names."""
    client.force_login(factories.person())
    answer = client.get("/metrics")
    assert answer.status_code == 200
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(v for _, v in sorted(sample.labels.items()))] = (
                sample.value
            )
    return found


def test_metrics__requests__are_counted_by_view_and_status(client: Client) -> None:
    key = ("GET", "200", "healthz")
    before = scrape(client).get("headgate_http_requests_total", {}).get(key, 0)
    client.get("/healthz")
    assert scrape(client)["headgate_http_requests_total"][key] == before + 1


def test_metrics__parts__show_age_and_state(client: Client) -> None:
    beat(name="mlflow", now=datetime.now(UTC), ok=False)
    found = scrape(client)
    assert found["headgate_part_ok"][("mlflow",)] == 0
    assert 0 <= found["headgate_part_age_seconds"][("mlflow",)] < 60


def test_metrics__rollouts__are_read_from_the_database(client: Client) -> None:
    rollout = factories.rollout_paused()
    found = scrape(client)
    assert found["headgate_rollouts"][("paused",)] == 1
    assert found["headgate_rollouts"][("succeeded",)] == 0
    candidate = rollout.arms.get(name="candidate")
    assert found["headgate_rollout_requests_total"][("candidate", "triage")] == candidate.requests
    assert found["headgate_global_stop"][()] == 0
    assert found["headgate_endpoint_reconciled_age_seconds"][("triage",)] < 60
