"""How variants are reached, between the rows that keep it and the router that uses it: nothing of it is read here."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.models import Variant, Workload
from rollouts.ports import Backend
from rollouts.services.loop.backends import backend_json, backends_of

BACKENDS = [
    Backend("v1", "address", address="10.0.0.1:8000"),
    Backend("v1", "service", name="headgate-v1"),
    Backend("v1", "unheard-of", name="a", address="b"),
]


def workload(variant: str, **changes: Any) -> Workload:
    kept = {"kind": "address", "name": "", "address": f"10.0.0.1/{variant}"}
    return Workload(**{"variant": Variant(name=variant), "wanted": True, "backend": kept, **changes})


@pytest.mark.parametrize("backend", BACKENDS, ids=[one.kind for one in BACKENDS])
def test_backend__kept_and_read_again__is_the_same_of_whatever_kind(backend: Backend) -> None:
    assert backends_of([workload("v1", backend=backend_json(backend))]) == (backend,)


def test_backends__of_several__are_in_the_order_of_their_variants_names() -> None:
    found = backends_of([workload("v2"), workload("v1"), workload("v10")])
    assert [one.variant for one in found] == ["v1", "v10", "v2"]


def test_backends__of_what_has_no_address_yet_or_is_being_drained__are_left_out() -> None:
    found = backends_of([workload("loads", backend={}), workload("drains", wanted=False), workload("v1")])
    assert [one.variant for one in found] == ["v1"]
