"""After an outage of the baseline a bad candidate is found about as fast as at the start."""

from __future__ import annotations

import pytest

from rollouts.domain.gates.family import GatesState
from tests.rollouts.domain.gates.helpers import ERRORS, arm, feed, interval, policy


def seconds_to_fail(state: GatesState, errors: int) -> float:
    """With so many errors of the candidate's 100 requests every 10 s, against one of the baseline's."""
    for number in range(60):
        state = state.update(interval(state.last_index + 1, baseline=arm(100, 1), candidate=arm(100, errors)))
        if state.crossed is not None:
            return (number + 1) * 10.0
    raise AssertionError("never found")


@pytest.mark.parametrize("errors", [5, 20])
def test_baseline_rate__of_an_outage__is_not_learned_so_the_search_goes_on_as_before(errors: int) -> None:
    begun = GatesState.initial(policy(ERRORS, baseline_outage_share=0.2))
    outage = feed(begun, 10, baseline=arm(100, 100), candidate=arm(100, errors))
    assert outage.outage is not None
    assert seconds_to_fail(outage, errors) <= 2 * seconds_to_fail(begun, errors) + 20
