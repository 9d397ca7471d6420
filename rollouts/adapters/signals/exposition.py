"""Reads the Prometheus text format, as far as Envoy and vLLM write it.

Source: prometheus.io/docs/instrumenting/exposition_formats. The client library's own parser is twenty times
slower, and this runs once an interval for every endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import INT64, ODD_ANSWER, number_of, words_of

ROUNDING = 1e-9  # a gauge that is added to and taken from may end a little below 0
_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? +(\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: `name{labels} value`. The value may be NaN or infinite: `amount` and `count` refuse those."""

    name: str
    labels: Mapping[str, str]
    value: float

    @property
    def amount(self) -> float:
        """The value of a gauge: finite, not below 0. Raises InvalidInput."""
        found = number_of(self.value, "The metrics", words_of(self.name, 100), least=-ROUNDING)
        return max(0.0, found)

    @property
    def count(self) -> int:
        """The value of a counter: a whole number from 0 to 2^63 - 1. Raises InvalidInput."""
        amount = self.amount
        if not amount.is_integer() or amount > INT64:
            raise odd_metric(f"{words_of(self.name, 100)} is {amount!r}, which is no count")
        return int(amount)


def odd_metric(what: str) -> InvalidInput:
    return InvalidInput(f"The metrics cannot be understood: {what}.", code=ODD_ANSWER)


def samples(text: str) -> Iterator[Sample]:
    """The samples in their order; comments and what is no sample are left out."""
    for line in text.split(
        "\n"
    ):  # and nothing else ends a line: a label may hold what `splitlines` takes for an end
        match = _LINE.match(line)
        if match is None:
            continue
        name, labels, value = match.groups()
        try:
            number = number_of(value, "The metrics", name, finite=False)
        except InvalidInput:
            continue
        yield Sample(name, {key: _plain(raw) for key, raw in _LABEL.findall(labels or "")}, number)


def _plain(raw: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m.group(1) == "n" else m.group(1), raw) if "\\" in raw else raw
