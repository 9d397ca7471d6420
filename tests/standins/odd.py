"""Odd answers: a right one with something wrong in it, made by Hypothesis; and what may come of reading one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from controlplane.kernel.errors import HeadgateError

T = TypeVar("T")
Path = tuple[str | int, ...]

# JSON that Python cannot be made to write, by the text that stands for it.
LONG_NUMBER, DEEP = "@@a number of 5,000 digits@@", "@@nested@@"
UNWRITABLE = {f'"{LONG_NUMBER}"': "1" * 5000, f'"{DEEP}"': "[" * 20_000 + "]" * 20_000}
NUL, SURROGATE, LONG_TEXT = "a\x00b", "\ud800", "x" * 300_000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3.5, 2**31, 2**63, -(2**70), 10**40, 1e308, math.nan, math.inf, -math.inf),
    *("", "seven", "1_000", "١٢", NUL, SURROGATE, LONG_TEXT, "\u202e", "../..", "http://[", "'\""),
    *([], [None], [[]], ["x"], {}, {"a": None}, LONG_NUMBER, DEEP),
)
BODIES = (
    *(
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b"\xff\xfe\x00",
        b"<html>It works</html>",
        b"{}",
        b'{"a": 1e999}',
    ),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}", b"9" * 5000),
)


def odd_values(right: Any) -> st.SearchStrategy[Any]:
    """The right value with one or two places dropped, replaced, or put into a list."""
    return st.lists(_change(right), min_size=1, max_size=2).map(lambda changes: _changed(right, changes))


def odd_bodies(right: Any) -> st.SearchStrategy[bytes]:
    """Bodies of JSON that differ from the right one, among them some that are none."""
    spoilt = st.tuples(
        st.integers(0, len(written(right))), st.sampled_from([b"\xff", b"\x00", b"\xed\xa0\x80", b"}"])
    )
    return st.one_of(
        odd_values(right).map(written),
        spoilt.map(lambda at: written(right)[: at[0]] + at[1] + written(right)[at[0] :]),
        one_of_long(BODIES),
    )


def one_of_long(values: Sequence[T]) -> st.SearchStrategy[T]:
    """One of them, drawn by its place. Hypothesis writes a strategy out when it has something to say of a test, and
    takes it for a fault when that is as long as these."""
    return st.integers(0, len(values) - 1).map(lambda place: values[place])


def written(value: Any) -> bytes:
    text = json.dumps(value)
    for stands, instead in UNWRITABLE.items():
        text = text.replace(stands, instead)
    return text.encode()


NAMES = ('cluster="assigned/chat/v\x00"', 'cluster="assigned/chat/\ud800"', 'finished_reason="a\x00"')


def odd_metrics(right: str) -> st.SearchStrategy[bytes]:
    """Prometheus text that differs from the right one in a value, a label or a line."""
    lines = right.splitlines()
    number = st.sampled_from(
        [
            "NaN",
            "+Inf",
            "-1",
            "1e308",
            "-0.5",
            "0.5",
            "abc",
            "1_0",
            "١",
            "",
            "9" * 400,
            "2e63",
            "0x10",
            "1 2 3",
        ]
    )
    label = st.sampled_from(
        [
            'code="abc"',
            'code="9999"',
            'le="abc"',
            'le="NaN"',
            'le="-1"',
            'code=""',
            'x="\\',
            "x=",
            "}",
            *NAMES,
        ]
    )
    junk = one_of_long(
        ["{", "}" * 500, "\x00", "\ud800x", "x" * 200_000, "a{b=} 1", "\u2028" + lines[0], "# HELP"]
    )

    def value_of(at: int, text: str) -> list[str]:
        return [*lines[:at], f"{lines[at].rpartition(' ')[0]} {text}", *lines[at + 1 :]]

    def label_of(at: int, text: str) -> list[str]:
        line = lines[at]
        key = text.partition("=")[0] + '="'
        if key in line:
            before, _, rest = line.partition(key)
            return [*lines[:at], before + text + rest.partition('"')[2], *lines[at + 1 :]]
        return [*lines[:at], line.replace("{", "{" + text + ",", 1), *lines[at + 1 :]]

    place = st.integers(0, len(lines) - 1)
    changed = st.one_of(
        st.tuples(place, number).map(lambda change: value_of(*change)),
        st.tuples(place, label).map(lambda change: label_of(*change)),
        st.tuples(place, junk).map(lambda change: [*lines[: change[0]], change[1], *lines[change[0] :]]),
        place.map(lambda at: [*lines[:at], *lines[at + 1 :]]),
    )
    return changed.map(lambda found: "\n".join(found).encode(errors="surrogatepass"))


def outcome(call: Callable[[], T]) -> T | HeadgateError:
    """What a reader makes of an odd answer: a value, or an error that we raise on purpose. Nothing else may come out,
    and what does must be storable: no database takes NUL or half a character."""
    try:
        found = call()
    except HeadgateError as error:
        assert_storable(str(error))
        return error
    assert_storable(found)
    return found


def assert_storable(value: object) -> None:
    for text in _texts(value):
        assert "\x00" not in text, f"NUL in {text[:80]!r}"
        text.encode()  # raises for half a character
    for number in _numbers(value):
        assert math.isfinite(number), f"{number} is not finite"


def _texts(value: object) -> Iterator[str]:
    yield from (leaf for leaf in _leaves(value) if isinstance(leaf, str))


def _numbers(value: object) -> Iterator[float]:
    yield from (leaf for leaf in _leaves(value) if isinstance(leaf, int | float))


def _leaves(value: object) -> Iterator[object]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, item in entries:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _change(right: Any) -> st.SearchStrategy[tuple[Path, str, Any]]:
    places = st.sampled_from(list(_paths(right)))
    return st.one_of(
        st.tuples(places, st.just("drop"), st.none()),
        st.tuples(places, st.just("replace"), one_of_long(VALUES)),
        st.tuples(places, st.just("wrap"), st.none()),
        st.tuples(places, st.just("text"), st.none()),
    )


def _changed(right: Any, changes: list[tuple[Path, str, Any]]) -> Any:
    found = copy.deepcopy(right)
    for path, kind, value in changes:
        _apply(found, path, kind, value)
    return found


def _apply(found: Any, path: Path, kind: str, value: Any) -> None:
    *way, last = path
    for step in way:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return  # another change took it away
    try:
        if kind == "drop":
            del found[last]
        elif kind == "wrap":
            found[last] = [found[last]]
        elif kind == "text":
            found[last] = str(found[last])
        else:
            found[last] = copy.deepcopy(value)
    except (KeyError, IndexError, TypeError):
        return
