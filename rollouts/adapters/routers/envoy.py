"""Envoy as the router of one machine: routes are files that it watches, and it says what it took.

The state on disk (`routes.json`) holds every endpoint's route and the highest fencing token seen for each;
a file lock makes it safe for several processes. Publishing keeps three promises:
- a configuration that Envoy would refuse is refused before it is written (`envoy --mode validate`), and if
  the running Envoy refuses or does not take one, the files from before are put back: a bad file never
  stays on disk, where the next start of Envoy would serve nothing from it;
- clusters are added before others and routes name them, and removed after (streams in flight on them end
  undisturbed);
- it returns when Envoy reports the new version in force.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from controlplane.kernel.errors import Rejected, StaleWriter, Unavailable
from controlplane.kernel.foreign import words_of
from rollouts.adapters.routers.checks import check_origins, check_route
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin
from rollouts.adapters.routers.envoy_config import (
    Document,
    EnvoySettings,
    Paths,
    bootstrap,
    cluster_document,
    listener_document,
    member_document,
    route_document,
    static_bootstrap,
)
from rollouts.adapters.routers.envoy_routes import SplitInForce
from rollouts.adapters.routers.envoy_state import RouterState
from rollouts.domain.capabilities import Capability
from rollouts.ports import ObservedRoute, Route

# As it is configured here (`envoy_config.py`, `envoy_routes.py`): it draws each request anew, and copies none.
CAN = frozenset({Capability.FALLBACK, Capability.FORCED_VARIANT})
CLUSTERS = "cluster_manager.cds"
ROUTES = "http.gw.rds.main"
DRAIN_SECONDS = 3600
LOG_SECONDS = 2.0
LONGEST_REFUSAL = 2_000  # characters of Envoy's words


def envoy_command(run_dir: Path, envoy_binary: Path, *, concurrency: int = 2) -> list[str]:
    """How to run Envoy on what `EnvoyRouter.write_bootstrap` wrote.

    Hazard: Envoy ends with the *thread* that spawned it (a parent-death signal), so a process manager of its
    own must run it, not a worker's thread.
    """
    paths = Paths(run_dir)
    return [
        str(envoy_binary), "-c", str(paths.bootstrap),
        "--disable-hot-restart", "--reject-unknown-dynamic-fields", "--drain-time-s", str(DRAIN_SECONDS),
        "--concurrency", str(concurrency), "--file-flush-interval-msec", "250",
        "--log-level", "warning", "--log-path", str(paths.log),
    ]  # fmt: skip


class EnvoyRouter:
    """A TrafficRouter on Envoy. Several processes may use one run folder at a time.

    run_dir          Envoy's own folder: configuration, logs, and a unix socket (so its path must be short)
    envoy_binary     the same binary that serves, to validate with
    cors_origins     origins whose pages may call the endpoints from a browser; "*": any
    publish_seconds  how long Envoy may take to put a configuration in force
    """

    def __init__(
        self,
        run_dir: Path,
        port: int,
        envoy_binary: Path,
        *,
        host: str = "127.0.0.1",
        idle_timeout_seconds: float = 300.0,
        cors_origins: tuple[str, ...] = (),
        publish_seconds: float = 20.0,
    ) -> None:
        self.paths = Paths(run_dir)
        check_origins(cors_origins)
        self.settings = EnvoySettings(
            port=port, host=host, idle_timeout_seconds=idle_timeout_seconds, cors_origins=cors_origins
        )
        self._binary = envoy_binary
        self._publish_seconds = publish_seconds
        self._admin = EnvoyAdmin(self.paths.admin)

    # --- before Envoy starts -----------------------------------------------------------------------

    def write_bootstrap(self) -> None:
        """Writes all that Envoy needs to start, with the routes of the last run; changes only what differs.

        Call it before Envoy starts: a changed listener (another port) cuts the streams of a running one.
        """
        self.paths.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.paths.routes.parent.mkdir(exist_ok=True)
        with self._locked() as state:
            start = json.dumps(bootstrap(self.paths, self.settings), indent=1, sort_keys=True).encode()
            wanted = {
                self.paths.bootstrap: start,
                self.paths.listeners: listener_document(self.paths, self.settings).content,
                self.paths.clusters: cluster_document(state.routes).content,
                self.paths.routes: route_document(state.routes, self.settings, state.generations).content,
            }
            for path, content in wanted.items():
                if _content(path) != content:
                    _replace(path, content)

    # --- TrafficRouter -----------------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> int:
        """Publishes the route and waits until Envoy has it in force; nothing happens when it already has. So what is
        accepted here is in force.

        Raises InvalidInput, StaleWriter, Rejected (Envoy's words), or Unavailable (Envoy does not answer, or
        did not take it in time); in every case the files from before are on disk.
        """
        check_route(route)
        with self._locked() as state:
            return self._change(self._admit(state, route.endpoint, token), route)

    def capabilities(self) -> frozenset[Capability]:
        return CAN

    def claim(self, endpoint: str, *, token: int) -> int:
        """See the port."""
        with self._locked(wait_seconds=0.0) as state:
            newest = state.tokens.get(endpoint, token)
            if token < newest:
                return newest
            self._admit(state, endpoint, token)
            return token

    def observe(self, endpoint: str) -> ObservedRoute | None:
        """What Envoy has in force; variants with a share of 0 are left out of `shares`."""
        split = self._admin.split(endpoint)
        if split is None:
            return None
        return _observed(endpoint, split, self._admin.healthy_variants(endpoint), self._read_state())

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        """See the port. What was refused is what this machine's state says, as in `observe`."""
        splits = self._admin.all_splits()
        healthy = self._admin.all_healthy_variants()
        state = self._read_state()
        return {
            endpoint: _observed(endpoint, split, healthy.get(endpoint, frozenset()), state)
            for endpoint, split in splits.items()
        }

    # --- state -------------------------------------------------------------------------------------

    def _admit(self, state: RouterState, endpoint: str, token: int) -> RouterState:
        """The state with the token noted, on disk too: from now on an older writer is refused."""
        newest = state.tokens.get(endpoint, token)
        if token < newest:
            raise StaleWriter(
                f"Token {token} is older than {newest}, the newest that wrote the route of {endpoint}.",
                fix="Another worker took over; nothing needs to be done.",
                extra={"newest": newest},
            )
        if state.tokens.get(endpoint) == token:
            return state
        admitted = replace(state, tokens={**state.tokens, endpoint: token})
        self._write_state(admitted)
        return admitted

    def _change(self, state: RouterState, route: Route) -> int:
        """Publishes an endpoint's new route, notes how that ended, and returns the route's generation."""
        endpoint = route.endpoint
        routes = {**state.routes, endpoint: route}
        generations = dict(state.generations)
        if state.routes.get(endpoint) != route:
            generations[endpoint] = generations.get(endpoint, 0) + 1
        quiet = {name: words for name, words in state.rejected.items() if name != endpoint}
        try:
            self._publish(state.routes, routes, generations)
        except Rejected as refusal:
            words = str(refusal.extra["words"])
            self._write_state(replace(state, rejected={**quiet, endpoint: words}))
            raise
        changed = replace(state, routes=routes, generations=generations, rejected=quiet)
        if changed != state:
            self._write_state(changed)
        return generations.get(endpoint, 0)

    def _read_state(self) -> RouterState:
        content = _content(self.paths.state)
        return RouterState.from_json(json.loads(content)) if content else RouterState()

    def _write_state(self, state: RouterState) -> None:
        _replace(self.paths.state, json.dumps(state.to_json(), indent=1, sort_keys=True).encode())

    @contextmanager
    def _locked(self, *, wait_seconds: float | None = None) -> Iterator[RouterState]:
        """The state, while nobody else changes it. Raises Unavailable when another holds it for longer than
        `wait_seconds`; None: as long as two routes take to be published."""
        end = time.monotonic() + (2 * self._publish_seconds if wait_seconds is None else wait_seconds)
        try:
            handle = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The router's folder {self.paths.run_dir} cannot be used: {error.strerror}.",
                fix="Start the router first; it makes the folder.",
            ) from error
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > end:
                        raise Unavailable(
                            "Another process is publishing routes.", fix="Try again."
                        ) from error
                    time.sleep(0.01)
            yield self._read_state()
        finally:
            os.close(handle)  # frees the lock

    # --- publishing --------------------------------------------------------------------------------

    def _publish(
        self, old: Mapping[str, Route], new: Mapping[str, Route], generations: Mapping[str, int]
    ) -> None:
        final_clusters = cluster_document(new)
        table = route_document(new, self.settings, generations)
        if self._in_force(CLUSTERS, self.paths.clusters, final_clusters) and self._in_force(
            ROUTES, self.paths.routes, table
        ):
            return
        self._validate(new)
        before = {path: _content(path) for path in (self.paths.routes, self.paths.clusters)}
        try:
            self._step(CLUSTERS, self.paths.clusters, member_document(new, of=old))
            self._wait("its new clusters had their first health check", self._no_cluster_warms)
            self._step(CLUSTERS, self.paths.clusters, cluster_document(new, besides=old))
            self._step(ROUTES, self.paths.routes, table)
            self._step(CLUSTERS, self.paths.clusters, final_clusters)
        except BaseException:  # an ended worker, too, must not leave half of it
            for path, content in before.items():
                if content is not None:
                    _replace(path, content)
            raise

    def _in_force(self, kind: str, path: Path, wanted: Document) -> bool:
        return _content(path) == wanted.content and self._admin.acceptance(kind).version == wanted.version

    def _no_cluster_warms(self) -> bool:
        return self._admin.warming_clusters() == 0

    def _validate(self, routes: Mapping[str, Route]) -> None:
        """Asks the binary itself, on a static copy: the one check that reads clusters and routes in full."""
        trial = self.paths.run_dir / "trial.json"
        trial.write_text(json.dumps(static_bootstrap(self.paths, self.settings, routes)))
        command = [str(self._binary), "--mode", "validate", "-c", str(trial), "-l", "error"]
        try:
            done = subprocess.run(
                [*command, "--reject-unknown-dynamic-fields"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"Envoy could not validate the routes: {error}.", fix="Try again.") from error
        finally:
            trial.unlink(missing_ok=True)
        if done.returncode:
            raise _rejected(_words(done.stderr, "error initializing configuration [^:]*:"))

    def _step(self, kind: str, path: Path, wanted: Document) -> None:
        """Writes one file and waits until Envoy has it in force."""
        if self._in_force(kind, path, wanted):
            return
        refusals = self._admin.acceptance(kind).refusals
        logged = self.paths.log.stat().st_size if self.paths.log.exists() else 0
        _replace(path, wanted.content)

        def taken() -> bool:
            now = self._admin.acceptance(kind)
            if now.version == wanted.version:
                return True
            if now.refusals > refusals:
                raise _rejected(self._refusal(logged))
            return False

        self._wait(f"it had version {wanted.version} in force", taken)

    def _wait(self, what: str, check: Callable[[], bool]) -> None:
        end = time.monotonic() + self._publish_seconds
        while not check():
            if time.monotonic() > end:
                raise Unavailable(
                    f"Envoy took more than {self._publish_seconds:g} s until {what}.",
                    fix="See its log and whether the machine is overloaded.",
                )
            time.sleep(0.005)

    def _refusal(self, offset: int) -> str:
        """What Envoy logged about a refusal after `offset`; it writes its log a moment later."""
        marker = "Filesystem config update (?:rejected|failure):"
        end = time.monotonic() + LOG_SECONDS
        text = ""
        while not re.search(marker, text) and time.monotonic() < end:
            time.sleep(0.02)
            text = (_content(self.paths.log) or b"")[offset:].decode(errors="replace")
        return _words(text, marker)


def _observed(
    endpoint: str, split: SplitInForce, healthy: frozenset[str], state: RouterState
) -> ObservedRoute:
    return ObservedRoute(
        endpoint=endpoint,
        shares=split.shares,
        healthy=healthy,
        named=split.named,
        generation=split.generation,
        accepted=state.generations.get(endpoint, split.generation),
        rejected=state.rejected.get(endpoint, ""),
    )


def _rejected(words: str) -> Rejected:
    return Rejected(
        f"Envoy refuses the routes: {words}",
        fix="The last good configuration stays in force. Mend the cause it names.",
        extra={"words": words},
    )


def _words(log: str, after: str) -> str:
    """Envoy's own words: what follows the last match of `after`, on one line."""
    found = list(re.finditer(after, log))
    text = log[found[-1].end() :] if found else log
    text = re.split(r"\n\[\d{4}-", text)[0]
    text = re.sub(r"goo\.gle/debug\w*", "", text)  # protobuf's note to itself
    return words_of(text, LONGEST_REFUSAL) or "it gave no reason (see its log)"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes) -> None:
    """Puts the content in place in one step (Envoy ignores changes made in place)."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
