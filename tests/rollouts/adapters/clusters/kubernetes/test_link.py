"""When the connection to an API server is made anew."""

from __future__ import annotations

from kubernetes import client as official

from controlplane.kernel.errors import Refused
from rollouts.adapters.clusters.kubernetes.link import LOOK_SECONDS, Link


class Operator:
    """Who writes down what connections are made from, and looks at a clock."""

    def __init__(self) -> None:
        self.text: str | Refused = "first"
        self.reads = 0
        self.now = 100.0
        self.link = Link(official.ApiClient, self.state, steady=lambda: self.now)

    def state(self) -> str:
        self.reads += 1
        if isinstance(self.text, Refused):
            raise self.text
        return self.text

    def is_anew(self) -> bool:
        before = self.link.reached()
        self.link.look_again()
        return self.link.reached() is not before


def test_look_again__nothing_was_changed__keeps_the_connection() -> None:
    assert not Operator().is_anew()


def test_look_again__something_was_changed__connects_anew_and_asks_who_answers() -> None:
    operator = Operator()
    operator.link.note_uid(operator.link.reached(), "u1")
    operator.text = "second"
    assert operator.is_anew()
    assert operator.link.uid == ""


def test_look_again__cannot_be_read__keeps_the_connection() -> None:
    operator = Operator()
    operator.link.reached()
    operator.text = Refused("no such file")
    operator.link.look_again()
    operator.text = "first"
    assert not operator.is_anew()


def test_look_again__many_calls_fail__reads_once_until_its_time_is_over() -> None:
    operator = Operator()
    operator.link.reached()
    for _ in range(1000):
        operator.link.look_again()
    assert operator.reads == 2  # one when it was made
    operator.now += LOOK_SECONDS
    operator.text = "second"
    assert operator.is_anew()


def test_note_uid__over_a_connection_that_was_replaced__says_nothing_of_the_new_one() -> None:
    operator = Operator()
    before = operator.link.reached()
    operator.link.forget(before)
    operator.link.reached()
    operator.link.note_uid(before, "u1")
    assert operator.link.uid == ""
