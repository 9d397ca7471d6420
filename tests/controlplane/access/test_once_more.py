"""A service that the database broke off is done again, once, and only where nothing else is lost with it."""

from __future__ import annotations

import pytest
from django.db import OperationalError, transaction

from controlplane.access.once_more import once_more

pytestmark = pytest.mark.django_db(transaction=True)


class Broken(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


class Call:
    """Fails so many times with this code, then answers how often it was called."""

    def __init__(self, times: int, sqlstate: str = "40P01") -> None:
        self.calls, self._times, self._sqlstate = 0, times, sqlstate

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            raise OperationalError("broken off") from Broken(self._sqlstate)
        return self.calls


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_call__broken_off_once__is_made_again(sqlstate: str) -> None:
    assert once_more(Call(1, sqlstate)) == 2


def test_call__broken_off_twice__is_told() -> None:
    call = Call(2)
    with pytest.raises(OperationalError):
        once_more(call)
    assert call.calls == 2


def test_call__that_fails_otherwise__is_not_made_again() -> None:
    call = Call(1, "53100")
    with pytest.raises(OperationalError):
        once_more(call)
    assert call.calls == 1


def test_call__inside_a_transaction__is_not_made_again() -> None:
    call = Call(1)
    with pytest.raises(OperationalError), transaction.atomic():
        once_more(call)
    assert call.calls == 1
