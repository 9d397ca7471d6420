"""How the series of one arm become its reading."""

from __future__ import annotations

import pytest

from rollouts.adapters.signals.exposition import samples
from rollouts.adapters.signals.prometheus.counting import arm_of
from rollouts.adapters.signals.prometheus.templates import (
    ENVOY_GATEWAY,
    ISTIO,
    TEMPLATES,
    GatewayTemplate,
)
from rollouts.domain.record.readings import ArmReading

ARM = "envoy_cluster_upstream_"


def arm(text: str) -> ArmReading:
    return arm_of(samples(text), ENVOY_GATEWAY)


def test_arm__counters_written_down_while_a_refusal_ended__is_no_answer() -> None:
    found = arm(f'{ARM}rq_total 3\n{ARM}rq_active 0\n{ARM}rq{{envoy_response_code="429"}} 2\n')
    assert (found.answered, found.refused["rate"], found.arrived) == (0, 2, 2)


def test_arm__reset_that_became_a_503__is_blamed_once() -> None:
    broke = f"{ARM}cx_destroy_remote_with_active_rq 2\n"
    found = arm(f'{ARM}rq_total 2\n{ARM}rq{{envoy_response_code="503"}} 2\n{broke}')
    assert (found.failed, found.answered, found.arrived) == (2, 0, 2)


def test_arm__took_too_long__failed_and_was_not_left() -> None:
    broke = f"{ARM}cx_destroy_local_with_active_rq 2\n{ARM}rq_timeout 2\n"
    found = arm(f'{ARM}rq_total 2\n{ARM}rq{{envoy_response_code="504"}} 2\n{broke}')
    assert (found.failed, found.aborted, found.arrived) == (2, 0, 2)


def test_arm__nobody_to_send_to__arrived_and_failed() -> None:
    found = arm(f'{ARM}rq_total 0\n{ARM}cx_none_healthy 4\n{ARM}rq{{envoy_response_code="503"}} 4\n')
    assert (found.failed, found.arrived) == (4, 4)


def test_arm__retries__are_no_arrivals() -> None:
    found = arm(f'{ARM}rq_total 5\n{ARM}rq_retry 2\n{ARM}rq{{envoy_response_code="200"}} 3\n')
    assert (found.answered, found.arrived) == (3, 3)


HELD = "envoy_cluster_headgate_upstream_rq"


def test_arm__answers_that_went_by_the_script__are_held_and_the_others_are_not() -> None:
    seen = (
        f'{ARM}rq_total 9\n{ARM}rq{{envoy_response_code="200"}} 7\n{ARM}rq{{envoy_response_code="400"}} 2\n'
    )
    assert arm(seen).unheld == 7
    assert arm(f'{seen}{HELD}{{envoy_response_code="200"}} 5\n').unheld == 2


def test_arm__mark_of_an_answer_was_written_down_first__is_no_negative_count() -> None:
    seen = f'{ARM}rq_total 7\n{ARM}rq{{envoy_response_code="200"}} 7\n'
    assert arm(f'{seen}{HELD}{{envoy_response_code="200"}} 8\n').unheld == 0


def test_istio__any_answer__may_have_been_left_at_its_end() -> None:
    to = 'reporter="source",response_code="200"'
    text = f'istio_requests_total{{{to},response_flags="-"}} 5\nistio_requests_total{{{to},response_flags="DC"}} 2\n'
    found = arm_of(samples(text), ISTIO)
    assert (found.answered, found.aborted, found.unheld) == (5, 2, 7)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda one: one.name)
def test_template__every_class__has_counters_and_every_limit_is_said(template: GatewayTemplate) -> None:
    assert template.failed
    assert template.refused_request
    assert template.refused_rate
    assert template.abandoned
    assert template.unheld
    assert bool(template.answered) != bool(template.arrived and template.succeeded)
    assert template.untold
    assert list(template.edges) == sorted(template.edges)
