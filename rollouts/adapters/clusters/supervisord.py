"""A small client of supervisord's XML-RPC interface on its unix socket; what it answers is read with bounds."""

from __future__ import annotations

import http.client
import xmlrpc.client  # the peer is our own supervisord, behind a socket only its owner can open
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, whole_of, words_of
from controlplane.outbound.unix_sockets import UnixConnection

# Fault numbers of supervisor.xmlrpc.Faults that we treat as "already so".
BAD_NAME = 10
ALREADY_STARTED = 60
NOT_RUNNING = 70
ALREADY_ADDED = 90

SAID = "What the process manager says"
MOST_BYTES = 16 << 20  # of one answer
LARGEST_PID = 2**31 - 1
LONGEST_NAME = 1_000
# What a call raises when nobody answers, or answers in no XML-RPC: the library reads numbers and structures unchecked.
NO_ANSWER = (
    OSError,
    http.client.HTTPException,
    xmlrpc.client.Error,
    ExpatError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

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


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket: one deadline for the whole call, and an answer of bounded size."""

    accept_gzip_encoding = False

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__()
        self._path = path
        self._seconds = seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = UnixConnection(self._path, self._seconds)
        self._connection = host, connection  # Transport.close() closes this one
        return connection

    def parse_response(self, response: Any) -> Any:
        body = response.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise ValueError(f"it answers with more than {MOST_BYTES >> 20} MB")
        parser, unmarshaller = self.getparser()
        parser.feed(body)
        parser.close()
        return unmarshaller.close()


class Supervisor:
    """One supervisord. Every method raises Unavailable when it does not answer, Rejected when it refuses."""

    def __init__(self, socket_path: Path, *, seconds: float = 5.0) -> None:
        self.socket_path = socket_path
        self._seconds = seconds

    def programs(self) -> Mapping[str, ProgramInfo]:
        """All programs by name."""
        answer = self._call("getAllProcessInfo")
        with self._as_unavailable():
            infos = [_info(raw) for raw in Fields({"programs": answer}, SAID).parts("programs")]
        return {info.name: info for info in infos}

    def pid(self) -> int:
        answer = self._call("getPID")
        with self._as_unavailable():
            return whole_of(answer, SAID, "its pid", least=0, most=LARGEST_PID)

    def is_up(self) -> bool:
        try:
            self._call("getState")
        except Unavailable:
            return False
        return True

    def reload(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Reads the configuration files again; nothing starts or stops. Returns (added, changed, removed)."""
        answer = self._call("reloadConfig")
        with self._as_unavailable():
            match answer:
                case [[added, changed, removed]]:
                    names = Fields({"added": added, "changed": changed, "removed": removed}, SAID)
                    told = [frozenset(names.texts(kind)) for kind in ("added", "changed", "removed")]
                    return told[0], told[1], told[2]
                case _:
                    raise Fields({}, SAID).odd(
                        "reloadConfig does not list what it added, changed and removed"
                    )

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
        answer = self._call("readLog", -size, 0)
        with self._as_unavailable():
            return Fields({"log": answer}, SAID).text("log")

    def shutdown(self) -> None:
        """Stops every program, then supervisord; returns before that has happened."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any, already: int | None = None) -> Any:
        transport = _UnixTransport(self.socket_path, self._seconds)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if already is not None and fault.faultCode == already:
                return None
            raise Rejected(
                f"The process manager refused {method} {' '.join(map(str, arguments))}:"
                f" {words_of(str(fault.faultString))}.",
                extra={"fault": fault.faultCode if isinstance(fault.faultCode, int) else 0},
            ) from fault
        except NO_ANSWER as error:
            raise Unavailable(
                f"The process manager does not answer on {self.socket_path} ({words_of(str(error))}).",
                fix="Start the stack (make up) or, of a cluster with a run folder of its own, the command that"
                " `manage.py prepare_cluster NAME` prints.",
            ) from error

    @contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        """What cannot be understood says nothing: to leave one program out would be to take it for gone."""
        try:
            yield
        except InvalidInput as error:
            raise Unavailable(error.message, fix=f"See what answers on {self.socket_path}.") from error


def _info(raw: Fields) -> ProgramInfo:
    return ProgramInfo(
        name=raw.text("name", longest=LONGEST_NAME),
        state=raw.text("statename", longest=LONGEST_NAME),
        pid=raw.whole("pid", least=0, most=LARGEST_PID),
        exit_status=raw.whole("exitstatus"),
        started_at=raw.number("start", least=0.0),
        spawn_error=words_of(raw.text("spawnerr", "")),
        description=words_of(raw.text("description", "")),
    )
