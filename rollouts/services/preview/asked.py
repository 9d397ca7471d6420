"""The checks of a dry run that ask the endpoint's cluster and its counters. None of them refuses a start. What cannot
be asked in time, or not at all, is said as that and never as a pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar

from controlplane.kernel.errors import HeadgateError, NotFound, Unavailable
from registry.models import Version
from registry.services.files import read_small_file
from rollouts.domain.capacity.findings import CapacityFinding, Room, not_asked
from rollouts.domain.capacity.model_shape import CONFIG, LARGEST_CONFIG
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.readiness import (
    CountedVariant,
    counter_checks,
    counters_unreadable,
    kinds_missing,
    kinds_read,
    readiness_checks,
    unreadable,
)
from rollouts.domain.record.readings import CountedKind, SignalReading
from rollouts.domain.strategies.dry_run import Check
from rollouts.domain.traffic import MeasuredTraffic
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, Workload
from rollouts.ports import Backend, CounterQuestion, PlannedLaunches, SignalSource
from rollouts.services.workload_specs import workload_spec
from rollouts.services.world import World, Worlds

CODES = {Room.TIGHT: "tight-room", Room.SHORT: "little-room", Room.UNKNOWN: "room-unknown"}
CONFIG_SECONDS = 3.0  # for a config.json that does not lie on this machine
SIGNALS_SECONDS = 4.0  # for one reading of the counters
MOST_OPEN = 8  # readings that are still waited for: whoever types goes on asking while a source hangs

Answer = TypeVar("Answer")

_lock = threading.Lock()
_open: list[threading.Thread] = []


# --- room -------------------------------------------------------------------------------------------------------------


def capacity_checks(
    endpoint: Endpoint,
    candidates: Mapping[str, Version],
    running: Collection[str],
    spec: ServingSpec,
    worlds: Worlds,
) -> list[Check]:
    """Whether the cluster has room for all new engines at once.

    candidates  versions by the names of their variants; one without a manifest is left out, and refused by another
                check
    running     those of them that run already
    """
    try:
        world = worlds.of(endpoint.cluster.name)
    except Unavailable:
        return []  # said by another check
    specs = tuple(
        workload_spec(
            variant=name, endpoint=endpoint.name, source=version.source, manifest=manifest, spec=spec
        )
        for name, version in candidates.items()
        if name not in running and (manifest := version.manifest_value) is not None
    )
    if not specs:
        return []
    previous = endpoint.previous  # warm since the last promotion; the start ends it unless it takes part
    planned = PlannedLaunches(
        specs=specs,
        config=partial(_config, candidates, world),
        ending=() if previous is None or previous.name in candidates else (previous.name,),
        baseline=endpoint.stable.name if endpoint.stable is not None else "",
    )
    try:
        return [_check(finding) for finding in world.cluster.capacity(planned)]
    except Unavailable as error:
        return [_check(not_asked(error))]


def _config(versions: Mapping[str, Version], world: World, variant: str) -> bytes:
    version = versions.get(variant)
    if version is None:
        raise NotFound(f"{variant} is none of the variants that would be launched.")
    return read_small_file(
        version=version,
        path=CONFIG,
        store=world.store,
        models_dir=world.models_dir,
        most_bytes=LARGEST_CONFIG,
        seconds=CONFIG_SECONDS,
    )


def _check(finding: CapacityFinding) -> Check:
    state = "ok" if finding.room is Room.ENOUGH else "warning"
    return Check(state, finding.title, finding.detail, finding.fix, code=CODES.get(finding.room, ""))


# --- signals ----------------------------------------------------------------------------------------------------------


def signal_checks(
    endpoint: Endpoint,
    policy: GatePolicy,
    traffic: MeasuredTraffic,
    baseline: Workload | None,
    worlds: Worlds,
    now: datetime,
) -> list[Check]:
    """Whether what the policy's gates read is counted for the variant that serves: one reading, and one of what they
    ask for by expressions of their own.

    baseline  its workload; None, or one that is not reached yet: nothing to ask, and refused by another check
    """
    stable = endpoint.stable
    if stable is None or baseline is None or not baseline.backend:
        return []
    try:
        signals = worlds.of(endpoint.cluster.name).signals
    except Unavailable:
        return []  # said by another check
    backend = Backend(stable.name, **baseline.backend)
    checks: list[Check] = []
    if kinds_read(policy):
        look = partial(
            _look, signals, endpoint.name, backend, policy, traffic.per_second * 60, now.timestamp()
        )
        try:
            checks += _within(SIGNALS_SECONDS, look)
        except HeadgateError as error:
            return [*unreadable(policy, error), *counters_unreadable(policy, error)]
    if any(gate.asks is not None for gate in policy.gates):
        try:
            checks += _within(
                SIGNALS_SECONDS,
                partial(_look_at_counters, signals, endpoint.name, backend, policy, now.timestamp()),
            )
        except HeadgateError as error:
            checks += counters_unreadable(policy, error)
    return checks


def _look(
    signals: SignalSource, endpoint: str, backend: Backend, policy: GatePolicy, per_minute: float, at: float
) -> tuple[Check, ...]:
    reading = signals.read_all({endpoint: [backend]})[endpoint]
    if not isinstance(reading, SignalReading):
        raise reading
    seen = CountedVariant(backend.variant, reading, at, per_minute)
    missing = kinds_missing(policy, seen)
    queries: dict[CountedKind, str] = dict(signals.queries(endpoint, backend)) if missing else {}
    return readiness_checks(policy, seen, missing, queries)


def _look_at_counters(
    signals: SignalSource, endpoint: str, backend: Backend, policy: GatePolicy, at: float
) -> tuple[Check, ...]:
    asked = dict.fromkeys(gate.asks for gate in policy.gates if gate.asks is not None)
    answers = signals.read_counters([CounterQuestion(endpoint, backend, asks) for asks in asked])
    said = {question.asks: answer for question, answer in answers.items()}
    return counter_checks(policy, backend.variant, said, at=at)


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers, in a thread of its own: however long its source hangs, the page does not. Raises what it
    raises, and Unavailable when it takes longer, or when too many such questions are open."""
    found, failed = list[Answer](), list[Exception]()

    def work() -> None:
        try:
            found.append(ask())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    with _lock:
        _open[:] = [one for one in _open if one.is_alive()]
        if len(_open) >= MOST_OPEN:
            raise Unavailable(
                "The counters are asked already, by others who wait for them.", fix="Look again in a moment."
            )
        thread.start()
        _open.append(thread)
    thread.join(seconds)
    if failed:
        raise failed[0]
    if found:
        return found[0]
    raise Unavailable(
        f"The counters were not read within {seconds:g} s.", fix="See whether what counts them answers."
    )
