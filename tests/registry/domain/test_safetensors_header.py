from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.safetensors_header import check_safetensors
from registry.domain.texts import NotThat


def file_of(header: object, data: bytes = b"", *, raw: bytes | None = None) -> bytes:
    text = json.dumps(header).encode() if raw is None else raw
    return len(text).to_bytes(8, "little") + text + data


def check(content: bytes) -> None:
    check_safetensors(io.BytesIO(content), len(content))


def tensor(begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({}, b""),
        ({"__metadata__": {"format": "pt"}, "a": tensor(0, 8, "F32", [2, 1])}, bytes(8)),
        ({"b": tensor(3, 7), "a": tensor(0, 3)}, bytes(7)),
        ({"a": tensor(0, 2, "BF16", [])}, bytes(2)),
        ({"a": tensor(0, 0, "F64", [0, 9]), "b": tensor(0, 2)}, bytes(2)),
        ({"a": tensor(0, 3, "F4", [2, 3])}, bytes(3)),
    ],
)
def test_check__as_the_format_says__passes(header: dict[str, Any], data: bytes) -> None:
    check(file_of(header, data))


def test_check__header_padded_with_spaces__passes() -> None:
    check(file_of(None, raw=b"{}      "))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has 0 bytes"),
        (b"\x02\x00", "it has 2 bytes"),
        ((10**8 + 1).to_bytes(8, "little") + b"{}", "more than 100000000 are not allowed"),
        ((3).to_bytes(8, "little") + b"{}", "the whole file has 10"),
        (file_of(None, raw=b" {}"), "no JSON object"),
        (file_of(None, raw=b"[]"), "no JSON object"),
        (file_of(None, raw=b"{"), "it is not JSON"),
        (file_of(None, raw=b'{"a": 1, "a": 2}'), "a name occurs twice"),
        (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
        (file_of({"__metadata__": None}), "__metadata__"),
        (file_of({"a": 1}), "not just dtype, shape and data_offsets"),
        (file_of({"a": tensor(0, 1, "O8")}, b"x"), "unknown type 'O8'"),
        (file_of({"a": tensor(0, 1, "U8", [True])}, b"x"), "no shape"),
        (file_of({"a": tensor(0, 1, "U8", [1.0])}, b"x"), "no shape"),
        (file_of({"a": tensor(0, 1, "U8", [2**40, 2**40])}, b"x"), "larger than any file"),
        (file_of({"a": {**tensor(0, 1), "data_offsets": [0]}}, b"x"), "no two data_offsets"),
        (file_of({"a": {**tensor(0, 1), "data_offsets": [-1, 0]}}, b"x"), "no two data_offsets"),
        (file_of({"a": tensor(0, 1, "F4", [1])}, b"x"), "its shape and type make 0.5"),
        (file_of({"a": tensor(0, 2, "F32", [1])}, b"xx"), "has 2 bytes, its shape and type make 4"),
        (file_of({"a": tensor(1, 2)}, b"xx"), "does not begin where the header ends"),
        (file_of({"a": tensor(0, 1), "b": tensor(2, 3)}, b"xxx"), "'b' does not follow"),
        (file_of({"a": tensor(0, 2), "b": tensor(1, 3)}, b"xxx"), "'b' overlaps"),
        (file_of({"a": tensor(0, 2)}, b"x"), "its tensors have 2 bytes, behind the header lie 1"),
        (file_of({"a": tensor(0, 2)}, b"xxx"), "its tensors have 2 bytes, behind the header lie 3"),
        (file_of({}, b"PK"), "behind the header lie 2"),
    ],
)
def test_check__other_than_the_format_says__refused_saying_what(content: bytes, words: str) -> None:
    with pytest.raises(NotThat) as caught:
        check(content)
    assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        JSON
        | st.fixed_dictionaries(
            {"dtype": st.sampled_from(["U8", "F32", 3]), "shape": JSON, "data_offsets": JSON}
        ),
    ),
    st.binary(max_size=9),
)
def test_check__any_header__passes_or_is_refused(header: dict[str, Any], data: bytes) -> None:
    with contextlib.suppress(NotThat):
        check(file_of(header, data))
