"""Names of objects: legal whatever an endpoint is called, and never the same for two."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from rollouts.adapters.clusters.kubernetes.names import LONGEST_LABEL, LONGEST_NAME, label_value, object_name

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


def test_object_name__two_that_differ_in_what_is_cut__stay_two() -> None:
    long = "chat" * 30
    made = {
        object_name(one)
        for one in (f"{long}-v1-a", f"{long}-v2-a", "Chat", "chat", "cHat", "7b", "b", "chat.", "é")
    }
    assert len(made) == 9


def test_object_name__longest__leaves_room_for_what_keda_puts_before_it() -> None:
    assert len("keda-hpa-" + object_name("x" * 200)) <= LONGEST_LABEL
