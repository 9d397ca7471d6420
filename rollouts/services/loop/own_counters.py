"""Counters and numbers that gates of rollouts ask for by expressions of their own: once an interval for every arm."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from controlplane.kernel.errors import HeadgateError
from controlplane.passes.words import error_words
from rollouts.domain.record.asked import AskedReading, CounterAnswer
from rollouts.domain.record.numbers import NumberQuery, NumberReading
from rollouts.domain.record.readings import SignalReading
from rollouts.ports import CounterQuestion
from rollouts.services.loop.backends import backends_of
from rollouts.services.loop.rows import Rows
from rollouts.services.world import World

log = logging.getLogger(__name__)

Readings = Mapping[str, SignalReading | str]


def with_own_counters(readings: Readings, rows: Sequence[Rows], world: World) -> Readings:
    """The readings, by endpoint, with what their rollouts' gates ask for. A source that could not be read is not asked
    again: it would only keep everybody waiting a second time."""
    asked = {
        one.endpoint.name: questions
        for one in rows
        if isinstance(readings.get(one.endpoint.name), SignalReading) and (questions := _questions(one))
    }
    if not asked:
        return readings
    every = [question for questions in asked.values() for question in questions]
    answers = _answers(every, world)
    found = dict(readings)
    for endpoint, questions in asked.items():
        reading = found[endpoint]
        assert isinstance(reading, SignalReading)
        said: dict[str, dict[str, AskedReading | str]] = defaultdict(dict)
        numbers: dict[str, dict[str, NumberReading]] = defaultdict(dict)
        for question in questions:
            answer = answers.get(question) or CounterAnswer(why="the source of the signals gave no answer")
            variant, digest = question.backend.variant, question.asks.digest
            if isinstance(question.asks, NumberQuery):
                why = answer.why or "the source of the signals gave no number"
                numbers[variant][digest] = answer.number or NumberReading(why=why)
            else:
                said[variant][digest] = answer.reading or answer.why
        found[endpoint] = replace(reading, asked=dict(said), numbers=dict(numbers))
    return found


def _questions(one: Rows) -> list[CounterQuestion]:
    """Of a rollout that has traffic: all that its gates ask for, of every arm that is reached."""
    rollout = one.rollout
    if rollout is None or rollout.step_index < 0:
        return []
    try:
        gates = rollout.policy.gates
    except Exception:  # a policy that cannot be read ends its own endpoint's turn, where it is measured
        log.exception("rollout.policy_unread rollout=%s", rollout.pk)
        return []
    asked = list(dict.fromkeys(gate.asks for gate in gates if gate.asks is not None))
    if not asked:
        return []
    arms = {arm.variant.name for arm in one.arms if arm.dropped_at is None}
    return [
        CounterQuestion(one.endpoint.name, backend, asks)
        for backend in backends_of(one.workloads)
        if backend.variant in arms
        for asks in asked
    ]


def _answers(questions: Sequence[CounterQuestion], world: World) -> Mapping[CounterQuestion, CounterAnswer]:
    try:
        return world.signals.read_counters(questions)
    except HeadgateError as error:  # the port promises that there is none; a rollout must not depend on it
        log.error("signals.counters_failed %s", error)
        return {question: CounterAnswer(why=error_words(error)) for question in questions}
