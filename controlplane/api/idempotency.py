"""Idempotency-Key: a POST that is sent twice is done once.

The same key with the same method, path and body gives the first answer again, marked by the header
`Idempotency-Replayed: true`; with another body, or while the first call still runs, it is a conflict. Only
successes are kept: a call that failed changed nothing, so its key is free for the next try. Keys belong to a
person and are kept for a day.

A process that dies in the middle holds its key for LOCK_TIME; a retry after that runs again, and meets the
state tables and constraints of the domain like any other call.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.crypto import constant_time_compare, salted_hmac
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from controlplane.access.models import User
from controlplane.api.models import IdempotencyRecord
from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.timekeeping.claims import free
from controlplane.timekeeping.database_clock import CLOCK

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_FOR = timedelta(hours=24)
LOCK_TIME = timedelta(seconds=60)
LONGEST_KEY = 200
KEPT_HEADERS = ("Location",)

clock: Clock = CLOCK

V = TypeVar("V", bound=APIView)
P = ParamSpec("P")
CallHandler = Callable[Concatenate[V, Request, P], Response]


def idempotent(handler: CallHandler[V, P]) -> CallHandler[V, P]:
    """Wraps a view's `post`: it honours the Idempotency-Key header. Without the header nothing changes."""

    @functools.wraps(handler)
    def wrapped(view: V, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Response:
        key = request.headers.get(HEADER, "")
        if not key:
            return handler(view, request, *args, **kwargs)
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise InvalidInput(
                f"The {HEADER} header is longer than {LONGEST_KEY} characters or holds unprintable ones.",
                field=HEADER,
                fix="Send a UUID, or another short unique string.",
            )
        assert isinstance(request.user, User)  # HasScope has let nobody else through
        record, answer = _claim(
            user=request.user, key=key, fingerprint=_fingerprint(request), now=clock.now()
        )
        if answer is not None:
            return answer
        try:
            response = handler(view, request, *args, **kwargs)
        except BaseException:
            record.delete()
            raise
        if response.status_code >= 300:
            record.delete()
        else:
            _keep(record, response)
        return response

    wrapped.is_idempotent = True  # type: ignore[attr-defined]  # a test asks every POST of the API for it
    return wrapped


def forget_expired(*, now: datetime) -> int:
    """Deletes answers kept long enough; returns how many. Idempotent; for the periodic sweep."""
    deleted, _ = IdempotencyRecord.objects.filter(expires_at__lte=now).delete()
    return deleted


def _claim(
    *, user: User, key: str, fingerprint: str, now: datetime
) -> tuple[IdempotencyRecord, Response | None]:
    """Takes the key for this call, or finds the answer given before. Raises Conflict as the module says."""
    fresh = {
        "fingerprint": fingerprint,
        "locked_until": now + LOCK_TIME,
        "expires_at": now + KEPT_FOR,
        "status": None,
        "body": None,
        "headers": {},
    }
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(user=user, key=key, **fresh), None
    except IntegrityError:
        record = IdempotencyRecord.objects.filter(user=user, key=key).first()
    left_behind = free("locked_until", now=now, lifetime=LOCK_TIME)
    free_again = free("expires_at", now=now, lifetime=KEPT_FOR) | (Q(status=None) & left_behind)
    # One compare-and-set decides between two calls that both find the key free again.
    if record is not None and IdempotencyRecord.objects.filter(free_again, id=record.id).update(**fresh):
        record.refresh_from_db()
        return record, None
    if record is not None and not constant_time_compare(record.fingerprint, fingerprint):
        raise Conflict(
            f"The {HEADER} {key!r} was used before for another call or another body.",
            fix="Use a new key for a new call.",
            code="idempotency-key-reused",
        )
    if record is None or record.status is None:
        raise Conflict(
            f"A call with the {HEADER} {key!r} is still running.",
            fix="Wait a few seconds and send the same call again.",
            code="idempotency-key-in-use",
        )
    headers = {**record.headers, REPLAYED_HEADER: "true"}
    return record, Response(record.body, status=record.status, headers=headers)


def _keep(record: IdempotencyRecord, response: Response) -> None:
    record.status = response.status_code
    record.body = json.loads(json.dumps(response.data, cls=JSONEncoder))
    record.headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    record.save(update_fields=["status", "body", "headers"])


def _fingerprint(request: Request) -> str:
    """Tells calls apart. Keyed, so that nobody who reads the database can try out what secret a body held."""
    http = request._request
    called = f"{http.method} {http.get_full_path()}\n".encode()
    return "hmac:" + salted_hmac(__name__, called + http.body, algorithm="sha256").hexdigest()
