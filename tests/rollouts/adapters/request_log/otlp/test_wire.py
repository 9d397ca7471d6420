from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.request_log.otlp.records import attributes_in
from rollouts.adapters.request_log.otlp.wire import records_in
from tests.rollouts.adapters.request_log.otlp.sending import attributes, message, record


def test_records_in__message_of_the_usual_classes__says_the_same() -> None:
    records = [record(attributes("request-one")), record(attributes("request-two", status="400"))]
    records[0].body.string_value = "a line of text"
    found = [attributes_in(one) for one in records_in(message(records).SerializeToString())]
    assert found == [attributes("request-one"), attributes("request-two", status="400")]


def test_records_in__value_that_is_no_utf8__spoils_nothing_else() -> None:
    """The usual classes refuse the whole message."""
    body = message([record(attributes("request-one", asked_for="MARK")), record(attributes("request-two"))])
    found = list(records_in(body.SerializeToString().replace(b"MARK", b"\xff\xfe\xc3\x28")))
    assert attributes_in(found[0]) == attributes("request-one", asked_for="\ufffd\ufffd\ufffd(")
    assert attributes_in(found[1]) == attributes("request-two")


def field(number: int, content: bytes) -> bytes:
    """A field of a message, of the kind that says its length first."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_records_in__deeply_nested_value__is_not_walked_into() -> None:
    value = field(1, b"deep")
    for _ in range(1_000):
        value = field(6, field(1, field(2, value)))  # a list of pairs, a pair, its value
    deep = field(6, field(1, b"headgate.id") + field(2, value))
    plain = record({"headgate.at": "1"}).SerializeToString()
    (found,) = records_in(field(1, field(2, field(2, deep + plain))))
    assert attributes_in(found) == {"headgate.at": "1"}


@given(st.binary(max_size=200))
def test_records_in__whatever_comes__is_read_or_refused(body: bytes) -> None:
    try:
        found = list(records_in(body))
    except InvalidInput:
        return
    assert all(isinstance(attributes_in(one), dict) for one in found)


def test_records_in__no_message__is_refused_at_once() -> None:
    with pytest.raises(InvalidInput):
        records_in(b"\xff\xff\xff")
