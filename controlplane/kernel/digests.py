"""Content digests: canonical JSON and files, always SHA-256."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20
EXACT_BELOW = 1 << 53  # every whole number up to here is a float of its own
# What is written as it is.
PLAIN = frozenset({str, bool, type(None)})
SMALL = range(-EXACT_BELOW, EXACT_BELOW + 1)


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    A whole number is written without a fraction: databases do not keep the difference between 1e17 and
    100000000000000000 (PostgreSQL's jsonb stores numbers by value), and a digest must survive being stored. For the
    same reason a whole number beyond what a float holds exactly is written as the float nearest to it: 1e23 comes back
    as 10 ** 23, which is not the value of that float.
    Raises ValueError on NaN or infinity (they are not JSON) and TypeError on what JSON cannot hold.
    """
    return json.dumps(
        _by_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _by_value(value: Any) -> Any:
    kind = type(value)  # the exact kinds first: a row of evidence has hundreds of values
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        return {
            key: item if (of := type(item)) in PLAIN or (of is int and item in SMALL) else _by_value(item)
            for key, item in value.items()
        }
    if kind is list:
        return [
            item if (of := type(item)) in PLAIN or (of is int and item in SMALL) else _by_value(item)
            for item in value
        ]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and EXACT_BELOW < abs(value) <= sys.float_info.max:
        return int(float(value))
    if isinstance(value, Mapping):
        return {key: _by_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_by_value(item) for item in value]
    return value


def digest_of(value: Any) -> str:
    """`sha256:<hex>` of a JSON value's canonical bytes."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_of_file(path: Path, progress: Callable[[int], object] = lambda read: None) -> str:
    """Hex SHA-256 of a file, read in chunks; `progress` is called with the bytes of each. Raises OSError when it cannot
    be read."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
            progress(len(chunk))
    return hasher.hexdigest()
