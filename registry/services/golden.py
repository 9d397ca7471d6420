"""Golden sets: upload."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.audit.services import record
from controlplane.kernel.errors import Conflict
from registry.domain.golden import Example, check_name, digest_of_examples, parse_jsonl, parse_objects
from registry.models import GoldenExample, GoldenSet


@requires(Action.UPLOAD_GOLDEN_SET)
def upload_golden_set(
    *, name: str, text: str | Sequence[Any], actor: Actor, now: datetime
) -> tuple[GoldenSet, bool]:
    """Keeps the examples as the next revision of `name`; returns it and whether it is new.

    `text` is JSON Lines, or the same objects as a list. Idempotent: the newest revision's content uploaded
    again gives that revision. Raises Forbidden by role, InvalidInput naming the line and field of every fault
    (see `registry.domain.golden`), Conflict when two upload at once; then nothing was kept.
    """
    check_name(name)
    examples = parse_jsonl(text) if isinstance(text, str) else parse_objects(text)
    try:
        return _keep(name, examples, actor, now)
    except IntegrityError:
        raise Conflict(
            f"Somebody else uploads {name} at this moment.", fix="Look at their revision, then try again."
        ) from None


@transaction.atomic
def _keep(name: str, examples: tuple[Example, ...], actor: Actor, now: datetime) -> tuple[GoldenSet, bool]:
    digest = digest_of_examples(examples)
    newest = GoldenSet.objects.select_for_update().filter(name=name).order_by("-revision").first()
    if newest is not None and newest.digest == digest:
        return newest, False
    made = GoldenSet.objects.create(
        name=name,
        revision=newest.revision + 1 if newest else 1,
        digest=digest,
        size=len(examples),
        created_by=actor.user,
        created_at=now,
    )
    GoldenExample.objects.bulk_create(
        [
            GoldenExample(
                golden_set=made,
                position=position,
                messages=[message.to_json() for message in example.messages],
                expected=example.expected,
                scorer=example.scorer.value,
                max_tokens=example.max_tokens,
            )
            for position, example in enumerate(examples)
        ],
        batch_size=500,
    )
    record(
        at=now,
        actor=actor.name,
        actor_kind=actor.kind,
        action="golden_set.uploaded",
        object_kind="golden_set",
        object_id=made.label,
        after={"digest": digest, "examples": len(examples)},
        request_id=actor.request_id,
    )
    return made, True
