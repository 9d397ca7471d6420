"""Records as a gateway sends them, and a sender."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from rollouts.adapters.request_log.otlp.receiver import EXPORT
from rollouts.adapters.request_log.otlp.records import Answered

VARIANT = "chat-v2-bbbb"


def attributes(request_id: str = "id-of-a-request", **changes: str) -> dict[str, str]:
    """Of one request that was drawn and answered with 200. `changes`: attributes without their prefix."""
    usual = {
        "id": request_id,
        "at": "1796008958.794",
        "route": "httproute/models/chat/rule/2/match/0/chat_models_test",
        "method": "POST",
        "asked_for": "-",
        "variant": VARIANT,
        "status": "200",
        "details": "via_upstream",
    }
    return {f"headgate.{name}": value for name, value in {**usual, **changes}.items()}


def answered(
    request_id: str = "id-of-a-request", *, at: float = 1796008958.794, status: int = 200
) -> Answered:
    return Answered(request_id, "models", "chat", VARIANT, False, status, at)


def record(values: Mapping[str, str]) -> LogRecord:
    pairs = [KeyValue(key=name, value=AnyValue(string_value=value)) for name, value in values.items()]
    return LogRecord(attributes=pairs)


def message(records: Iterable[LogRecord]) -> ExportLogsServiceRequest:
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=list(records))])]
    )


class Sender:
    """Sends to a receiver, as a with block. `metadata`: of every call."""

    def __init__(
        self, port: int, token: str = "", *, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        where = f"127.0.0.1:{port}"
        self._channel = (
            grpc.insecure_channel(where) if credentials is None else grpc.secure_channel(where, credentials)
        )
        self.metadata: list[tuple[str, str]] = [("authorization", f"Bearer {token}")] if token else []

    def send(
        self, request: ExportLogsServiceRequest, *, compression: grpc.Compression | None = None
    ) -> ExportLogsServiceResponse:
        """Raises grpc.RpcError with what the receiver says."""
        answer = ExportLogsServiceResponse()
        answer.ParseFromString(self.send_bytes(request.SerializeToString(), compression=compression))
        return answer

    def send_bytes(
        self, body: bytes, *, method: str = EXPORT, compression: grpc.Compression | None = None
    ) -> bytes:
        call = self._channel.unary_unary(method)
        return bytes(call(body, metadata=self.metadata, timeout=20, compression=compression))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
