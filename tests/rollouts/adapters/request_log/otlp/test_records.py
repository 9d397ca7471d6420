from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.request_log.otlp.records import (
    ATTRIBUTES,
    Answered,
    answered_in,
    attributes_in,
)
from rollouts.adapters.request_log.otlp.wire import records_in
from tests.rollouts.adapters.request_log.otlp.sending import VARIANT, answered, attributes, message, record
from tests.standins.gateway import objects


def test_attributes__of_the_manifest__are_those_that_are_read() -> None:
    proxy, _ = objects()
    (setting,) = proxy["spec"]["telemetry"]["accessLog"]["settings"]
    assert set(setting["format"]["json"]) == set(ATTRIBUTES)


def test_answered_in__drawn_request__says_all_of_it() -> None:
    assert answered_in(attributes()) == answered()


@pytest.mark.parametrize(("asked_for", "forced"), [("-", False), (VARIANT, True), ("chat-v9-none", False)])
def test_answered_in__request_that_named_a_variant__is_forced_when_that_one_answered(
    asked_for: str, forced: bool
) -> None:
    found = answered_in(attributes(asked_for=asked_for))
    assert found is not None
    assert found.forced is forced


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"status": "400"}, True),
        ({"status": "500"}, True),
        ({"details": "downstream_remote_disconnect"}, True),  # it left in the middle of its answer
        ({"details": "upstream_reset_after_response_started{connection_termination}"}, True),
        ({"status": "0", "details": "downstream_remote_disconnect"}, False),
        (
            {"status": "503", "details": "upstream_reset_before_response_started{remote_connection_failure}"},
            False,
        ),
        ({"status": "504", "details": "response_timeout"}, False),
        ({"variant": "-"}, False),
        ({"method": "GET"}, False),
        ({"route": "-"}, False),
        ({"route": "httproute/models/chat"}, False),
        ({"route": "grpcroute/models/chat/rule/0/match/0/h"}, False),
        ({"route": "other/httproute/models/chat/rule/0/match/0/h"}, False),
    ],
)
def test_answered_in__one_kind_of_record__is_an_answered_inference_or_not(
    changes: dict[str, str], found: bool
) -> None:
    assert (answered_in(attributes(**changes)) is not None) is found


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"status": "two hundred"}, "headgate.status"),
        ({"status": "-1"}, "headgate.status"),
        ({"status": "9" * 40}, "headgate.status"),
        ({"id": "-"}, "headgate.id"),
        ({"id": "short"}, "headgate.id"),
        ({"id": "x" * 81}, "headgate.id"),
        ({"id": "id of a\nrequest"}, "headgate.id"),
        ({"id": "die-nümmer-der-frage"}, "headgate.id"),
        ({"at": "-"}, "headgate.at"),
        ({"at": "nan"}, "headgate.at"),
        ({"at": "1e300"}, "headgate.at"),
        ({"variant": "v" * 301}, "headgate.variant"),
        ({"route": "r" * 601}, "headgate.route"),
    ],
)
def test_answered_in__odd_value__is_refused_naming_it(changes: dict[str, str], at: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        answered_in(attributes(**changes))
    assert caught.value.field == at


def read(pairs: Iterable[KeyValue]) -> Mapping[str, str]:
    """The attributes of one record as they come over the wire."""
    (found,) = records_in(message([LogRecord(attributes=list(pairs))]).SerializeToString())
    return attributes_in(found)


def test_attributes_in__others_and_other_kinds__are_left_aside() -> None:
    pairs = [
        *record(attributes()).attributes,
        KeyValue(key="k8s.pod.name", value=AnyValue(string_value="edge-0")),
        KeyValue(key="headgate.id", value=AnyValue(int_value=7)),
        KeyValue(key="headgate.at"),
    ]
    assert read(pairs) == attributes()


def test_attributes_in__more_than_a_gateway_sends__is_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 64"):
        read([KeyValue(key="k")] * 65)


def test_packed__every_value__is_the_same_after_it() -> None:
    one = Answered("id-of-a-request", "models", "chat", VARIANT, True, 422, 1796008958.794)
    assert Answered.unpacked(one.request_id, one.packed()) == one
    assert len(one.packed()) < 80


@pytest.mark.parametrize(
    "packed", [b"", b"\xff", "[]", "{}", "7", '["m","r","v",2,200,1]', '["m","r","v",0,"x",1]']
)
def test_unpacked__what_nobody_packed__is_refused(packed: str | bytes) -> None:
    with pytest.raises(InvalidInput):
        Answered.unpacked("id-of-a-request", packed)


@given(st.dictionaries(st.sampled_from(ATTRIBUTES), st.text() | st.sampled_from(["-", "POST", "200", "1.5"])))
def test_answered_in__whatever_comes__is_a_request_that_can_be_kept_or_nothing_or_refused(
    values: dict[str, str],
) -> None:
    try:
        found = answered_in({**attributes(), **values})
    except InvalidInput:
        return
    if found is not None:
        assert Answered.unpacked(found.request_id, found.packed()) == found
