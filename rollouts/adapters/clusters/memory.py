"""A cluster in memory: scripted time to ready, scripted failures, no processes. For tests of the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.kernel.clock import Clock
from controlplane.kernel.credentials import hide_in_lines
from controlplane.kernel.errors import (
    InvalidInput,
    NotFound,
    Refused,
    StaleWriter,
    TamperedFile,
    Unavailable,
)
from controlplane.sealing.keys import KeyRing
from registry.domain.manifest import Manifest
from rollouts.adapters.clusters.secrets import SecretStore, renewed_environment
from rollouts.domain.engine_options import EngineOptions, Option, OptionKind
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.limits import Limits
from rollouts.ports import OPENAI_API, EngineApi, EngineRoom, WorkloadSpec, WorkloadStatus

FIRST_PORT = 20_000
SOME_ARGUMENTS = (
    Option("max-model-len", OptionKind.INTEGER, "Longest request in tokens.", 1, 1_000_000),
    Option("enforce-eager", OptionKind.FLAG, "Computes without CUDA graphs."),
    Option("chat-template", OptionKind.FILE, "A file of the version.", choices=(".jinja",)),
)
SOME_VARIABLES = (
    Option("OMP_NUM_THREADS", OptionKind.INTEGER, "Threads.", 1, 64),
    Option("MODEL_LICENCE", OptionKind.SECRET, "What unlocks the model."),
)
SOME_LIMITS = Limits(
    resources=frozenset({"memory_mb"}),
    replicas=64,
    images=frozenset({"registry.example/vllm"}),
    accelerators=frozenset({"nvidia.com/gpu"}),
)
FETCHING = "it fetches its files"  # what a workload says meanwhile
# Two processes of one variant never share a start time, even when the clock stands still.
SMALLEST_TICK = 0.001


@dataclass(frozen=True, slots=True)
class _Workload:
    """`started_at` is what the clock showed; all other times are seconds of its monotonic clock."""

    spec: WorkloadSpec
    port: int
    started_at: float
    launched: float
    ready_at: float
    files_until: float | None = None
    compared: bool = False
    restarts: int = 0
    was_ready: bool = False
    failure: FailureReason = FailureReason.NONE
    message: str = ""
    in_flight: int = 0
    drain_until: float | None = None


class MemoryCluster:
    """Keeps the contract of `rollouts.ports.Cluster` without a process. Safe to call from several threads.

    ready_after    seconds of `clock` from launch to READY
    room           how many workloads fit; one more raises Refused. None: any number
    drain_seconds  after so many seconds a drain stops waiting for requests in flight
    verify         called with source and manifest before every launch; it raises TamperedFile to refuse
    fetch_seconds  it fetches a version's files by itself, which takes so long before every launch. None: it does not
    secrets        opens the secrets of specs

    `apis` are the engines that it knows and their calls; `allowed` what a spec may set of each, nothing when not named.
    `environments` are the variables that each variant was launched with, secrets among them; `memory` is what
    `engine_room` answers, `most` are its limits.
    Scripting: `fail` and `mend`, `kill`, `set_in_flight`; while `outage` is set, all calls raise Unavailable.
    """

    def __init__(
        self,
        clock: Clock,
        ready_after: float = 0.0,
        *,
        room: int | None = None,
        drain_seconds: float = 120.0,
        verify: Callable[[str, Manifest], None] | None = None,
        fetch_seconds: float | None = None,
        secrets: SecretStore | None = None,
    ) -> None:
        self.ready_after = ready_after
        self.room = room
        self.drain_seconds = drain_seconds
        self.fetch_seconds = fetch_seconds
        self.memory: EngineRoom | None = None
        self.most = SOME_LIMITS
        self.outage = ""
        self.apis: dict[str, EngineApi] = {"vllm": OPENAI_API}
        self.allowed: dict[str, EngineOptions] = {
            "vllm": EngineOptions("vllm", SOME_ARGUMENTS, SOME_VARIABLES)
        }
        self.environments: dict[str, dict[str, str]] = {}
        self._clock = clock
        self._verify = verify
        self._secrets = secrets or SecretStore(Path("/nonexistent"), lambda: KeyRing(()))
        self._lock = threading.RLock()
        self._workloads: dict[str, _Workload] = {}
        self._faults: dict[str, tuple[FailureReason, str]] = {}
        self._tokens: dict[str, int] = {}
        self._logs: dict[str, list[str]] = {}
        self._launches = 0

    # --- the contract -----------------------------------------------------------------------------

    def ensure(self, spec: WorkloadSpec, *, token: int) -> None:
        with self._lock:
            self._reach()
            self.most.check(
                resources=(), replicas=spec.replicas, image=spec.image, accelerators=spec.accelerators
            )
            files = {entry.path for entry in spec.manifest.entries}
            chosen = self.options(spec.engine).choose(spec.arguments, spec.environment, files=files)
            variables = {**chosen.variables, **self._secrets.open_all(chosen.secrets)}
            self._check_token(spec.endpoint, token)
            self._advance()
            found = self._workloads.get(spec.variant)
            if found is not None and found.failure is FailureReason.NONE:
                if found.drain_until is not None:
                    self._workloads[spec.variant] = replace(found, drain_until=None)
                return
            if self._verify is not None and not self.fetches_files():
                self._verify(spec.source, spec.manifest)
            if self.room is not None and len(self._workloads) - (found is not None) >= self.room:
                raise Refused(
                    f"There is no room for {spec.variant}: all {self.room} places are taken.",
                    fix="Wait until another variant is drained, or make more room.",
                    code="no-room",
                )
            self._launch(spec, found)
            self.environments[spec.variant] = variables

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        with self._lock:
            self._reach()
            self._check_token(endpoint, token)
            self._advance()
            found = self._workloads.get(variant)
            if found is None or found.drain_until is not None:
                return
            if found.failure is not FailureReason.NONE:
                del self._workloads[variant]
                return
            self._workloads[variant] = replace(found, drain_until=self._now() + self.drain_seconds)

    def claim(self, endpoint: str, *, token: int) -> int:
        with self._lock:
            self._reach()
            self._tokens[endpoint] = max(token, self._tokens.get(endpoint, token))
            return self._tokens[endpoint]

    def fetches_files(self) -> bool:
        return self.fetch_seconds is not None

    def launched(self, variant: str) -> WorkloadSpec | None:
        with self._lock:
            self._reach()
            found = self._workloads.get(variant)
            return None if found is None else found.spec

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        with self._lock:
            self._reach()
            self._advance()
            return {variant: self._status(load) for variant, load in self._workloads.items()}

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        with self._lock:
            self._reach()
            load = self._workloads.get(variant)
            secrets = self._secrets.values(load.spec.environment) if load is not None else ()
            return hide_in_lines(self._logs.get(variant, ()), secrets)[-lines:] if lines > 0 else ()

    def api(self, engine: str) -> EngineApi:
        with self._lock:
            found = self.apis.get(engine)
        if found is None:
            raise InvalidInput(
                f"This cluster knows no engine {engine!r}.",
                field="engine",
                fix=f"Use one of: {', '.join(sorted(self.apis))}.",
            )
        return found

    def options(self, engine: str) -> EngineOptions:
        self.api(engine)
        with self._lock:
            return self.allowed.get(engine, EngineOptions(engine))

    def engines(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self.apis))

    def limits(self) -> Limits:
        return self.most

    def engine_room(self) -> EngineRoom | None:
        self._reach()
        return self.memory

    def secret_files(self) -> tuple[str, ...]:
        return self._secrets.files()

    def renew_secrets(self) -> int:
        with self._lock:
            renewed, problems = 0, []
            for variant, load in self._workloads.items():
                try:
                    fresh = renewed_environment(load.spec, self._secrets.keys())
                except Refused as error:
                    problems.append(error.message)
                    continue
                if fresh is not None:
                    self._workloads[variant] = replace(load, spec=replace(load.spec, environment=fresh))
                    renewed += 1
            if problems:
                raise Refused(" ".join(problems), code="key-missing")
            return renewed

    # --- the script -------------------------------------------------------------------------------

    def fail(self, variant: str, reason: FailureReason, message: str) -> None:
        """Fails the variant now if it runs, and at every later launch, until `mend`."""
        with self._lock:
            self._faults[variant] = (reason, message)
            if variant in self._workloads:
                self._break(variant, reason, message)

    def mend(self, variant: str) -> None:
        """Takes the fault of `fail` away: the next `ensure` succeeds."""
        with self._lock:
            self._faults.pop(variant, None)

    def kill(self, variant: str, *, down_seconds: float = 1.0) -> None:
        """Kills the process as `kill -9` would: UNREADY, a new start time, READY again after the longer of
        `down_seconds` and `ready_after`. Raises NotFound when it does not run."""
        with self._lock:
            found = self._workloads.get(variant)
            if found is None:
                raise NotFound(f"No workload runs {variant}.")
            self._advance()
            self._log(variant, "killed; started again")
            self._workloads[variant] = replace(
                found,
                started_at=max(self._shown(), found.started_at + SMALLEST_TICK),
                launched=self._now(),
                ready_at=self._now() + max(self.ready_after, down_seconds),
                restarts=found.restarts + 1,
                in_flight=0,
            )

    def print(self, variant: str, line: str) -> None:
        """The engine writes a line into its log."""
        with self._lock:
            self._log(variant, line)

    def set_in_flight(self, variant: str, count: int) -> None:
        """Says how many requests the engine answers now; a drain waits until there are none."""
        with self._lock:
            if variant not in self._workloads:
                raise NotFound(f"No workload runs {variant}.")
            self._workloads[variant] = replace(self._workloads[variant], in_flight=count)

    # --- within -----------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.reading().steady

    def _shown(self) -> float:
        return self._clock.now().timestamp()

    def _reach(self) -> None:
        if self.outage:
            raise Unavailable(f"The cluster does not answer: {self.outage}.", fix="It is tried again.")

    def _check_token(self, endpoint: str, token: int) -> None:
        newest = self._tokens.get(endpoint)
        if newest is not None and token < newest:
            raise StaleWriter(
                f"Token {token} for endpoint {endpoint} is older than {newest}.", extra={"newest": newest}
            )
        self._tokens[endpoint] = token

    def _launch(self, spec: WorkloadSpec, before: _Workload | None) -> None:
        now = self._now()
        shown = self._shown()
        started_at = shown if before is None else max(shown, before.started_at + SMALLEST_TICK)
        self._launches += 1
        port = before.port if before is not None else FIRST_PORT + self._launches
        begins = now + (self.fetch_seconds or 0.0)
        self._workloads[spec.variant] = _Workload(
            spec,
            port,
            started_at,
            launched=begins,
            ready_at=begins + self.ready_after,
            files_until=begins if self.fetches_files() else None,
        )
        self._log(spec.variant, f"launched on port {port}")
        if spec.variant in self._faults:
            self._break(spec.variant, *self._faults[spec.variant])

    def _compare(self, load: _Workload) -> bool:
        """What it fetched by itself is compared once, when all of it came. False: it differs."""
        if load.compared or self._verify is None:
            return True
        try:
            self._verify(load.spec.source, load.spec.manifest)
        except TamperedFile as error:
            self._break(load.spec.variant, FailureReason.TAMPERED_FILE, str(error))
            return False
        self._workloads[load.spec.variant] = replace(load, compared=True)
        return True

    def _break(self, variant: str, reason: FailureReason, message: str) -> None:
        self._log(variant, f"{reason.value}: {message}")
        self._workloads[variant] = replace(
            self._workloads[variant], failure=reason, message=message, in_flight=0, drain_until=None
        )

    def _advance(self) -> None:
        """Moves every workload to where the clock says it is."""
        now = self._now()
        for variant, load in list(self._workloads.items()):
            if load.failure is not FailureReason.NONE:
                continue
            if load.drain_until is not None and (load.in_flight == 0 or now >= load.drain_until):
                del self._workloads[variant]
                self._log(variant, "drained and stopped")
            elif load.files_until is not None and now >= load.files_until and not self._compare(load):
                continue
            elif not load.was_ready and now >= load.ready_at:
                self._workloads[variant] = replace(self._workloads[variant], was_ready=True)
            elif not load.was_ready and now >= load.launched + load.spec.start_seconds:
                self._workloads[variant] = replace(
                    load,
                    failure=FailureReason.TIMEOUT,
                    message=f"{variant} was not ready within {load.spec.start_seconds:g} s.",
                )

    def _status(self, load: _Workload) -> WorkloadStatus:
        up = self._now() >= load.ready_at
        if load.failure is not FailureReason.NONE:
            phase = WorkloadPhase.FAILED
        elif load.drain_until is not None:
            phase = WorkloadPhase.DRAINING
        elif up:
            phase = WorkloadPhase.READY
        else:
            phase = WorkloadPhase.UNREADY if load.was_ready else WorkloadPhase.STARTING
        return WorkloadStatus(
            variant=load.spec.variant,
            phase=phase,
            host="127.0.0.1",
            port=load.port,
            ready=load.spec.replicas if phase is WorkloadPhase.READY else 0,
            desired=load.spec.replicas,
            restarts=load.restarts,
            started_at=None if phase is WorkloadPhase.FAILED else load.started_at,
            reason=load.failure,
            message=FETCHING if self._fetches(load) else load.message,
            in_flight=load.in_flight if up and load.failure is FailureReason.NONE else None,
            files_at=None
            if load.files_until is None
            else self._shown() - max(0.0, self._now() - load.files_until),
        )

    def _fetches(self, load: _Workload) -> bool:
        """Whether its files still come."""
        until = load.files_until
        return until is not None and self._now() < until and load.failure is FailureReason.NONE

    def _log(self, variant: str, line: str) -> None:
        self._logs.setdefault(variant, []).append(f"{self._clock.now():%H:%M:%S} {line}")
