"""Backends of kind "address", and the migration that made them of hosts and ports."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.backends import address_of, at_address
from rollouts.adapters.routers.envoy_state import RouterState
from rollouts.ports import Backend

SERVICE = "service"  # a kind that has no address
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.ip_addresses().map(str)


@given(host=HOSTS, port=st.integers(1, 65535))
def test_address_of__what_was_made_of_a_host_and_a_port__is_these(host: str, port: int) -> None:
    assert address_of(at_address("v1", host, port)) == (host, port)


@given(st.text(max_size=30) | st.from_regex(r"[a-z/\[\] ]*:\d{0,7}", fullmatch=True))
def test_address_of__any_text_that_is_taken__is_the_address_that_it_says(text: str) -> None:
    try:
        host, port = address_of(Backend("v1", "address", address=text))
    except InvalidInput:
        return
    assert 0 < port < 65536
    assert address_of(at_address("v1", host, port)) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:65536", "host:１", "a b:1", "[::1]", "::1:8000"]
)
def test_address_of__no_address__is_refused_with_the_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="no usable address") as refusal:
        address_of(Backend("v1", "address", address=text))
    assert refusal.value.field == "route.backends"


def test_address_of__another_kind__says_that_it_has_none() -> None:
    with pytest.raises(InvalidInput, match="has no address: its backend is of kind 'service'"):
        address_of(Backend("v1", SERVICE, name="v1"))


def test_envoys_routes__written_by_an_earlier_version__are_read() -> None:
    stored = {"shares": {"v1": 10_000}, "backends": [["v1", "127.0.0.1", 18100]], "fallback": "v1"}
    found = RouterState.from_json({"routes": {"chat": stored}, "tokens": {"chat": 3}, "rejected": {}})
    assert found.routes["chat"].backends == (at_address("v1", "127.0.0.1", 18100),)
    assert RouterState.from_json(found.to_json()) == found


@pytest.mark.parametrize("host", ["127.0.0.1", "engine.example", "::1"])
def test_migration__host_and_port__become_the_reference_that_a_cluster_gives(host: str) -> None:
    migration = importlib.import_module("rollouts.migrations.0018_backends_are_references")
    reference = migration._reference(host, 18100)
    assert Backend("v1", **reference) == at_address("v1", host, 18100)
    assert migration._host_and_port(reference) == (host, 18100)


def test_migration__back_with_a_reference_of_another_kind__has_no_host_and_port() -> None:
    migration = importlib.import_module("rollouts.migrations.0018_backends_are_references")
    service = {"kind": SERVICE, "name": "v1", "address": "v1.models.svc:http"}
    assert migration._host_and_port(service) is None
