"""A small client of supervisord's XML-RPC interface on its unix socket. Standard library only."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client  # the peer is our own supervisord, behind a socket only its owner can open
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.kernel.errors import Rejected, Unavailable

# Fault numbers of supervisor.xmlrpc.Faults that we treat as "already so".
BAD_NAME = 10
ALREADY_STARTED = 60
NOT_RUNNING = 70
ALREADY_ADDED = 90

ALIVE_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF"})
RESTING_STATES = frozenset({"STOPPED", "EXITED", "FATAL", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """A program as supervisord sees it. `pid` is 0 when it does not run; `started_at` has whole seconds."""

    name: str
    state: str
    pid: int
    exit_status: int
    started_at: float
    spawn_error: str
    description: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, self._timeout)
        self._connection = host, connection  # Transport.close() closes this one
        return connection


class Supervisor:
    """One supervisord. Every method raises Unavailable when it does not answer, Rejected when it refuses."""

    def __init__(self, socket_path: Path, *, timeout: float = 5.0) -> None:
        self.socket_path = socket_path
        self._timeout = timeout

    def programs(self) -> Mapping[str, ProgramInfo]:
        """All programs by name."""
        found = {}
        for info in self._call("getAllProcessInfo"):
            found[str(info["name"])] = ProgramInfo(
                name=str(info["name"]),
                state=str(info["statename"]),
                pid=int(info["pid"]),
                exit_status=int(info["exitstatus"]),
                started_at=float(info["start"]),
                spawn_error=str(info["spawnerr"]),
                description=str(info["description"]),
            )
        return found

    def pid(self) -> int:
        return int(self._call("getPID"))

    def is_up(self) -> bool:
        try:
            self._call("getState")
        except Unavailable:
            return False
        return True

    def reload(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Reads the configuration files again; nothing starts or stops. Returns (added, changed, removed)."""
        added, changed, removed = self._call("reloadConfig")[0]
        return frozenset(added), frozenset(changed), frozenset(removed)

    def add(self, name: str) -> None:
        """Takes a program of the configuration in (and starts it, when it has autostart)."""
        self._call("addProcessGroup", name, already=ALREADY_ADDED)

    def remove(self, name: str) -> None:
        """Forgets a program that has stopped."""
        self._call("removeProcessGroup", name, already=BAD_NAME)

    def start(self, name: str) -> None:
        """Starts it without waiting."""
        self._call("startProcess", name, False, already=ALREADY_STARTED)

    def stop(self, name: str) -> None:
        """Sends the stop signal without waiting; supervisord kills it after its stopwaitsecs."""
        self._call("stopProcess", name, False, already=NOT_RUNNING)

    def log_end(self, size: int = 16_384) -> str:
        """The end of supervisord's own log."""
        return str(self._call("readLog", -size, 0))

    def shutdown(self) -> None:
        """Stops every program, then supervisord; returns before that has happened."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any, already: int | None = None) -> Any:
        transport = _UnixTransport(str(self.socket_path), self._timeout)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if already is not None and fault.faultCode == already:
                return None
            raise Rejected(
                f"The process manager refused {method} {' '.join(map(str, arguments))}: {fault.faultString}.",
                extra={"fault": fault.faultCode},
            ) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise Unavailable(
                f"The process manager does not answer on {self.socket_path} ({error}).",
                fix="Start the stack: python -m deploy.stack up",
            ) from error
