"""An OTLP message of logs as bytes, read as far as it is needed.

Text is declared as bytes here, which is the same on the wire. Envoy logs headers as they came, and the usual classes
refuse a whole message for one value that is no UTF-8: any user could have had the log of all others thrown away. What
is not declared (bodies, times, nested values) is skipped, and never walked into.

Source: opentelemetry/proto/collector/logs/v1/logs_service.proto, logs/v1/logs.proto and common/v1/common.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from controlplane.kernel.errors import InvalidInput

PACKAGE = "headgate.otlp"
# Message -> its fields: name, number, and the message that it holds ("" for text).
FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Export": (("resource_logs", 1, "ResourceLogs"),),
    "ResourceLogs": (("scope_logs", 2, "ScopeLogs"),),
    "ScopeLogs": (("log_records", 2, "LogRecord"),),
    "LogRecord": (("attributes", 6, "KeyValue"),),
    "KeyValue": (("key", 1, ""), ("value", 2, "AnyValue")),
    "AnyValue": (("string_value", 1, ""),),
}
ONE = frozenset({"key", "value", "string_value"})


def records_in(body: bytes) -> Iterator[Sequence[Any]]:
    """The attributes of each record, in order: each has a `key` and a `value` with a `string_value`, as bytes. Raises
    InvalidInput at once for what is no such message."""
    try:
        export = _EXPORT.FromString(body)
    except DecodeError as error:
        raise InvalidInput("This is no ExportLogsServiceRequest.", code="odd-answer") from error
    return (
        record.attributes
        for resource in export.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


def _export_class() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="headgate/otlp.proto", package=PACKAGE, syntax="proto2")
    for message, fields in FIELDS.items():
        declared = file.message_type.add(name=message)
        for name, number, held in fields:
            field = declared.field.add(name=name, number=number)
            field.label = kinds.LABEL_OPTIONAL if name in ONE else kinds.LABEL_REPEATED
            field.type = kinds.TYPE_MESSAGE if held else kinds.TYPE_BYTES
            if held:
                field.type_name = f".{PACKAGE}.{held}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Export"))


_EXPORT = _export_class()
