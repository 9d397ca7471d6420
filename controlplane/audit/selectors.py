"""Reads of the audit trail."""

from __future__ import annotations

from controlplane.audit.models import AuditEvent


def events_of(*, object_kind: str, object_id: str | int, limit: int = 50) -> list[AuditEvent]:
    """The newest events of one object, newest first, at most `limit`."""
    return list(AuditEvent.objects.filter(object_kind=object_kind, object_id=str(object_id))[:limit])
