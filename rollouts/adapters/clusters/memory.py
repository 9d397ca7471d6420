"""A cluster in memory: scripted time to ready, scripted failures, no processes. For tests of the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from rollouts.adapters.backends import ADDRESS
from rollouts.adapters.clusters.memory_workload import SMALLEST_TICK, MemoryWorkload, Replica
from rollouts.adapters.clusters.secrets import SecretStore, renewed_environment
from rollouts.domain.belongings import FoundThere, LaunchFound, ModelServer
from rollouts.domain.capacity.findings import CapacityFinding, memory_of_machine
from rollouts.domain.engine_options import EngineOptions, Option, OptionKind
from rollouts.domain.engines import FailureReason
from rollouts.domain.limits import Limits
from rollouts.ports import OPENAI_API, EngineApi, PlannedLaunches, WorkloadSpec, WorkloadStatus

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
    adopts=True,
)


class MemoryCluster:
    """Keeps the contract of `rollouts.ports.Cluster` without a process. Safe to call from several threads.

    ready_after    seconds of `clock` from launch to READY
    room           how many workloads fit; one more raises Refused. None: any number
    drain_seconds  after so many seconds a drain stops waiting for requests in flight
    verify         called with source and manifest before every launch; it raises TamperedFile to refuse
    fetch_seconds  it brings a version's files to its engines, which takes so long before a launch. None: it does not
    from_here      it brings them from this machine, where they have to be first; else from the version's source
    secrets        opens the secrets of specs
    backend_kind   of the references that it gives out; one that is not "address" has the variant's name

    `apis` are the engines that it knows and their calls; `allowed` what a spec may set of each, nothing when not named.
    `environments` are the variables that each variant was launched with, secrets among them; `most` are its limits.
    `memory` is what there is for engines and what one of them needs, in megabytes (None: it sets none apart); `says` is
    said of any capacity beside it; `asked_about` is what it was asked about. `servers` are those of others.
    `autoscaled`: something scales by itself what is launched from then on.
    Scripting: `fail` and `mend`, `kill`, `allow`, `change`, `lose`, `set_in_flight`; while `outage` is set, all calls
    raise Unavailable.
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
        from_here: bool = False,
        secrets: SecretStore | None = None,
        backend_kind: str = ADDRESS,
    ) -> None:
        self.autoscaled = False
        self.backend_kind = backend_kind
        self.ready_after = ready_after
        self.room = room
        self.drain_seconds = drain_seconds
        self.fetch_seconds = fetch_seconds
        self.from_here = from_here
        self.memory: tuple[int, int] | None = None
        self.says: tuple[CapacityFinding, ...] = ()
        self.asked_about: list[PlannedLaunches] = []
        self.most = SOME_LIMITS
        self.servers: tuple[ModelServer, ...] = ()
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
        self._workloads: dict[str, MemoryWorkload] = {}
        self._most_ready: dict[str, int] = {}
        self._faults: dict[str, tuple[FailureReason, str]] = {}
        self._tokens: dict[str, int] = {}
        self._logs: dict[str, list[str]] = {}
        self._launches = 0

    # --- the contract -----------------------------------------------------------------------------

    def ensure(self, spec: WorkloadSpec, *, token: int) -> None:
        with self._lock:
            self._reach()
            self.most.check(
                resources=(),
                replicas=spec.replicas,
                image=spec.image,
                accelerators=spec.accelerators,
                adopts=spec.adopts,
            )
            files = {entry.path for entry in spec.manifest.entries}
            chosen = self.options(spec.engine).choose(spec.arguments, spec.environment, files=files)
            variables = {**chosen.variables, **self._secrets.open_all(chosen.secrets)}
            self._check_token(spec.endpoint, token)
            self._advance()
            found = self._workloads.get(spec.variant)
            if found is not None and found.failure is FailureReason.NONE:
                if found.drain_until is not None or found.unknown_since is not None:
                    self._workloads[spec.variant] = replace(found, drain_until=None, unknown_since=None)
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

    def adoptable(self, server: str, endpoint: str) -> int:
        """A server of others whose `model` is the endpoint's name."""
        with self._lock:
            self._reach()
            found = next((one for one in self.servers if one.where == f"Deployment {server}"), None)
            if found is None or found.unfit or found.model != endpoint:
                words = (
                    f"There is no Deployment {server}." if found is None else f"{found.where} does not fit."
                )
                raise InvalidInput(words, field="adopts", fix=found.unfit if found else "Choose another.")
            return max(1, found.desired)

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

    def hold_scale_in(self, variant: str, endpoint: str, *, on: bool, token: int) -> None:
        with self._lock:
            self._reach()
            self._check_token(endpoint, token)
            found = self._workloads.get(variant)
            if found is not None and found.scale_in_held is not None:
                self._workloads[variant] = replace(found, scale_in_held=on)

    def claim(self, endpoint: str, *, token: int) -> int:
        with self._lock:
            self._reach()
            self._tokens[endpoint] = max(token, self._tokens.get(endpoint, token))
            return self._tokens[endpoint]

    def fetches_files(self) -> bool:
        return self.fetch_seconds is not None and not self.from_here

    def launched(self, variant: str) -> WorkloadSpec | None:
        with self._lock:
            self._reach()
            found = self._workloads.get(variant)
            return None if found is None else found.spec

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        with self._lock:
            self._reach()
            self._advance()
            return {
                variant: load.status(self._now(), self._shown()) for variant, load in self._workloads.items()
            }

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

    def capacity(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        self._reach()
        self.asked_about.append(planned)
        needed = [spec.resources.get("memory_mb", 0) for spec in planned.specs for _ in range(spec.replicas)]
        if self.memory is None:
            return self.says
        free_mb, engine_mb = self.memory
        return (*memory_of_machine(free_mb, [max(engine_mb, one) for one in needed]), *self.says)

    def secret_files(self) -> tuple[str, ...]:
        return self._secrets.files()

    def belongings(self) -> FoundThere:
        with self._lock:
            self._reach()
            self._advance()
            return FoundThere(tuple(self._launch_of(load) for load in self._workloads.values()), self.servers)

    def mark_unknown(self, launch: LaunchFound, since: float | None) -> None:
        with self._lock:
            self._reach()
            if self._as_seen(launch):
                found = self._workloads[launch.variant]
                self._workloads[launch.variant] = replace(found, unknown_since=since)

    def take_away(self, launch: LaunchFound) -> bool:
        with self._lock:
            self._reach()
            if not self._as_seen(launch):
                return False
            del self._workloads[launch.variant]
            return True

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

    def kill(self, variant: str, *, down_seconds: float = 1.0, replicas: int | None = None) -> None:
        """Kills processes as `kill -9` would, so many of the replicas or all of them: a new start time, ready again
        after the longer of `down_seconds` and `ready_after`. Raises NotFound when it does not run."""
        with self._lock:
            self._advance()
            found = self._workloads.get(variant)
            if found is None:
                raise NotFound(f"No workload runs {variant}.")
            self._log(variant, "killed; started again")
            self._workloads[variant] = found.killed(
                found.spec.replicas if replicas is None else replicas,
                self._now(),
                self._shown(),
                self._now() + max(self.ready_after, down_seconds),
            )

    def allow(self, variant: str, *, most_ready: int) -> None:
        """From now on no more replicas of the variant than so many are ready, at every later launch too: the others
        die, and find no room to start again."""
        with self._lock:
            self._most_ready[variant] = most_ready
            if variant in self._workloads:
                self._workloads[variant] = replace(self._workloads[variant], most_ready=most_ready)

    def change(self, variant: str, words: str, *, replicas: int | None = None, altered: str = "") -> None:
        """Somebody changes the variant behind our back: `words` say what, `altered` because of which part something
        else runs; with another count of replicas, no more than so many are ready."""
        with self._lock:
            found = self._workloads[variant]
            most = found.most_ready if replicas is None else replicas
            self._workloads[variant] = replace(found, drift=words, altered=altered, most_ready=most)

    def lose(self, variant: str) -> None:
        """Somebody deletes it behind our back."""
        with self._lock:
            del self._workloads[variant]

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

    def _launch_of(self, load: MemoryWorkload) -> LaunchFound:
        return LaunchFound(
            load.spec.variant,
            load.spec.endpoint,
            f"workload {load.spec.variant}",
            made_at=load.made_at,
            unknown_since=load.unknown_since,
            state=repr((load.launched, load.made_at, load.unknown_since, load.drain_until)),
            ending=load.drain_until is not None,
        )

    def _as_seen(self, launch: LaunchFound) -> bool:
        found = self._workloads.get(launch.variant)
        return found is not None and self._launch_of(found).state == launch.state

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

    def _launch(self, spec: WorkloadSpec, before: MemoryWorkload | None) -> None:
        now = self._now()
        started_at = self._shown()
        if before is not None:
            started_at = max(started_at, *(old.started_at + SMALLEST_TICK for old in before.replicas))
        self._launches += 1
        port = before.port if before is not None else FIRST_PORT + self._launches
        begins = now + (self.fetch_seconds or 0.0)
        self._workloads[spec.variant] = MemoryWorkload(
            spec,
            port,
            launched=begins,
            replicas=(Replica(started_at, begins + self.ready_after),) * spec.replicas,
            most_ready=self._most_ready.get(spec.variant, spec.replicas),
            files_until=None if self.fetch_seconds is None else begins,
            backend_kind=self.backend_kind,
            scale_in_held=False if self.autoscaled else None,
            made_at=self._shown(),
        )
        self._log(spec.variant, f"launched on port {port}")
        if spec.variant in self._faults:
            self._break(spec.variant, *self._faults[spec.variant])

    def _compare(self, load: MemoryWorkload) -> bool:
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
            elif not load.was_ready and load.ready(now):
                self._workloads[variant] = replace(self._workloads[variant], was_ready=True)
            elif not load.was_ready and now >= load.launched + load.spec.start_seconds:
                self._workloads[variant] = replace(
                    load,
                    failure=FailureReason.TIMEOUT,
                    message=f"{variant} was not ready within {load.spec.start_seconds:g} s.",
                )

    def _log(self, variant: str, line: str) -> None:
        self._logs.setdefault(variant, []).append(f"{self._clock.now():%H:%M:%S} {line}")
