"""What was stored is read back without today's checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pytest

from controlplane.kernel.stored import as_stored, flat


@dataclass(frozen=True, slots=True)
class Limit:
    most: int
    unit: str = "requests"
    names: tuple[str, ...] = field(default_factory=tuple)
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.most > 10:
            raise ValueError("too many")


def test_as_stored__value_that_is_refused_today__is_read() -> None:
    assert as_stored(Limit, {"most": 50}).most == 50
    with pytest.raises(ValueError, match="too many"):
        Limit(50)


def test_as_stored__field_that_came_later__has_its_default() -> None:
    made = as_stored(Limit, {"most": 3})
    assert (made.unit, made.names, made.seen) == ("requests", (), {})
    assert made == Limit(3)


def test_as_stored__field_that_is_gone__is_left_out() -> None:
    assert as_stored(Limit, {"most": 3, "colour": "red"}) == Limit(3)


def test_as_stored__field_without_default__is_named() -> None:
    with pytest.raises(KeyError, match="most"):
        as_stored(Limit, {"unit": "seconds"})


def test_as_stored__default_that_can_change__is_another_one_each_time() -> None:
    assert as_stored(Limit, {"most": 3}).seen is not as_stored(Limit, {"most": 3}).seen


def test_flat__plain_values__by_name_as_asdict_has_them() -> None:
    assert flat(Limit(3, "rows")) == asdict(Limit(3, "rows"))
