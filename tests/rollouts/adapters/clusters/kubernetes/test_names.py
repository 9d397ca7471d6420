"""Names of objects: legal whatever an endpoint is called, and never the same for two."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.adapters.clusters.kubernetes.filling.objects import fill_name
from rollouts.adapters.clusters.kubernetes.names import (
    LONGEST_LABEL,
    LONGEST_NAME,
    label_value,
    object_name,
    pods_pattern,
)

SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

names = st.text(min_size=1, max_size=120) | st.from_regex(r"[a-zA-Z0-9._-]{1,90}", fullmatch=True)


@given(names)
def test_object_name__any_variant__is_one_that_a_service_takes(variant: str) -> None:
    name = object_name(variant)
    assert SERVICE_NAME.fullmatch(name)
    assert len(name) <= LONGEST_NAME


@given(names)
def test_label_value__any_name__is_one_that_a_label_takes(name: str) -> None:
    assert LABEL_VALUE.fullmatch(label_value(name))
    assert len(label_value(name)) <= LONGEST_LABEL


@given(names)
def test_object_name__of_a_name_that_was_made__is_another_one(variant: str) -> None:
    made = object_name(variant)
    assert made == variant or object_name(made) != made


def test_object_name__legal_one__stays() -> None:
    assert object_name("chat-v7-3f9a1c") == "chat-v7-3f9a1c"


def test_object_name__of_objects_that_run__does_not_change() -> None:
    """They are found again by it: another name would launch each of them once more."""
    assert object_name("v" * 52) == "v" * 52
    assert object_name("v" * 53) == f"{'v' * 40}-xdd8f67fd04"


def test_object_name__two_that_differ_in_what_is_cut__stay_two() -> None:
    long = "chat" * 30
    made = {
        object_name(one)
        for one in (f"{long}-v1-a", f"{long}-v2-a", "Chat", "chat", "cHat", "7b", "b", "chat.", "é")
    }
    assert len(made) == 9


def test_object_name__longest__leaves_room_for_what_keda_puts_before_it() -> None:
    assert len("keda-hpa-" + object_name("x" * 200)) <= LONGEST_LABEL


# --- names of pods ----------------------------------------------------------------------------------------------------

SAFE = "bcdfghjklmnpqrstvwxz2456789"
hashes = st.text(SAFE, min_size=1, max_size=10)
drawn = st.text(SAFE, min_size=5, max_size=5)


def generated(base: str, random: str) -> str:
    """As Kubernetes names what it makes of a template: the base is cut so that both have 63 characters at most."""
    return base[:58] + random


def pods_of(name: str, revision: str, random: str) -> set[str]:
    """The pods of a Deployment and of a group of several nodes of this name."""
    return {
        generated(f"{name}-{revision}-", random),
        *(f"{name}-{index}" for index in (0, 63, "0-1", "63-15")),
    }


@given(st.integers(1, LONGEST_NAME), hashes, drawn)
def test_pods_pattern__name_of_any_length__matches_all_its_pods(
    length: int, revision: str, random: str
) -> None:
    name = "n" * length
    pattern = re.compile(pods_pattern(name))
    assert all(pattern.fullmatch(pod) for pod in pods_of(name, revision, random))


@given(
    st.integers(1, LONGEST_NAME - 2),
    st.from_regex(r"-?([a-z0-9]{1,12}-){0,2}v[0-9]{1,3}-[0-9a-f]{6}", fullmatch=True),
    hashes,
    drawn,
)
def test_pods_pattern__variant_whose_name_begins_alike__has_no_pod_of_it(
    length: int, more: str, revision: str, random: str
) -> None:
    name = "n" * length
    other = object_name(f"{name}-{more.lstrip('-')}")
    pattern = re.compile(pods_pattern(name))
    assert not any(pattern.fullmatch(pod) for pod in pods_of(other, revision, random))


@pytest.mark.parametrize("length", range(10, LONGEST_NAME + 1))
def test_pods_pattern__job_that_fills_a_volume_for_it__has_no_pod_of_it(length: int) -> None:
    """Its name is the variant's, cut, with a digest: of variants with 39 or 40 characters nothing else is between."""
    name = "n" * length
    assert not re.fullmatch(pods_pattern(name), generated(f"{fill_name(name, 0)}-", "abcde"))


def test_pods_pattern__pods_that_kubernetes_made__are_matched() -> None:
    name = "support-assistant-emea-production-v12-3f9a1c"
    short = re.compile(pods_pattern(name))
    assert short.fullmatch(f"{name}-7d9f8c6b5f-x7k2p")
    long = re.compile(pods_pattern(f"{name}-abcde"))
    assert long.fullmatch(f"{name}-abcde-7d9f8c6x7k2p")
    assert not long.fullmatch(f"{name}-abcde-7d9f8c6x7k2")
