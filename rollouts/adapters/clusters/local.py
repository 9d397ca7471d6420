"""Variants as engines on this machine, each a program of one supervisord.

Everything known is on disk (see folder.py) or asked of supervisord and the engines, so a new control plane
adopts what runs, and a drain goes on after its process was killed. `statuses()` does not only look: it takes
the next step of whatever is under way (a warm-up, a drain, a program that supervisord lost), as a
level-triggered controller does. Several processes and threads may call at once.

Choices:
- One engine a variant; `replicas` above 1 is refused: several would share this machine's memory and processors, and
  each would hold the weights once more.
- No image (engines are programs of this machine) and no accelerators: engines share the GPUs that CUDA_VISIBLE_DEVICES
  of the stack shows them, and nobody keeps one of them from taking what another one needs.
- The port is chosen at `ensure`, in turn through the range, so that a router that still holds an old address
  does not reach a new variant. A stranger on it at launch: FAILED with PORT_TAKEN (see launcher.py).
- `ensure` compares names and sizes of the files, and reads none of them: it is called by the loop. The launcher, in the
  engine's own process, reads all of them before every launch, and nothing that differs is ever loaded.
- `ensure` on a variant that drains takes the drain back; if it was told to stop already, it starts again.
- A drain ends when the engine says nothing is inside for `settle_seconds`. One that does not say is given the
  whole `drain_seconds`; one that does not run or never was ready is stopped at once.
- Memory: free memory less what engines still loading will take must be at least `memory_mb`, or what the spec asks
  for (`resources`, "memory_mb") where that is more. No other resource is set apart.
"""

from __future__ import annotations

import logging
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx

from controlplane.kernel.clock import Clock, seconds_between
from controlplane.kernel.credentials import hide
from controlplane.kernel.errors import HeadgateError, InvalidInput, Refused, TamperedFile
from controlplane.sealing.keys import KeyRing
from registry.domain.manifest import Manifest
from rollouts.adapters.clusters.engine_user import remove_temporary
from rollouts.adapters.clusters.engines import load_engines, template_named, template_of
from rollouts.adapters.clusters.folder import (
    DAMAGED,
    PROGRAM_PREFIX,
    Drain,
    EngineFailure,
    EngineFolder,
    Launch,
    checked_name,
)
from rollouts.adapters.clusters.launch_secrets import LaunchSecrets
from rollouts.adapters.clusters.launcher import GIVE_UP, LEFTOVER_GRACE_SECONDS, MARK
from rollouts.adapters.clusters.machine import (
    available_memory_mb,
    end_marked,
    listener_is_marked,
    port_is_free,
    tree_memory_mb,
)
from rollouts.adapters.clusters.probe import Health, warm_up
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.adapters.clusters.sight import Asking, Sight, look, look_again, status_of, unreadable
from rollouts.adapters.clusters.supervisord import ALIVE_STATES, RESTING_STATES, ProgramInfo, Supervisor
from rollouts.domain.belongings import FoundThere, LaunchFound
from rollouts.domain.capacity.findings import CapacityFinding, memory_of_machine
from rollouts.domain.engine_options import EngineOptions
from rollouts.domain.engines import FailureReason
from rollouts.domain.limits import Limits
from rollouts.ports import EngineApi, PlannedLaunches, WorkloadSpec, WorkloadStatus

ROOT = Path(__file__).resolve().parents[3]
MEMORY = "memory_mb"  # the resource that this machine sets apart
KEEPER_SECONDS = 10  # what an engine's keeper may take beyond `stop_seconds` until all of the tree has ended
RECORDS = ("conf", "runs.json", "warm.json", "failure.json", "json", "drain.json")  # deleted in this order

log = logging.getLogger(__name__)


