"""One look at a workload: its records, its program and its engine, and the status they add up to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx

from controlplane.kernel.clock import ClockReading
from rollouts.adapters.backends import at_address
from rollouts.adapters.clusters.answers import LastAnswers
from rollouts.adapters.clusters.engines import HOST, EngineTemplate, engines_in_force
from rollouts.adapters.clusters.folder import PROGRAM_PREFIX, Drain, EngineFailure, EngineFolder, Launch, Runs
from rollouts.adapters.clusters.probe import Health, ask_health, ask_in_flight
from rollouts.adapters.clusters.supervisord import ALIVE_STATES, ProgramInfo
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.ports import WorkloadStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """A workload as it stands on disk and as it answered. `health` is asked of an engine that should serve,
    `in_flight` of one that drains."""

    launch: Launch
    template: EngineTemplate | None
    runs: Runs | None
    warmed: float | None
    failure: EngineFailure | None
    drain: Drain | None
    program: ProgramInfo | None
    health: Health = Health.CLOSED
    in_flight: int | None = None

    @property
    def variant(self) -> str:
        return self.launch.spec.variant

    @property
    def program_name(self) -> str:
        return PROGRAM_PREFIX + self.variant

    @property
    def process(self) -> Runs | None:
        """The engine's process, when it lives."""
        if self.runs is None or self.program is None or self.program.state not in ALIVE_STATES:
            return None
        return self.runs if self.runs.pid == self.program.pid else None

    @property
    def is_warm(self) -> bool:
        """Whether this very process has answered its warm-up."""
        return self.process is not None and self.warmed == self.process.started_at


class Asking:
    """Asks engines; one that hangs answers as it did last."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._health: LastAnswers[Health] = LastAnswers()
        self._in_flight: LastAnswers[int | None] = LastAnswers()

    def health(self, process: Runs, template: EngineTemplate, port: int) -> Health:
        key = (process.pid, process.started_at)
        return self._health.of(key, lambda: ask_health(self._http, template, port))

    def in_flight(self, process: Runs, template: EngineTemplate, port: int) -> int | None:
        key = (process.pid, process.started_at)
        return self._in_flight.of(key, lambda: ask_in_flight(self._http, template, port))


def look(
    folder: EngineFolder, asking: Asking, variant: str, programs: Mapping[str, ProgramInfo]
) -> Sight | Exception | None:
    """One workload; the exception when its records cannot be read; None when it has gone. Never raises."""
    try:
        launch = folder.launch(variant)
        if launch is None:
            return None
        template = engines_in_force(folder.run_dir).get(launch.spec.engine)
        sight = Sight(
            launch=launch,
            template=template,
            runs=folder.runs(variant),
            warmed=folder.warmed(variant),
            failure=folder.failure(variant),
            drain=folder.drain(variant),
            program=programs.get(PROGRAM_PREFIX + variant),
        )
        process = sight.process
        if process is None or sight.failure is not None or template is None:
            return sight
        if sight.drain is not None:
            return replace(sight, in_flight=asking.in_flight(process, template, launch.port))
        return replace(sight, health=asking.health(process, template, launch.port))
    except Exception as error:  # the boundary of one workload: what is odd about it must not stop the others
        log.exception("cluster.look_failed variant=%s", variant)
        return error


def look_again(folder: EngineFolder, sight: Sight) -> Sight | None:
    """The same with the records as they are now; None when it has gone or was launched anew meanwhile."""
    launch = folder.launch(sight.variant)
    if launch is None or launch.requested_at != sight.launch.requested_at:
        return None
    return replace(sight, failure=folder.failure(sight.variant), drain=folder.drain(sight.variant))


def status_of(sight: Sight, now: ClockReading) -> WorkloadStatus:
    process = sight.process
    phase, message = _phase(sight, now)
    return WorkloadStatus(
        variant=sight.variant,
        phase=phase,
        backend=at_address(sight.variant, HOST, sight.launch.port),
        ready=1 if phase is WorkloadPhase.READY else 0,
        desired=1,
        restarts=sight.runs.restarts if sight.runs else 0,
        started_at=process.started_at if process else None,
        reason=sight.failure.reason if sight.failure else FailureReason.NONE,
        message=message,
        in_flight=sight.in_flight,
    )


def unreadable(variant: str, error: Exception) -> WorkloadStatus:
    return WorkloadStatus(
        variant, WorkloadPhase.FAILED, desired=1, message=f"Its records cannot be read: {error}."
    )


def _phase(sight: Sight, now: ClockReading) -> tuple[WorkloadPhase, str]:
    if sight.failure is not None:
        return WorkloadPhase.FAILED, sight.failure.message
    if sight.drain is not None:
        return WorkloadPhase.DRAINING, _draining(sight, sight.drain, now)
    if sight.is_warm and sight.health is Health.GOOD:
        return WorkloadPhase.READY, ""
    if sight.process is None:
        doing = "The process starts."
    elif sight.is_warm:
        doing = f"The engine does not answer as healthy ({sight.health.value})."
    elif sight.health is Health.GOOD:
        doing = "The engine is up and answers its first completion."
    else:
        waited = sight.process.seconds(now)
        doing = f"The engine loads for {waited:.0f} s, at most {sight.launch.spec.start_seconds:g} s."
    return (WorkloadPhase.STARTING if sight.warmed is None else WorkloadPhase.UNREADY), doing


def _draining(sight: Sight, drain: Drain, now: ClockReading) -> str:
    if drain.stopping:
        return "Stopping."
    inside = "An unknown number of" if sight.in_flight is None else str(sight.in_flight)
    return f"{inside} requests inside; it stops in {max(0.0, drain.left(now)):.0f} s at the latest."
