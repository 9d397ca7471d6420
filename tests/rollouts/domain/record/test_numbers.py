"""What is kept of a team's own number: exact, or why there is none, and never a zero instead."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.record.intervals import ArmCounts
from rollouts.domain.record.numbers import LARGEST_NUMBER, NumberQuery, NumberReading
from rollouts.domain.record.recorded import thin_rows

finite = st.floats(-LARGEST_NUMBER, LARGEST_NUMBER)


@given(finite, st.floats(0, 4e9))
def test_reading__as_json_and_back__is_the_same(value: float, at: float) -> None:
    one = NumberReading(value, at)
    assert NumberReading.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_reading__without_a_number__keeps_why_and_no_number() -> None:
    one = NumberReading(why="absent")
    assert one.to_json() == {"why": "absent"}
    assert NumberReading.from_json({"why": "absent"}) == one


def test_digest__of_another_expression__is_another() -> None:
    assert NumberQuery("a").digest != NumberQuery("b").digest
    assert NumberQuery("a").digest == NumberQuery("a").digest


def test_arm__without_numbers__keeps_the_bytes_that_it_had_before_there_were_any() -> None:
    assert "numbers" not in ArmCounts(1, 0, 1, 1.0).to_json()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([70.0, 91.0, 80.0], {"d": {"least": 70.0, "most": 91.0}}),
        ([70.0, None, 91.0], {"d": {"least": 70.0, "most": 91.0}}),
        ([None, None, None], None),
    ],
)
def test_thin__of_several_intervals__is_the_span_of_what_was_read(
    said: list[float | None], kept: dict[str, dict[str, float]] | None
) -> None:
    intervals = []
    for index in range(600):
        value = said[index % 3]
        read = NumberReading(why="absent") if value is None else NumberReading(value, float(index))
        arm = ArmCounts(1, 0, 1, 1.0, numbers={"d": read}).to_json()
        intervals.append(
            {
                "index": index, "started_at": 5.0 * index, "seconds": 5.0, "share_bp": 5_000, "pairs": {},
                "missing": {}, "broken": {}, "arms": {"candidate": arm},
            }
        )  # fmt: skip
    row = thin_rows(intervals, edges={})[3]["arms"]["candidate"]
    assert row.get("numbers") == kept
    if kept:
        assert ArmCounts.from_json(row).numbers["d"].why == "several readings were taken together"
