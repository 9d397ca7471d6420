"""Receives what gateways say of answered requests: OTLP logs over gRPC (LogsService/Export).

Who sends is known by a token, one a cluster, before a byte of the message is read. The message is foreign all the
same: it has a size, a number of records and a number at a time; a record that is odd is left out, counted and told,
and the others are taken. A record names no cluster: the token does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.sealing.senders import Senders
from rollouts.adapters.request_log.otlp.pending import Pending
from rollouts.adapters.request_log.otlp.records import Answered, answered_in, attributes_in
from rollouts.adapters.request_log.otlp.wire import records_in

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
BEARER = "bearer "
MESSAGE_BYTES = 256 << 10  # Envoy sends after 16 KiB, or after a second
MOST_RECORDS = 5_000  # of one message
IN_FLIGHT = (
    256  # messages at a time; further ones are refused, and lost: a gateway's threads send one a second each
)
THREADS = 4
METADATA_BYTES = 8 << 10
TOLD_EVERY = 60.0  # seconds
CLOSE_SECONDS = 5.0

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.max_concurrent_streams", IN_FLIGHT),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # nothing packed: a few bytes could become many
    ("grpc.so_reuseport", 0),  # two receivers on one port would each get a part, and one may be an old one
    ("grpc.keepalive_time_ms", 30_000),  # a peer that went away in the middle of a message frees its place
    ("grpc.keepalive_timeout_ms", 10_000),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The receiver's certificate, with what it was signed by, and its key, in PEM."""

    certificate: Path
    key: Path


@dataclass(slots=True)
class _Counts:
    """Of one cluster since they were told last."""

    records: int = 0
    kept: int = 0
    odd: int = 0
    words: str = ""


class RequestReceiver:
    """The receiver of one installation: gRPC in front, `pending` behind it.

    address  HOST:PORT to listen on
    tls      None: in clear text, for a network where nobody else listens
    """

    def __init__(
        self, *, address: str, senders: Senders, pending: Pending, tls: TlsFiles | None = None
    ) -> None:
        self._address = address
        self._tls = tls
        self._pending = pending
        self._told = _Told()
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="otlp"),
            handlers=(_Handler(senders, pending, self._told),),
            options=OPTIONS,
            maximum_concurrent_rpcs=IN_FLIGHT,
        )
        self._ended = Event()
        self._teller = Thread(target=self._tell, name="otlp-told", daemon=True)

    def start(self) -> int:
        """Listens, and returns the port. Raises Unavailable when it cannot."""
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(self._address)
            else:
                pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
                port = self._server.add_secure_port(self._address, grpc.ssl_server_credentials([pair]))
        except (RuntimeError, OSError, ValueError) as error:
            raise Unavailable(
                f"The receiver cannot listen on {self._address}: {error}.",
                fix="Change HEADGATE_RECEIVER_ADDRESS, or end what listens there; with TLS, see the two files.",
            ) from error
        self._pending.start()
        self._server.start()
        self._teller.start()
        return int(port)

    def stop(self, seconds: float = CLOSE_SECONDS) -> int:
        """Takes no further message, answers those that are under way and hands over what waits: each for up to so many
        seconds. Returns how many entries no store has."""
        self._server.stop(seconds).wait()
        self._ended.set()
        left = self._pending.close(seconds)
        self._told.tell()
        return left

    def _tell(self) -> None:
        while not self._ended.wait(TOLD_EVERY):
            self._told.tell()


class _Told:
    """Counts, told in the log once in a while: a sender that sends nothing but odd records must not fill it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, _Counts] = {}
        self._strangers = 0

    def took(self, cluster: str, records: int, kept: int, odd: int, words: str) -> None:
        with self._lock:
            counts = self._counts.setdefault(cluster, _Counts())
            counts.records += records
            counts.kept += kept
            counts.odd += odd
            counts.words = words or counts.words

    def refused(self) -> None:
        with self._lock:
            self._strangers += 1

    def tell(self) -> None:
        with self._lock:
            found, self._counts = self._counts, {}
            strangers, self._strangers = self._strangers, 0
        for cluster, counts in found.items():
            level = logging.WARNING if counts.odd else logging.INFO
            values = (cluster, counts.records, counts.kept, counts.odd, counts.words)
            log.log(level, "receiver.took cluster=%s records=%s inferences=%s odd=%s %s", *values)
        if strangers:
            log.warning("receiver.refused messages=%s they had no token of a cluster", strangers)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Knows the one call. A sender without a token is refused without reading what it sends."""

    def __init__(self, senders: Senders, pending: Pending, told: _Told) -> None:
        self._senders = senders
        self._pending = pending
        self._told = told

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method != EXPORT:
            return None
        cluster = self._senders.cluster_of(_token(handler_call_details.invocation_metadata))
        if not cluster:
            self._told.refused()
            return grpc.stream_unary_rpc_method_handler(_refuse)  # of a stream nothing is read unasked
        return grpc.unary_unary_rpc_method_handler(self._export_of(cluster))

    def _export_of(self, cluster: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                records = records_in(body)
            except InvalidInput as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            return bytes(self._take(cluster, records).SerializeToString())

        return export

    def _take(self, cluster: str, records: Iterator[Sequence[Any]]) -> ExportLogsServiceResponse:
        found: list[Answered] = []
        number, odd, words = 0, 0, ""
        for attributes in records:
            number += 1
            if number > MOST_RECORDS:
                odd, words = odd + 1, f"One message has more than {MOST_RECORDS:,} records."
                continue
            try:
                answered = answered_in(attributes_in(attributes))
            except InvalidInput as error:
                odd, words = odd + 1, error.message
                continue
            if answered is not None:
                found.append(answered)
        if found:
            self._pending.add(cluster, found)
        self._told.took(cluster, number, len(found), odd, words)
        if not odd:
            return ExportLogsServiceResponse()
        partial = ExportLogsPartialSuccess(rejected_log_records=odd, error_message=words)
        return ExportLogsServiceResponse(partial_success=partial)


def _token(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """What follows "Bearer" in the call's metadata; "" where nothing does."""
    for name, value in metadata or ():
        if name == "authorization" and isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
            return value[len(BEARER) :].strip()
    return ""


def _refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "Send the token of a cluster: authorization: Bearer TOKEN (HEADGATE_REQUEST_SENDERS has it).",
    )
    raise AssertionError("unreachable: abort raises")
