from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.texts import (
    DEEPEST_YAML,
    LARGEST_VOCABULARY,
    LARGEST_YAML,
    MOST_JSON_VALUES,
    MOST_PIECES,
    NotThat,
    check_vocabulary,
    check_yaml,
    checked_text,
    keys_of,
    parse_json,
)


@pytest.mark.parametrize("text", ["", "a\tb\r\nc\f", "\ufeffwith a mark", "\u202e", "日本語"])
def test_check_text__utf8__given_back(text: str) -> None:
    assert checked_text(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"ab\xff", "byte 2"), (b"a\x00", "0x00"), (b"\x1b[2J", "0x1b"), (b"\xed\xa0\x80", "UTF-8")],
)
def test_check_text__other_bytes__refused(data: bytes, words: str) -> None:
    with pytest.raises(NotThat, match=words):
        checked_text(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "can be read"),
        (b"[" + b"1," * (MOST_JSON_VALUES + 1) + b"1]", "more than 4000000 values"),
    ],
)
def test_parse_json__hostile_or_broken__refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(NotThat, match=words):
        parse_json(data)


def test_keys_of__any_depth__each_name_with_its_value() -> None:
    value = {"a": [{"b": 1}, [{"c": {"d": 2}}]]}
    assert {name for name, _ in keys_of(value)} == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "text", ["", "a: 1", "- &x {a: 2020-01-01}\n- *x", "a: !!str 1", "! a", "---\na\n---\nb"]
)
def test_check_yaml__plain_values__pass(text: str) -> None:
    check_yaml(text.encode())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system [id]", "python/object/apply"),
        ("%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!name:os.system", "python/name"),
        ("a: !mine 1", "!mine"),
        ("a: [", "line"),
        ("[" * (DEEPEST_YAML + 1) + "]" * (DEEPEST_YAML + 1), "nested more than"),
        ("[" * 100_000, "nested more than"),
        ("a" * (LARGEST_YAML + 1), "are not read"),
    ],
)
def test_check_yaml__tags_depth_and_size__refused(text: str, words: str) -> None:
    with pytest.raises(NotThat, match=words):
        check_yaml(text.encode())


@pytest.mark.parametrize("data", [b"IQ== 0\n", b"IQ== 0\r\nIg== 1", b"\x0a\x03\x0a\x01a\xc2\x0c\x00"])
def test_check_vocabulary__sentencepiece_or_tiktoken__passes(data: bytes) -> None:
    check_vocabulary(data)


PARTS = (b"\x0a", b"\x02", b"\x12", b"\x00", b"a", b"\x80", b"IQ==", b" 0", b"\n")


@given(st.lists(st.sampled_from(PARTS)).map(b"".join))
def test_check_vocabulary__what_passes__no_longer_with_a_piece_that_is_cut_off(data: bytes) -> None:
    try:
        check_vocabulary(data)
    except NotThat:
        return
    with pytest.raises(NotThat):
        check_vocabulary(data + b"\x0a\x05x")


@pytest.mark.parametrize(
    "data", [b"", b"words", b"\x0a\x05abc", b"\x80\x04\x95", b"\x12\x00", b"\xff" * 20, b"\x08\x01\x0a\x00"]
)
def test_check_vocabulary__neither__refused(data: bytes) -> None:
    with pytest.raises(NotThat, match="neither"):
        check_vocabulary(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"IQ== 1\n" * (LARGEST_VOCABULARY // 7 + 1), "at most 33554432 are read"),
        (b"\x0a\x00" * (MOST_PIECES + 1), "more than 2000000 pieces"),
    ],
)
def test_check_vocabulary__larger_than_any_tokenizer__refused(data: bytes, words: str) -> None:
    with pytest.raises(NotThat, match=words):
        check_vocabulary(data)
