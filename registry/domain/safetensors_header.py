"""The header of a safetensors file, read and checked with bounds. Pure.

A file is: 8 bytes little-endian, the length of the header; the header, a JSON object; the tensors' bytes. The rules
are the format's own (huggingface.co/docs/safetensors): offsets lie inside the file, one tensor begins where the one
before it ends, the last one ends with the file. So nothing can be hidden between tensors or behind them. What lies in
a tensor's own bytes is numbers to whoever reads the file as safetensors; it is not looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, BinaryIO

from registry.domain.texts import NotThat, parse_json

LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000  # the format's own limit, in bytes
LARGEST_COUNT = 2**64
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def check_safetensors(content: BinaryIO, size: int) -> None:
    """Returns when `content`, `size` bytes long, is whole and right; reads its header only.

    Raises NotThat with what is wrong, as the end of the sentence "It is no safetensors file: ...".
    """
    content.seek(0)
    start = content.read(LENGTH_BYTES)
    if len(start) < LENGTH_BYTES:
        raise NotThat(f"it has {size} bytes")
    length = int.from_bytes(start, "little")
    if length > LARGEST_HEADER:
        raise NotThat(f"its header would have {length} bytes, more than {LARGEST_HEADER} are not allowed")
    if LENGTH_BYTES + length > size:
        raise NotThat(f"its header would have {length} bytes, the whole file has {size}")
    header = content.read(length)
    if header[:1] != b"{":
        raise NotThat("its header is no JSON object")
    found = parse_json(header, unique_names=True)
    if not isinstance(found, dict):
        raise NotThat("its header is no JSON object")
    _check_metadata(found.pop("__metadata__", {}))
    spans = sorted(_span(name, tensor) for name, tensor in found.items())
    _check_spans(spans, size - LENGTH_BYTES - length)


def _check_metadata(value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise NotThat("its __metadata__ is no object of texts")


def _span(name: str, tensor: Any) -> tuple[int, int, str]:
    """Where a tensor begins and ends, and its name. Raises NotThat when its parts contradict each other."""
    shown = repr(name)[:80]
    if not isinstance(tensor, Mapping) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise NotThat(f"its tensor {shown} has not just dtype, shape and data_offsets")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise NotThat(f"its tensor {shown} has the unknown type {dtype!r:.40}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise NotThat(f"its tensor {shown} has no two data_offsets")
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise NotThat(f"its tensor {shown} has no shape")
    bits = BITS[dtype]
    for length in shape:
        bits *= length
        if bits >= LARGEST_COUNT:
            raise NotThat(f"its tensor {shown} is larger than any file")
    begin, end = offsets
    if bits % 8 or end - begin != bits // 8:
        raise NotThat(f"its tensor {shown} has {end - begin} bytes, its shape and type make {bits / 8:g}")
    return begin, end, name


def _check_spans(spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    if spans and spans[0][0] != 0:
        raise NotThat("its first tensor does not begin where the header ends")
    for before, after in pairwise(spans):
        if before[1] != after[0]:
            what = "overlaps" if before[1] > after[0] else "does not follow"
            raise NotThat(f"its tensor {after[2]!r:.80} {what} the one before it")
    ends = spans[-1][1] if spans else 0
    if ends != data_bytes:
        raise NotThat(f"its tensors have {ends} bytes, behind the header lie {data_bytes}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_COUNT
