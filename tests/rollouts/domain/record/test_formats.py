"""Evidence has a format with a number: every known one is read, what a newer version wrote is refused by name."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from controlplane.kernel.digests import canonical_json
from rollouts.domain.record.formats import (
    EARLIER,
    FIRST,
    FORMAT,
    UnknownFormat,
    is_known,
    require_known,
    situation_of_today,
)
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow, TamperedEvidence, unpack_rows

NEWER = FORMAT + 1


def row(**situation: Any) -> dict[str, Any]:
    return {
        "index": 4,
        "ended_at": 1.0,
        "interval": {"index": 4},
        "situation": {"now": 1.0, **situation},
        "verdicts": {},
        "decision": {},
        "digest": "sha256:0",
    }


def test_earlier__formats__has_each_of_them_and_none_else() -> None:
    assert sorted(EARLIER) == list(range(FIRST, FORMAT))


@pytest.mark.parametrize("number", [None, 1, FORMAT, str(FORMAT)])
def test_known__number_as_stored_or_as_a_database_gives_it__is_known(number: object) -> None:
    assert is_known(number)


@pytest.mark.parametrize("number", [NEWER, str(NEWER), 0, -1, True, "two", 1.5, "9" * 5_000, {}, "²"])
def test_known__newer_or_no_number_at_all__is_not(number: object) -> None:
    assert not is_known(number)


def test_require__no_number__means_the_first() -> None:
    assert require_known(None, row="interval 1") == FIRST


def test_require__newer__says_what_where_and_how_to_fix_it() -> None:
    with pytest.raises(UnknownFormat) as caught:
        require_known(NEWER, row="interval 17")
    assert str(caught.value) == (
        f"Interval 17 was written in format {NEWER} of the evidence; this version of Headgate reads the formats up to "
        f"{FORMAT}. Run the version of Headgate that wrote it, or a newer one."
    )
    assert caught.value.code == "evidence-too-new"


def test_situation__of_today__is_the_same_object_and_of_a_newer_version_refused() -> None:
    today = {"format": FORMAT, "now": 1.0}
    assert situation_of_today(today) is today
    with pytest.raises(UnknownFormat):
        situation_of_today({"format": NEWER})


def test_row__newer__is_refused_before_the_rest_of_it_is_read() -> None:
    """A newer version may have parts that this one does not know."""
    with pytest.raises(UnknownFormat, match="Interval 4"):
        RecordedRow.from_json(row(format=NEWER) | {"something": "new"})


def test_row__without_a_situation__is_of_the_first_format() -> None:
    assert RecordedRow.from_json(row() | {"situation": {}}).index == 4


def test_decision__newer__is_refused_by_its_number() -> None:
    made = {"number": 2, "after": 5, "situation": {"format": NEWER}, "decision": {}, "digest": ""}
    with pytest.raises(UnknownFormat, match="Decision 2"):
        RecordedDecision.from_json(made)


def packed(*rows: object) -> bytes:
    return zlib.compress(b"\n".join(canonical_json(one) for one in rows))


def test_pack__with_a_newer_row__is_no_tampered_one() -> None:
    with pytest.raises(UnknownFormat, match="Interval 4"):
        unpack_rows(packed(row(format=NEWER) | {"something": "new"}), first=4, last=4)


@pytest.mark.parametrize(
    "broken", [{}, [], {"situation": None, "index": 4}, {"situation": {}, "index": 4}, 7]
)
def test_pack__whose_row_is_none__is_a_tampered_one(broken: object) -> None:
    with pytest.raises(TamperedEvidence, match="interval 4"):
        unpack_rows(packed(broken), first=4, last=4)


def test_pack__of_known_rows__comes_out_as_it_went_in() -> None:
    (found,) = unpack_rows(packed(row(format=FORMAT)), first=4, last=4)
    assert json.loads(canonical_json(found.to_json())) == row(format=FORMAT)
