"""Numbers that gates with a fixed limit ask for: one series of an arm, and when its sample was scraped.

`timestamp()` says so of a plain selector. Of any other expression it says the moment that was asked for: Prometheus
alone then decides what is fresh. It forgets a series when its process cannot be scraped or no longer has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import number_of
from rollouts.adapters.signals.exposition import Sample
from rollouts.domain.record.numbers import LARGEST_NUMBER, NumberReading

VALUE, AT = "value", "at"
SAID = "What Prometheus says"


def expressions_of(query: str) -> dict[str, str]:
    """What is asked for one number. The query stands on lines of its own: it may end in a comment."""
    return {VALUE: query, AT: f"timestamp(\n{query}\n)"}


def number_in(
    series: Mapping[str, Sequence[Sample]], variant: str, *, now: float, stale_seconds: float
) -> NumberReading | str:
    """The number of an arm, or why there is none.

    series  the samples of both expressions
    now     by the server's clock
    """
    found, times = series[VALUE], series[AT]
    if not found or not times:
        return f"its query has no fresh series of {variant}"
    if len(found) > 1 or len(times) > 1:
        return (
            f"its query has {max(len(found), len(times)):,} series of {variant}, and one is due: "
            "take their max(), min() or avg()"
        )
    try:
        value = number_of(found[0].value, SAID, "its number", least=-LARGEST_NUMBER, most=LARGEST_NUMBER)
        at = number_of(times[0].value, SAID, "its time", least=0.0)
    except InvalidInput:
        return f"its query is {found[0].value:g} for {variant}, which is no number to compare"
    age = now - at
    if age > stale_seconds:
        return f"the newest sample of its query is {age:.0f} s old for {variant}"
    return NumberReading(value, at)
