"""Feedback: a user's rating of one response, attributed to the variant that answered it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.passes.services import Pauses, run_each
from controlplane.passes.words import error_words
from rollouts.models import Endpoint, Feedback, FeedbackState, Rollout
from rollouts.ports import LoggedRequest, RequestLog

logger = logging.getLogger(__name__)

MAX_ID = 80
MAX_COMMENT = 2_000
VERIFY_WITHIN = timedelta(minutes=5)
BATCH = 500
ALONE = 20  # so many are looked for one by one, when the log fails for one of a batch
PAUSES = Pauses(first=10, longest=60)


@requires(Action.RATE_ANSWER)
def record_feedback(
    *,
    endpoint_name: str,
    request_id: str,
    variant: str,
    up: bool,
    actor: Actor,
    now: datetime,
    comment: str = "",
) -> Feedback:
    """Keeps a rating; the loop verifies it against the router's log before it counts.

    `request_id` and `variant` are the headers x-request-id and x-headgate-variant that came with the answer.
    Raises NotFound (endpoint), InvalidInput (naming the field), Conflict (this request was rated already).
    """
    endpoint = Endpoint.objects.filter(name=endpoint_name).first()
    if endpoint is None:
        raise NotFound(f"There is no endpoint {endpoint_name!r}.", code="endpoint-not-found")
    if not 8 <= len(request_id) <= MAX_ID:
        raise InvalidInput(
            "This is no request id.", field="request_id", fix="Send the x-request-id header of the answer."
        )
    if not endpoint.variants.filter(name=variant).exists():
        raise InvalidInput(
            f"{endpoint_name} has no variant {variant!r}.",
            field="variant",
            fix="Send the x-headgate-variant header of the answer.",
        )
    if len(comment) > MAX_COMMENT:
        raise InvalidInput(f"A comment has at most {MAX_COMMENT:,} characters.", field="comment")
    try:
        with transaction.atomic():
            return Feedback.objects.create(
                request_id=request_id,
                endpoint=endpoint,
                variant=variant,
                up=up,
                comment=comment,
                received_at=now,
            )
    except IntegrityError as error:
        raise Conflict(
            "This response was rated already.", code="already-rated", fix="One rating a response counts."
        ) from error


def verify_feedback(*, endpoint: Endpoint, log: RequestLog, now: datetime) -> int:
    """Compares waiting ratings with the router's log; returns how many were settled.

    A rating whose request the router never logged as an inference, that another variant answered, or that was refused
    or failed (there is no answer to rate) is unverifiable and excluded; one of a forced variant is excluded too. While
    the log cannot be read, ratings wait. A rating whose entry in the log is odd keeps its error, and is unverifiable
    once it waited as long as one that was never logged.
    """
    waiting = list(
        Feedback.objects.filter(endpoint=endpoint, state=FeedbackState.PENDING).order_by("id")[:BATCH]
    )
    if not waiting:
        return 0
    found: Mapping[str, LoggedRequest] | None = None
    try:
        found = log.find([row.request_id for row in waiting])
    except Unavailable:
        return 0
    except Exception as error:  # it fails for one of them, nobody knows which: each is looked for by itself
        logger.warning("feedback.not_found_together endpoint=%s %s", endpoint.name, error_words(error))
    settled: list[Feedback] = []

    def settle(row: Feedback) -> None:
        try:
            request = (found if found is not None else log.find([row.request_id])).get(row.request_id)
            state = None if request is None else _state_of(row, request, endpoint, now)
        except Unavailable:
            raise
        except Exception:
            if now - row.received_at <= VERIFY_WITHIN:
                raise
            state = FeedbackState.UNVERIFIABLE
        if state is None and now - row.received_at > VERIFY_WITHIN:
            state = FeedbackState.UNVERIFIABLE
        if state is not None:
            row.state = state
            settled.append(row)

    run_each(
        name=f"ratings of {endpoint.name}",
        items=waiting,
        key=lambda row: row.pk,
        label=lambda row: f"request {row.request_id}",
        work=settle,
        clock=ManualClock(now),
        source=lambda: log.find([]),
        pauses=PAUSES,
        most=BATCH if found is not None else ALONE,
    )
    Feedback.objects.bulk_update(settled, ["state", "assigned", "answered_at"])
    return len(settled)


def _state_of(row: Feedback, request: LoggedRequest, endpoint: Endpoint, now: datetime) -> str:
    try:
        row.answered_at = datetime.fromtimestamp(request.at, tz=now.tzinfo)
    except (OverflowError, ValueError, OSError, TypeError) as error:
        raise InvalidInput(f"The router's log says it was answered at {request.at!r:.40}.") from error
    row.assigned = request.assigned
    of_this = request.endpoint == endpoint.name and request.answered == row.variant
    if not of_this or not 200 <= request.status < 300:  # there is no answer to rate
        return FeedbackState.UNVERIFIABLE
    return FeedbackState.VERIFIED if request.assigned else FeedbackState.FORCED


def ratings_between(*, rollout: Rollout, start: datetime, end: datetime) -> dict[str, tuple[int, int]]:
    """Variant -> (ratings, thumbs down) of verified ratings whose answers fell in [start, end).

    Only of answers by the assigned variant itself: one that the fallback answered is an error of its arm, which has
    no answer to rate, and none of the fallback's arm.
    """
    rows = Feedback.objects.filter(
        endpoint=rollout.endpoint_id,
        state=FeedbackState.VERIFIED,
        answered_at__gte=start,
        answered_at__lt=end,
        assigned=F("variant"),
    ).values_list("assigned", "up")
    counts: dict[str, tuple[int, int]] = {}
    for assigned, up in rows:
        ratings, down = counts.get(assigned, (0, 0))
        counts[assigned] = (ratings + 1, down + (not up))
    return counts