class LocalCluster:
    """Keeps the contract of `rollouts.ports.Cluster` on this machine.

    run_dir            folder of everything that runs here; engines/ is ours
    supervisor_socket  unix socket of the supervisord whose configuration includes run_dir/engines/*.conf
    engine_python      Python that has the engine installed
    ports              for engines
    models_dir         where the files of versions lie, each in the folder of its manifest
    memory_mb          megabytes that must be free before one more engine is launched
    memory_limit_mb    that one process of an engine may take; 0: the launcher chooses
    engine_user        the user that engines run as, as in HEADGATE_ENGINE_USER
    drain_seconds      a drain stops waiting after so long
    settle_seconds     nothing may be inside for so long before a drained engine is stopped
    stop_seconds       from SIGTERM to SIGKILL, for an engine that does not end
    secrets_dir        folder of the operator's secret files
    keys               what secrets are stored under, as they are now
    """

    def __init__(
        self,
        run_dir: Path,
        supervisor_socket: Path,
        engine_python: Path,
        models_dir: Path,
        ports: range,
        memory_mb: int,
        clock: Clock,
        http: httpx.Client,
        *,
        drain_seconds: float = 120.0,
        settle_seconds: float = 1.0,
        stop_seconds: int = 10,
        memory_limit_mb: int = 0,
        engine_user: str = "",
        secrets_dir: Path | None = None,
        versions_in: Path | None = None,
        keys: Callable[[], KeyRing] = lambda: KeyRing(()),
    ) -> None:
        self._folder = EngineFolder(run_dir)
        self._folder.prepare()
        self._supervisor = Supervisor(supervisor_socket)
        self._engine_python = engine_python
        self._models_dir = models_dir
        self._ports = ports
        self._memory_mb = memory_mb
        self._clock = clock
        self._http = http
        self._asking = Asking(http)
        self._drain_seconds = drain_seconds
        self._settle_seconds = settle_seconds
        self._stop_seconds = stop_seconds
        self._memory_limit_mb = memory_limit_mb
        self._engine_user = engine_user
        self._versions_in = versions_in
        self._secrets_dir = secrets_dir or run_dir / "secrets"
        self._secrets = LaunchSecrets(self._folder, SecretStore(self._secrets_dir, keys))
        self._warming: set[str] = set()
        self._warming_lock = threading.Lock()

    # --- the contract ------------------------------------------------------------------------------------

    def ensure(self, spec: WorkloadSpec, *, token: int) -> None:
        """See the port. InvalidInput too: an unknown engine, an argument that may not be set, replicas."""
        checked_name(spec.variant, "variant")
        checked_name(spec.endpoint, "endpoint")
        with self._folder.locked():
            self._folder.claim(spec.endpoint, token)
            if self._keep_running(spec.variant):
                return  # whatever became of the declarations and the secret files that it was launched with
            self._supervisor.programs()  # Unavailable before any long work
        self._check(spec)
        folder = self._models_dir / spec.manifest.folder_name
        check_files(folder, spec.manifest)
        with self._folder.locked():
            self._folder.claim(spec.endpoint, token)
            if self._keep_running(spec.variant):
                return  # another caller was faster
            self._check_memory(spec)
            launch = Launch(
                spec=spec,
                folder=folder,
                port=self._choose_port(spec.variant),
                requested_at=self._now(),
                engine_python=self._engine_python,
                run_dir=self._folder.run_dir,
                supervisor_socket=self._supervisor.socket_path,
                stop_seconds=self._stop_seconds,
                engine_user=self._engine_user,
                memory_limit_mb=self._memory_limit_mb,
                secrets_dir=self._secrets_dir,
                versions_in=self._versions_in,
            )
            self._secrets.hand_on(spec)
            self._folder.delete(spec.variant, "runs.json", "warm.json", "drain.json", "failure.json")
            self._folder.write(spec.variant, "json", launch.to_json())
            self._bring_up(spec.variant, self._supervisor.programs())
            self._folder.prune_logs()

    def adoptable(self, server: str, endpoint: str) -> int:
        self.limits().check_adopts(server)  # raises: nobody else runs servers here
        return 0

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        with self._folder.locked():
            self._folder.claim(endpoint, token)
            launch = self._folder.launch(variant)
            if launch is None or self._folder.drain(variant) is not None:
                return
            if launch.spec.endpoint != endpoint:
                raise InvalidInput(
                    f"{variant} belongs to endpoint {launch.spec.endpoint}, not {endpoint}.", field="endpoint"
                )
            drain = Drain(self._clock.reading(), self._drain_seconds)
            self._folder.write(variant, "drain.json", drain.to_json())

    def hold_scale_in(self, variant: str, endpoint: str, *, on: bool, token: int) -> None:
        """Nothing scales an engine of this machine."""
        with self._folder.locked():
            self._folder.claim(endpoint, token)

    def claim(self, endpoint: str, *, token: int) -> int:
        with self._folder.locked():
            return self._folder.newest_token(endpoint, token)

    def fetches_files(self) -> bool:
        return False  # its engines read the folder where Headgate keeps what it verified

    def launched(self, variant: str) -> WorkloadSpec | None:
        try:
            launch = self._folder.launch(variant)
        except DAMAGED:
            log.exception("cluster.records_unreadable variant=%s", variant)
            return None  # nothing on this machine says it
        return None if launch is None else launch.spec

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        """Raises Unavailable when supervisord does not answer. A broken engine only breaks its own status."""
        programs = self._supervisor.programs()
        variants = self._folder.variants()
        with ThreadPoolExecutor(max_workers=max(1, min(8, len(variants)))) as pool:
            seen = list(
                pool.map(lambda variant: look(self._folder, self._asking, variant, programs), variants)
            )
        with self._folder.locked_if_free() as mine:
            if mine:
                self._take_next_steps(seen)
        found = {}
        for variant, sight in zip(variants, seen, strict=True):
            if isinstance(sight, Sight):
                latest = look_again(self._folder, sight)  # a step just taken may have changed it
                if latest is not None:
                    found[variant] = status_of(latest, self._clock.reading())
            elif sight is not None:
                found[variant] = unreadable(variant, sight)
        return found

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        return self._secrets.log_lines(variant, min(lines, 5000))

    def api(self, engine: str) -> EngineApi:
        return template_named(engine, load_engines(self._folder.run_dir)).api

    def options(self, engine: str) -> EngineOptions:
        return template_named(engine, load_engines(self._folder.run_dir)).options

    def engines(self) -> tuple[str, ...]:
        return tuple(sorted(load_engines(self._folder.run_dir)))

    def limits(self) -> Limits:
        return Limits(resources=frozenset({MEMORY}))

    def capacity(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        """See the port. It is the memory of this machine; accelerators are not set apart here."""
        needed = [self._memory_of(spec) for spec in planned.specs for _ in range(spec.replicas)]
        return memory_of_machine(available_memory_mb(), needed)

    def secret_files(self) -> tuple[str, ...]:
        return self._secrets.store.files()

    def belongings(self) -> FoundThere:
        return (
            FoundThere()
        )  # a folder of this machine has one installation, and says nothing about other servers

    def mark_unknown(self, launch: LaunchFound, since: float | None) -> None:
        """It finds no launch to be marked."""

    def take_away(self, launch: LaunchFound) -> bool:
        return False

    def renew_secrets(self) -> int:
        return self._secrets.renew()

    # --- launching ---------------------------------------------------------------------------------------

    def _check(self, spec: WorkloadSpec) -> None:
        template = template_of(spec, load_engines(self._folder.run_dir))
        self._secrets.check(spec, template)
        self.limits().check(
            resources=(),  # variants of earlier versions may ask for some that nobody set apart then either
            replicas=spec.replicas,
            image=spec.image,
            accelerators=spec.accelerators,
            adopts=spec.adopts,
        )

    def _keep_running(self, variant: str) -> bool:
        """Under the lock: whether it runs already (a drain is taken back, a lost program is put back)."""
        try:
            if self._folder.launch(variant) is None or self._folder.failure(variant) is not None:
                return False
        except DAMAGED:
            log.exception("cluster.records_unreadable variant=%s", variant)
            return False  # written anew
        self._folder.delete(variant, "drain.json")
        self._bring_up(variant, self._supervisor.programs())
        return True

    def _bring_up(self, variant: str, programs: Mapping[str, ProgramInfo]) -> None:
        name = PROGRAM_PREFIX + variant
        if not self._folder.file(variant, "conf").exists():
            self._folder.write(variant, "conf", self._program(variant))
        program = programs.get(name)
        if program is None:
            self._supervisor.reload()
            self._supervisor.add(name)
        elif program.state in RESTING_STATES:
            self._supervisor.start(name)

    def _program(self, variant: str) -> str:
        launcher = [sys.executable, "-m", "rollouts.adapters.clusters.launcher"]
        command = shlex.join([*launcher, str(self._folder.file(variant, "json"))])
        # startsecs=0: of a process that ends within startsecs, supervisord would not look at the exit status.
        # The pause between restarts, and giving up, are the launcher's. SIGTERM goes to the keeper alone, which ends
        # the tree within stop_seconds and a little; supervisord's own SIGKILL is for a keeper that hangs.
        return f"""[program:{PROGRAM_PREFIX}{variant}]
command={command}
directory={ROOT}
autostart=true
autorestart=unexpected
exitcodes={GIVE_UP}
startsecs=0
startretries=3
stopsignal=TERM
stopwaitsecs={self._stop_seconds + KEEPER_SECONDS}
stopasgroup=false
killasgroup=true
priority=500
umask=077
redirect_stderr=true
stdout_logfile={self._folder.file(variant, "log")}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
"""

    def _memory_of(self, spec: WorkloadSpec) -> int:
        """Megabytes that must be free before it is launched."""
        return max(self._memory_mb, spec.resources.get(MEMORY, 0))

    def _check_memory(self, spec: WorkloadSpec) -> None:
        variant, needed = spec.variant, self._memory_of(spec)
        free = available_memory_mb()
        promised = 0
        for other in self._folder.variants():
            if other == variant:
                continue
            try:
                promised += self._memory_to_come_mb(other)
            except DAMAGED:  # what it takes already is not free
                log.exception("cluster.records_unreadable variant=%s", other)
        if free - promised < needed:
            kept = f", {promised} MB of them for engines that still load" if promised else ""
            raise Refused(
                f"There is too little memory for {variant}: it needs {needed} MB and"
                f" {free} MB are free{kept}.",
                fix="Stop another variant or program, or, if engines need less than that here,"
                " set HEADGATE_ENGINE_MEMORY_MB.",
                code="no-memory",
                extra={"needed_mb": needed, "free_mb": free, "promised_mb": promised},
            )

    def _memory_to_come_mb(self, variant: str) -> int:
        """What an engine that still loads will take beyond what it has taken."""
        runs, launch = self._folder.runs(variant), self._folder.launch(variant)
        needed = self._memory_mb if launch is None else self._memory_of(launch.spec)
        if self._folder.failure(variant) is not None:
            return 0
        if runs is None:
            return needed
        if self._folder.warmed(variant) == runs.started_at:
            return 0
        return max(0, needed - tree_memory_mb(runs.pid))

    def _choose_port(self, variant: str) -> int:
        taken = {launch.port for launch in self._folder.launches() if launch.spec.variant != variant}
        last = self._folder.last_port()
        begin = self._ports.index(last) + 1 if last is not None and last in self._ports else 0
        for step in range(len(self._ports)):
            port = self._ports[(begin + step) % len(self._ports)]
            if port not in taken and port_is_free(port):
                self._folder.remember_port(port)
                return port
        raise Refused(
            f"No port is free for {variant} between {self._ports.start} and {self._ports.stop - 1}.",
            fix="Set more ports with HEADGATE_ENGINE_PORTS.",
            code="no-port",
        )

    # --- next steps, under the lock ----------------------------------------------------------------------

    def _take_next_steps(self, seen: list[Sight | Exception | None]) -> None:
        programs = self._supervisor.programs()
        for old in seen:
            if not isinstance(old, Sight):
                continue
            try:
                sight = look_again(self._folder, old)
                if sight is not None:
                    self._step(replace(sight, program=programs.get(sight.program_name)), programs)
            except DAMAGED:
                log.exception("cluster.step_failed variant=%s", old.variant)

    def _step(self, sight: Sight, programs: Mapping[str, ProgramInfo]) -> None:
        if sight.drain is not None:
            self._drain_on(sight, sight.drain)
        elif sight.failure is not None:
            if sight.program is not None and sight.program.state in ALIVE_STATES:
                self._supervisor.stop(sight.program.name)
        elif sight.program is not None and sight.program.state == "FATAL":
            self._fail(sight, FailureReason.CRASH_LOOP, f"It cannot be started: {sight.program.spawn_error}.")
        elif sight.program is None or sight.program.state in RESTING_STATES:
            self._bring_up(sight.variant, programs)
        elif sight.process is not None and not sight.is_warm:
            limit = sight.launch.spec.start_seconds
            if sight.process.seconds(self._clock.reading()) > limit:
                last = self._secrets.log_lines(sight.variant, 1)
                told = f" Its log ends: {last[-1]}" if last else ""
                self._fail(sight, FailureReason.TIMEOUT, f"It was not ready within {limit:g} s.{told}")
                self._supervisor.stop(sight.program_name)
            elif sight.health is Health.GOOD:
                self._warm_behind(sight.launch, sight.process.started_at)

    def _fail(self, sight: Sight, reason: FailureReason, message: str) -> None:
        self._folder.write(
            sight.variant, "failure.json", EngineFailure(reason, message, self._now()).to_json()
        )

    def _drain_on(self, sight: Sight, drain: Drain) -> None:
        name = sight.program_name
        now = self._clock.reading()
        if sight.program is None or sight.program.state in RESTING_STATES:
            mark = str(self._folder.file(sight.variant, "json"))
            if ended := end_marked(MARK, mark, grace_seconds=LEFTOVER_GRACE_SECONDS):
                log.warning(
                    "cluster.leftovers_ended variant=%s %s", sight.variant, ", ".join(map(str, ended))
                )
            if sight.program is not None:
                self._supervisor.remove(name)
            remove_temporary(self._folder.run_dir, sight.variant)
            self._folder.delete(sight.variant, *RECORDS)
            (self._folder.path / f".{sight.variant}.warming").unlink(missing_ok=True)
            return
        if drain.stopping:
            if sight.program.state in ALIVE_STATES:
                self._supervisor.stop(name)
            return
        never_served = sight.warmed is None
        settled = drain.idle is not None and seconds_between(drain.idle, now) >= self._settle_seconds
        if (
            sight.process is None
            or never_served
            or (sight.in_flight == 0 and settled)
            or drain.left(now) <= 0
        ):
            self._folder.write(sight.variant, "drain.json", replace(drain, stopping=True).to_json())
            self._supervisor.stop(name)
        elif sight.in_flight != 0 and drain.idle is not None:
            self._folder.write(sight.variant, "drain.json", replace(drain, idle=None).to_json())
        elif sight.in_flight == 0 and drain.idle is None:
            self._folder.write(sight.variant, "drain.json", replace(drain, idle=now).to_json())

    # --- warming up, in a thread ---------------------------------------------------------------------------

    def _warm_behind(self, launch: Launch, started_at: float) -> None:
        variant = launch.spec.variant
        with self._warming_lock:
            if variant in self._warming:
                return
            self._warming.add(variant)
        threading.Thread(target=self._warm, args=(launch, started_at), daemon=True, name="warm-up").start()

    def _warm(self, launch: Launch, started_at: float) -> None:
        variant = launch.spec.variant
        try:
            with self._folder.locked_if_free(f".{variant}.warming") as mine:
                if not mine:
                    return  # another process does it
                mark = str(self._folder.file(variant, "json"))
                result = warm_up(
                    self._http,
                    variant,
                    launch.spec.endpoint,
                    launch.port,
                    is_ours=lambda: listener_is_marked(launch.port, MARK, mark),
                )
            if result.again:
                log.info("cluster.warm_up_again variant=%s problem=%s", variant, result.problem)
                return
            with self._folder.locked():
                runs, now = self._folder.runs(variant), self._folder.launch(variant)
                if now is None or runs is None or runs.started_at != started_at:
                    return  # that process is gone
                if result.ok:
                    self._folder.write(variant, "warm.json", {"started_at": started_at, "at": self._now()})
                else:
                    reason = FailureReason.PORT_TAKEN if result.stranger else FailureReason.BAD_MODEL
                    problem = hide(result.problem, self._secrets.values(variant))
                    message = f"The engine loaded, but its first completion failed: {problem}"
                    failure = EngineFailure(reason, message, self._now())
                    self._folder.write(variant, "failure.json", failure.to_json())
        except (HeadgateError, OSError, httpx.HTTPError):
            log.exception("cluster.warm_up_failed variant=%s", variant)
        finally:
            with self._warming_lock:
                self._warming.discard(variant)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises TamperedFile for the first file whose size differs, or that is missing."""
    try:
        for entry in manifest.entries:
            path = folder / entry.path
            if not path.is_file():
                raise TamperedFile(entry.path, "is missing")
            if path.stat().st_size != entry.size:
                raise TamperedFile(
                    entry.path, f"has {path.stat().st_size} bytes, the manifest says {entry.size}"
                )
    except OSError as error:
        raise Refused(
            f"The version's files cannot be read: {error}.", fix="Mend the folder's permissions."
        ) from error
