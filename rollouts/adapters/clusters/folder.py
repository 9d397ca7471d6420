"""What the local cluster keeps on disk, so that any process can pick up where another one died.

    engines/VARIANT.json           the launch: spec, port, when it was asked for    (cluster)
    engines/VARIANT.conf           its program, included by supervisord             (cluster)
    engines/VARIANT.runs.json      its processes: pid, start times                  (launcher)
    engines/VARIANT.warm.json      which process answered its warm-up               (cluster)
    engines/VARIANT.drain.json     it is being drained: since when, until when      (cluster)
    engines/VARIANT.failure.json   it gave up: reason, message, file                (launcher or cluster)
    engines/VARIANT.log            its output, rotated by supervisord; outlives the workload
    engines/.keys                  what opens the secrets of the launches           (cluster)
    engines/tokens/ENDPOINT        newest fencing token of an endpoint
    engines/.lock                  held while any of this changes

A file is replaced whole (write, fsync, rename): a reader sees the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from controlplane.kernel.clock import ClockReading, seconds_between
from controlplane.kernel.errors import HeadgateError, InvalidInput, StaleWriter
from controlplane.kernel.foreign import storable
from controlplane.sealing.keys import KeyRing
from registry.domain.manifest import Manifest
from rollouts.domain.engines import FailureReason
from rollouts.domain.secrets import environment_json, stored_environment
from rollouts.ports import WorkloadSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # no dot: it ends the name of a file below
UNQUOTABLE = re.compile(r"[;#%\"'\s]")  # in a path, supervisord's configuration would misread these
KEPT_LOGS = 20
KEPT_CRASHES = 50
PROGRAM_PREFIX = "engine-"  # of the program's name at supervisord
LAUNCH_LINE = "[headgate] launch"


# What reading a damaged record raises. One of them must not stop what is done for the others.
DAMAGED = (HeadgateError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """What was asked for. `requested_at` (seconds since the epoch) tells attempts apart.

    folder           where the version's files lie
    stop_seconds     from SIGTERM to SIGKILL
    engine_user      as in HEADGATE_ENGINE_USER
    memory_limit_mb  of one process of the engine; 0: the launcher chooses
    versions_in      a folder of Headgate's own: a version somewhere in it is opened to the engine's user
    """

    spec: WorkloadSpec
    folder: Path
    port: int
    requested_at: float
    engine_python: Path
    run_dir: Path
    supervisor_socket: Path
    stop_seconds: int = 10
    engine_user: str = ""
    memory_limit_mb: int = 0
    secrets_dir: Path | None = None  # None: of an earlier version, which knew no secrets
    versions_in: Path | None = None  # None: the run folder

    def to_json(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "variant": spec.variant,
            "endpoint": spec.endpoint,
            "source": spec.source,
            "folder": str(self.folder),
            "manifest": spec.manifest.to_json(),
            "engine": spec.engine,
            "arguments": dict(spec.arguments),
            "environment": environment_json(spec.environment),
            "resources": dict(spec.resources),
            "start_seconds": spec.start_seconds,
            "port": self.port,
            "requested_at": self.requested_at,
            "engine_python": str(self.engine_python),
            "run_dir": str(self.run_dir),
            "supervisor_socket": str(self.supervisor_socket),
            "stop_seconds": self.stop_seconds,
            "engine_user": self.engine_user,
            "memory_limit_mb": self.memory_limit_mb,
            **({} if self.secrets_dir is None else {"secrets_dir": str(self.secrets_dir)}),
            **({} if self.versions_in is None else {"versions_in": str(self.versions_in)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        spec = WorkloadSpec(
            variant=data["variant"],
            endpoint=data["endpoint"],
            source=str(data.get("source", "")),  # launches of an earlier version do not say
            manifest=Manifest.from_json(data["manifest"]),
            engine=data["engine"],
            arguments=data["arguments"],
            environment=stored_environment(data["environment"]),
            resources={str(name): int(value) for name, value in data.get("resources", {}).items()},
            start_seconds=float(data["start_seconds"]),
        )
        return cls(
            spec,
            Path(data["folder"]),
            int(data["port"]),
            float(data["requested_at"]),
            Path(data["engine_python"]),
            Path(data["run_dir"]),
            Path(data["supervisor_socket"]),
            # Launches of an earlier version do not say.
            int(data.get("stop_seconds", 10)),
            str(data.get("engine_user", "")),
            int(data.get("memory_limit_mb", 0)),
            Path(data["secrets_dir"]) if "secrets_dir" in data else None,
            Path(data["versions_in"]) if "versions_in" in data else None,
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """The newest process of a variant, and when processes before it crashed (seconds since the epoch).

    `pid` is the keeper's, at the head of the engine's tree (keeper.py), as supervisord has it, too. `oom_kills` is the
    kernel's count when the process started, `reading` what the clocks showed (None: it was started before that was
    kept): `started_at` names the process, and says nothing about its age once the clock jumped.
    """

    pid: int
    started_at: float
    restarts: int = 0
    crashes: tuple[float, ...] = ()
    oom_kills: int = 0
    reading: ClockReading | None = None

    def seconds(self, now: ClockReading) -> float:
        """For how long it runs."""
        if self.reading is None:
            return now.at.timestamp() - self.started_at
        return seconds_between(self.reading, now)

    def to_json(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "started_at": self.started_at,
            "restarts": self.restarts,
            "crashes": list(self.crashes[-KEPT_CRASHES:]),
            "oom_kills": self.oom_kills,
            "reading": _reading_to_json(self.reading),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["pid"]),
            float(data["started_at"]),
            int(data["restarts"]),
            tuple(map(float, data["crashes"])),
            int(data["oom_kills"]),
            _reading_from_json(data.get("reading")),
        )


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """Why a workload gave up. `file` is the manifest's path of a file that differs."""

    reason: FailureReason
    message: str
    at: float
    file: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"reason": self.reason.value, "message": self.message, "at": self.at, "file": self.file}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(FailureReason(data["reason"]), data["message"], float(data["at"]), data["file"])


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain in progress. `idle`: no request inside since then; `stopping`: it was told to end.

    seconds  that it may take at most
    """

    requested: ClockReading
    seconds: float
    idle: ClockReading | None = None
    stopping: bool = False

    def left(self, now: ClockReading) -> float:
        """Seconds until it is stopped whatever is inside."""
        return self.seconds - seconds_between(self.requested, now)

    def to_json(self) -> dict[str, Any]:
        return {
            "requested": self.requested.to_json(),
            "seconds": self.seconds,
            "idle": _reading_to_json(self.idle),
            "stopping": self.stopping,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if "deadline" in data:  # of an earlier version: it was in progress over the upgrade
            at = datetime.fromtimestamp(float(data["requested_at"]), tz=UTC)
            length = float(data["deadline"]) - float(data["requested_at"])
            return cls(ClockReading(at, 0.0, ""), length, None, bool(data["stopping"]))
        return cls(
            ClockReading.from_json(data["requested"]),
            float(data["seconds"]),
            _reading_from_json(data["idle"]),
            bool(data["stopping"]),
        )


def _reading_to_json(reading: ClockReading | None) -> dict[str, Any] | None:
    return None if reading is None else reading.to_json()


def _reading_from_json(data: Mapping[str, Any] | None) -> ClockReading | None:
    return None if data is None else ClockReading.from_json(data)


class EngineFolder:
    """The files of all workloads below RUN_DIR/engines. Reading a file that is missing gives None."""

    def __init__(self, run_dir: Path) -> None:
        """Raises InvalidInput for a path that the process manager's configuration cannot hold."""
        if UNQUOTABLE.search(str(run_dir)):
            raise InvalidInput(
                f"The run folder {str(run_dir)!r} holds a space, a quote or one of ; # %.",
                field="run_dir",
                fix="Choose another folder with HEADGATE_RUN_DIR.",
            )
        self.run_dir = run_dir.absolute()
        self.path = self.run_dir / "engines"

    def prepare(self) -> None:
        (self.path / "tokens").mkdir(parents=True, exist_ok=True, mode=0o700)

    def file(self, variant: str, suffix: str) -> Path:
        return self.path / f"{checked_name(variant, 'variant')}.{suffix}"

    # --- one at a time -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits for the folder's lock, between threads and processes; the kernel frees it on any death."""
        with (self.path / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def locked_if_free(self, name: str = ".lock") -> Iterator[bool]:
        """The same without waiting: False when another one holds it."""
        with (self.path / name).open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def claim(self, endpoint: str, token: int) -> None:
        """Remembers the newest fencing token of the endpoint. Call it under the lock. Raises StaleWriter."""
        newest = self.newest_token(endpoint, token)
        if token < newest:
            raise StaleWriter(
                f"Token {token} for endpoint {endpoint} is older than {newest}.", extra={"newest": newest}
            )

    def newest_token(self, endpoint: str, token: int) -> int:
        """Remembers the token unless a larger one was seen; returns the largest one. Call it under the lock."""
        path = self.path / "tokens" / checked_name(endpoint, "endpoint")
        newest = int(path.read_text()) if path.exists() else None
        if newest is not None and token < newest:
            return newest
        if newest != token:
            write_whole(path, str(token))
        return token

    def last_port(self) -> int | None:
        """The port given out last, so that ports go round."""
        path = self.path / ".last-port"
        return int(path.read_text()) if path.exists() else None

    def remember_port(self, port: int) -> None:
        write_whole(self.path / ".last-port", str(port))

    def keep_keys(self, keys: KeyRing) -> None:
        """Hands the keys to the launchers, which have no settings. Call it under the lock."""
        text = "\n".join(keys.keys)
        if self._kept_keys() != text:
            write_whole(self.path / ".keys", text, mode=0o600)

    def keys(self) -> KeyRing:
        """The keys as they were handed on last."""
        return KeyRing.read(self._kept_keys())

    def _kept_keys(self) -> str:
        path = self.path / ".keys"
        return path.read_text() if path.exists() else ""

    # --- records -----------------------------------------------------------------------------------------

    def variants(self) -> list[str]:
        """All variants with a launch on record."""
        suffixes = (".runs.json", ".warm.json", ".drain.json", ".failure.json")
        names = [path.name for path in self.path.glob("*.json")]
        found = (name.removesuffix(".json") for name in names if not name.endswith(suffixes))
        return sorted(name for name in found if NAME.fullmatch(name))

    def launches(self) -> Iterator[Launch]:
        """All launches that can be read; the others are logged."""
        for variant in self.variants():
            try:
                launch = self.launch(variant)
            except DAMAGED:
                log.exception("cluster.records_unreadable variant=%s", variant)
                continue
            if launch is not None:
                yield launch

    def launch(self, variant: str) -> Launch | None:
        data = self._read(variant, "json")
        return None if data is None else Launch.from_json(data)

    def runs(self, variant: str) -> Runs | None:
        data = self._read(variant, "runs.json")
        return None if data is None else Runs.from_json(data)

    def failure(self, variant: str) -> EngineFailure | None:
        data = self._read(variant, "failure.json")
        return None if data is None else EngineFailure.from_json(data)

    def drain(self, variant: str) -> Drain | None:
        data = self._read(variant, "drain.json")
        return None if data is None else Drain.from_json(data)

    def warmed(self, variant: str) -> float | None:
        """`started_at` of the process that last answered its warm-up."""
        data = self._read(variant, "warm.json")
        return None if data is None else float(data["started_at"])

    def write(self, variant: str, suffix: str, data: Mapping[str, Any] | str) -> None:
        text = data if isinstance(data, str) else json.dumps(data, indent=1, sort_keys=True)
        write_whole(self.file(variant, suffix), text, mode=0o600)

    def delete(self, variant: str, *suffixes: str) -> None:
        for suffix in suffixes:
            self.file(variant, suffix).unlink(missing_ok=True)

    def _read(self, variant: str, suffix: str) -> Any:
        try:
            return json.loads(self.file(variant, suffix).read_text())
        except FileNotFoundError:
            return None

    # --- logs --------------------------------------------------------------------------------------------

    def log_lines(self, variant: str, lines: int, *, since_launch: bool = False) -> tuple[str, ...]:
        """The last lines of the engine's log; with `since_launch` only those of its newest process."""
        read: list[str] = []
        for suffix in ("log", "log.1"):
            read = _last_lines(self.file(variant, suffix), lines - len(read)) + read
            if len(read) >= lines:
                break
        if since_launch:
            launches = [i for i, line in enumerate(read) if line.startswith(LAUNCH_LINE)]
            read = read[launches[-1] + 1 :] if launches else read
        return tuple(read)

    def prune_logs(self) -> None:
        """Keeps the logs of what is on record and the newest of what is gone."""
        known = set(self.variants())
        old = [path for path in self.path.glob("*.log") if path.name.removesuffix(".log") not in known]
        for path in sorted(old, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_LOGS:]:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".1").unlink(missing_ok=True)


def checked_name(name: str, field: str) -> str:
    """A name that may be part of a file's name and of a program's. Raises InvalidInput."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is not a {field}'s name: letters, digits, dashes and underscores.", field=field
        )
    return name


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replaces the file at once. The temporary name ends in none of the names that others look for.

    mode   the permissions that it has from its first byte on, less the umask
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)


def _last_lines(path: Path, lines: int) -> list[str]:
    """At most `lines` lines from the end, read from the last 256 KiB only."""
    if lines <= 0 or not path.exists():
        return []
    with path.open("rb") as handle:
        handle.seek(0, os.SEEK_END)
        start = max(0, handle.tell() - 256 * 1024)
        handle.seek(start)
        text = storable(handle.read().decode(errors="replace"))  # engines print what no database takes
    found = text.splitlines()
    return (found[1:] if start else found)[-lines:]
