"""The one way to write to the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import InvalidInput

JsonObject = Mapping[str, Any]


def record(
    *,
    at: datetime,
    actor: str,
    actor_kind: str,
    action: str,
    object_kind: str,
    object_id: str | int,
    before: JsonObject | None = None,
    after: JsonObject | None = None,
    why: str = "",
    request_id: str = "",
) -> AuditEvent:
    """Appends one event. Call it in the transaction of the change: neither exists without the other.

    `actor` is a user name, `NAME via TOKEN` for a token, or `headgate`; `actor_kind` is person, token or
    headgate; `action` is `entity.verb` in the past tense (`rollout.paused`). Raises InvalidInput on any
    other form.
    """
    if actor_kind not in AuditEvent.ActorKind.values:
        raise InvalidInput(f"There is no kind of actor {actor_kind!r}.", field="actor_kind")
    if not actor:
        raise InvalidInput("An audit event needs its actor.", field="actor")
    entity, dot, verb = action.partition(".")
    if not (entity and dot and verb):
        raise InvalidInput(
            f"{action!r} is not entity.verb.", field="action", fix="For example rollout.paused."
        )
    return AuditEvent.objects.create(
        at=at,
        actor=actor,
        actor_kind=actor_kind,
        action=action,
        object_kind=object_kind,
        object_id=str(object_id),
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        why=why,
        request_id=request_id,
    )
