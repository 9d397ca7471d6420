from __future__ import annotations

import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.sealing.senders import Senders, checked_cluster, checked_senders

SETTING = "HEADGATE_REQUEST_SENDERS"
ONE, TWO, THREE = ("sentinel-" + letter * 32 for letter in "abc")


def test_cluster_of__token__is_of_its_cluster_and_a_cluster_may_have_two() -> None:
    senders = Senders.read(f"paris={ONE}, oslo={TWO},paris={THREE},")
    assert [senders.cluster_of(token) for token in (ONE, TWO, THREE)] == ["paris", "oslo", "paris"]


@pytest.mark.parametrize("token", ["", "sentinel", ONE[:-1], ONE + "a", ONE.upper(), "\ud800" * 40, "é" * 40])
def test_cluster_of__no_known_token__is_nobody(token: str) -> None:
    assert Senders.read(f"paris={ONE}").cluster_of(token) == ""


def test_cluster_of__no_senders__is_nobody() -> None:
    assert Senders.read("").cluster_of("") == ""


@pytest.mark.parametrize(
    "value",
    [
        "paris",
        "paris=",
        f"={ONE}",
        f"Paris={ONE}",
        f"../paris={ONE}",
        "paris=sentinel-short",
        f"paris={ONE} {TWO}",
        f"paris={'sentinel' * 30}",
        f"paris={ONE},oslo={ONE}",
    ],
)
def test_read__cannot_work__names_the_setting_and_no_token(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_senders(value, setting=SETTING)
    assert caught.value.field == SETTING
    assert SETTING in str(caught.value)
    assert "sentinel" not in str(caught.value)


def test_senders__shown__tell_no_token() -> None:
    assert "sentinel" not in repr(Senders.read(f"paris={ONE}"))


@pytest.mark.parametrize("name", ["", "Paris", "paris\n", "a/b", "..", "p" * 41])
def test_checked_cluster__no_name__is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        checked_cluster(name)
