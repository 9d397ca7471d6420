"""Pages while a cluster cannot be used: they open, and those of its endpoints say why."""

from __future__ import annotations

import pytest
from django.test import Client

from rollouts.models import Cluster
from tests import factories

pytestmark = pytest.mark.django_db


def strand() -> None:
    """An endpoint on a cluster whose kind nobody knows."""
    made = factories.endpoint("stranded")
    made.cluster = Cluster.objects.create(name="elsewhere", kind="moonbase")
    made.save()


@pytest.mark.parametrize(
    "address", ["/endpoints/stranded", "/clusters/elsewhere", "/rollouts/new?endpoint=stranded&version=2"]
)
def test_page__unusable_cluster__says_why(engineer: Client, address: str) -> None:
    strand()
    response = engineer.get(address)
    assert response.status_code == 200
    assert "The cluster elsewhere cannot be used." in response.content.decode()


@pytest.mark.parametrize("address", ["/", "/endpoints", "/endpoints/stranded"])
def test_page__unusable_cluster__calls_nothing_on_it_healthy(engineer: Client, address: str) -> None:
    strand()
    text = engineer.get(address).content.decode()
    assert "Not watched" in text
    assert "Healthy" not in text
    assert ">Ready<" not in text


def test_overview__unusable_cluster__waits_for_a_person(engineer: Client) -> None:
    strand()
    text = engineer.get("/").content.decode()
    assert "stranded: nobody watches it" in text
    assert "The cluster elsewhere cannot be used." in text


@pytest.mark.parametrize("address", ["/", "/endpoints", "/rollouts", "/policies"])
def test_page__of_all__stays_open(engineer: Client, address: str) -> None:
    strand()
    assert engineer.get(address).status_code == 200
