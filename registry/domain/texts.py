"""Texts of a version's files, read with bounds: plain text, JSON, YAML, SentencePiece. Pure; nothing is built or run.

Each check returns or raises NotThat with what is wrong, for the end of a sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

LARGEST_TEXT = 64 * 1024 * 1024  # bytes; the largest tokenizers have half of it
LARGEST_YAML = 1024 * 1024
DEEPEST_YAML = 50  # the parser's time grows with the square of the depth
# A list of empty lists takes forty times its text in memory, so values are counted before they are made.
MOST_JSON_VALUES = 4_000_000
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
LARGEST_VOCABULARY = 32 * 1024 * 1024
MOST_PIECES = 2_000_000
# Possessive: what matched is not kept for another try, which would take gigabytes.
TIKTOKEN = re.compile(
    rb"(?:[A-Za-z0-9+/]++={0,2}+ [0-9]{1,9}+\r?+\n)*+(?:[A-Za-z0-9+/]++={0,2}+ [0-9]{1,9}+)?+"
)
YAML_CORE = "tag:yaml.org,2002:"
YAML_PLAIN_TAGS = frozenset(
    YAML_CORE + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "timestamp")
)
# Fields of SentencePiece's ModelProto (google/sentencepiece, sentencepiece_model.proto); from 200 on: extensions.
SENTENCEPIECE_FIELDS = frozenset({1, 2, 3, 4, 5})
SENTENCEPIECE_EXTENSIONS = 200
LENGTH_DELIMITED = 2  # a wire type of protocol buffers


class NotThat(Exception):
    """The content is not of the kind that was asked for; the message says why."""


def checked_text(data: bytes) -> str:
    """The text. Raises NotThat unless it is UTF-8 without control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotThat(f"it is not UTF-8 text (byte {error.start})") from error
    found = CONTROL.search(text)
    if found:
        raise NotThat(f"it holds the control character {ord(found.group()):#04x} (character {found.start()})")
    return text


def parse_json(data: bytes, *, unique_names: bool = False) -> Any:
    """The value. Raises NotThat for what is no JSON in UTF-8, too deep, or of too many values.

    With `unique_names` an object that holds a name twice is refused: readers differ in which one they take.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{", b":")) > MOST_JSON_VALUES:
        raise NotThat(f"it holds more than {MOST_JSON_VALUES} values")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique if unique_names else None)
    except UnicodeDecodeError as error:
        raise NotThat(f"it is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise NotThat(f"it is not JSON ({error.msg}, line {error.lineno})") from error
    except RecursionError as error:
        raise NotThat("it is not JSON that can be read (nested too deeply)") from error
    except ValueError as error:  # numbers of thousands of digits
        raise NotThat(f"it is not JSON that can be read ({error!s:.80})") from error


def keys_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name with its value, at any depth of a JSON value."""
    waiting = [value]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            yield from at.items()
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)


def check_yaml(data: bytes) -> None:
    """Raises NotThat unless it is YAML of plain values: a tag can ask a reader to make any object."""
    if len(data) > LARGEST_YAML:
        raise NotThat(f"it has {len(data)} bytes, more than {LARGEST_YAML} are not read")
    text = checked_text(data)
    depth = 0
    try:
        # Events only: nothing is constructed, and an alias stays an alias.
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:
                raise NotThat(f"its YAML is nested more than {DEEPEST_YAML} deep")
            tag = getattr(event, "tag", None)
            if tag and tag != "!" and tag not in YAML_PLAIN_TAGS:
                raise NotThat(f"its YAML asks for an object of the type {tag!r:.80}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        raise NotThat("it is not YAML" + (f" (line {place.line + 1})" if place else "")) from error


def check_vocabulary(data: bytes) -> None:
    """Raises NotThat unless it is a SentencePiece model or a tiktoken list (base64 and rank, a line each)."""
    if len(data) > LARGEST_VOCABULARY:
        raise NotThat(f"it has {len(data)} bytes, at most {LARGEST_VOCABULARY} are read")
    if data and TIKTOKEN.fullmatch(data):
        return
    place, pieces = 0, 0
    while place < len(data):
        tag, place = _varint(data, place)
        field, wire = tag >> 3, tag & 7
        if wire != LENGTH_DELIMITED or not (
            field in SENTENCEPIECE_FIELDS or field >= SENTENCEPIECE_EXTENSIONS
        ):
            raise NotThat("it is neither a SentencePiece model nor a tiktoken list")
        length, place = _varint(data, place)
        place += length
        pieces += field == 1
        if pieces > MOST_PIECES:
            raise NotThat(f"it has more than {MOST_PIECES} pieces")
    if place != len(data) or not pieces:
        raise NotThat("it is neither a SentencePiece model nor a tiktoken list")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A protocol buffer's number and the place behind it. Raises NotThat when it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise NotThat("it is neither a SentencePiece model nor a tiktoken list")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return made
