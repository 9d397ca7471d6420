"""Feedback: a user's rating of one response, attributed to the variant that answered it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Case, DateTimeField, F, Q, QuerySet, Value, When

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound, TooMany, Unavailable
from controlplane.passes.services import Pauses, run_each
from controlplane.passes.words import error_words
from rollouts.domain.uncounted import Uncounted
from rollouts.models import Endpoint, Feedback, FeedbackState
from rollouts.ports import LoggedRequest, RequestLog
from rollouts.services.commands.uncounted import count_uncounted

logger = logging.getLogger(__name__)

MAX_ID = 80
MAX_COMMENT = 2_000
VERIFY_WITHIN = timedelta(minutes=5)
MOST_WAITING = 2_000  # of one sender, over all endpoints
COME_BACK_SECONDS = 30
LOOKED_FOR = 5_000  # at once: to ask the log for one is to look into a table in memory
SETTLED = 500  # at once: to settle one that was found is a row to write
ALONE = 20  # so many are looked for one by one, when the log fails for one of a batch
PAUSES = Pauses(first=10, longest=60)  # after the log failed for a rating
# After the log did not have it. Doubled, so that a request that still ran when it was rated is found at the latest
# after as long again as it took, and one that never was costs a dozen looks.
SET_ASIDE = Pauses(first=2, longest=30)
DOUBLINGS = 4  # then it is the longest pause


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
    Raises NotFound (endpoint), InvalidInput (naming the field), TooMany (MOST_WAITING of this actor wait to be
    verified; calls that come at the same moment may pass that by their number), Conflict (this request was rated
    already).
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
    _check_room(endpoint, actor, now)
    try:
        with transaction.atomic():
            return Feedback.objects.create(
                request_id=request_id,
                endpoint=endpoint,
                variant=variant,
                up=up,
                comment=comment,
                received_at=now,
                sent_by=actor.name,
            )
    except IntegrityError as error:
        raise Conflict(
            "This response was rated already.", code="already-rated", fix="One rating a response counts."
        ) from error


def _check_room(endpoint: Endpoint, actor: Actor, now: datetime) -> None:
    """Raises TooMany, and counts the rating as refused, when too many of the actor's wait to be verified."""
    waiting = Feedback.objects.filter(sent_by=actor.name, state=FeedbackState.PENDING)[:MOST_WAITING].count()
    if waiting < MOST_WAITING:
        return
    count_uncounted(endpoint=endpoint, more=Uncounted(refused=1), now=now)
    raise TooMany(
        f"{MOST_WAITING:,} of your ratings are still waiting for the router's log, and no more are taken.",
        fix=(
            "Send it again later: those that the log has are settled in seconds, the others are given up after "
            f"{VERIFY_WITHIN // timedelta(minutes=1)} minutes. If it stays so, what you send as request_id is not the "
            "x-request-id header of the answers."
        ),
        code="too-many-waiting-ratings",
        wait_seconds=COME_BACK_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class Rating:
    """A verified rating of an answer that the assigned variant gave itself."""

    variant: str
    up: bool
    answered_at: datetime


def due_ratings(*, now: datetime) -> QuerySet[Feedback]:
    """Ratings that wait and may be looked for now."""
    return Feedback.objects.filter(Q(not_before=None) | Q(not_before__lte=now), state=FeedbackState.PENDING)


def verify_feedback(*, endpoint: Endpoint, log: RequestLog, now: datetime) -> int:
    """Compares waiting ratings with the router's log; returns how many were settled.

    A rating whose request the router never logged as an inference, that another variant answered, or that was refused
    or failed (there is no answer to rate) is unverifiable and excluded; one of a forced variant is excluded too. While
    the log cannot be read, ratings wait. A rating whose entry in the log is odd keeps its error, and is unverifiable
    once it waited as long as one that was never logged.

    Each look takes up to LOOKED_FOR ratings: first those that were looked for least often, of these the oldest first.
    One that the log does not have yet (its request still runs, or never was) is set aside for a while that doubles, so
    that ratings of requests that never were keep no other one out. It takes a dozen senders at their bound
    (MOST_WAITING) to fill every look, and even then those that were looked for least often come first. The number of
    queries does not depend on how many wait.
    """
    due = list(
        due_ratings(now=now)
        .filter(endpoint=endpoint)
        .defer("comment")
        .order_by("looks", "not_before", "received_at", "id")[:LOOKED_FOR]
    )
    if not due:
        return 0
    found: Mapping[str, LoggedRequest] | None = None
    try:
        found = log.find([row.request_id for row in due])
    except Unavailable:
        return 0
    except Exception as error:  # it fails for one of them, nobody knows which: each is looked for by itself
        logger.warning("feedback.not_found_together endpoint=%s %s", endpoint.name, error_words(error))
    look = _Look(endpoint, now)

    def settle(row: Feedback) -> None:
        try:
            request = (found if found is not None else log.find([row.request_id])).get(row.request_id)
            if request is None:
                look.missed.append(row)
                return
            look.found(row, request)
        except Unavailable:
            raise
        except Exception:
            if not look.is_over(row):
                look.failed.append(row)
                raise
            look.missed.append(row)

    if found is not None:
        look.missed = [row for row in due if row.request_id not in found]
    run_each(
        name=f"ratings of {endpoint.name}",
        items=due if found is None else [row for row in due if row.request_id in found],
        key=lambda row: row.pk,
        label=lambda row: f"request {row.request_id}",
        work=settle,
        clock=ManualClock(now),
        source=lambda: log.find([]),
        pauses=PAUSES,
        most=ALONE if found is None else SETTLED,
    )
    return look.keep()


class _Look:
    """What one look into the log found, until it is written.

    settled  ratings whose request the log has
    missed   those it does not have
    failed   those for which it failed; how long they are left alone is up to `run_each`, which keeps their errors
    """

    def __init__(self, endpoint: Endpoint, now: datetime) -> None:
        self.endpoint, self.now = endpoint, now
        self.settled: list[Feedback] = []
        self.missed: list[Feedback] = []
        self.failed: list[Feedback] = []

    def is_over(self, row: Feedback) -> bool:
        """Whether the rating waited long enough."""
        return self.now - row.received_at > VERIFY_WITHIN

    def found(self, row: Feedback, request: LoggedRequest) -> None:
        """Settles a rating by its request. Raises InvalidInput for an odd entry of the log."""
        row.state = _state_of(row, request, self.endpoint, self.now)
        self.settled.append(row)

    def keep(self) -> int:
        """Writes it all; returns how many ratings were settled, those that are given up among them."""
        over = [row.pk for row in self.missed if self.is_over(row)]
        aside = [row.pk for row in self.missed if not self.is_over(row)]
        with transaction.atomic():
            Feedback.objects.bulk_update(self.settled, ["state", "assigned", "answered_at"])
            if over:
                Feedback.objects.filter(pk__in=over).update(state=FeedbackState.UNVERIFIABLE)
            if aside:
                Feedback.objects.filter(pk__in=aside).update(
                    looks=F("looks") + 1, not_before=_later(self.now)
                )
            if self.failed:
                failed = Feedback.objects.filter(pk__in=[row.pk for row in self.failed])
                failed.update(looks=F("looks") + 1)
            states = Counter(row.state for row in self.settled)
            uncounted = Uncounted(
                unverifiable=states[FeedbackState.UNVERIFIABLE] + len(over),
                forced=states[FeedbackState.FORCED],
            )
            count_uncounted(endpoint=self.endpoint, more=uncounted, now=self.now)
        return len(self.settled) + len(over)


def _later(now: datetime) -> Case:
    """When a rating is looked for again, by how often it was in vain before."""
    pauses = (
        When(looks=looks, then=Value(now + SET_ASIDE.after(looks + 1), output_field=DateTimeField()))
        for looks in range(DOUBLINGS)
    )
    return Case(*pauses, default=Value(now + SET_ASIDE.after(DOUBLINGS + 1), output_field=DateTimeField()))


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


def ratings_between(
    *, endpoint_ids: Collection[int], start: datetime, end: datetime
) -> dict[int, tuple[Rating, ...]]:
    """Verified ratings by endpoint, of answers that fell in [start, end). 1 query.

    Only of answers by the assigned variant itself: one that the fallback answered is an error of its arm, which has
    no answer to rate, and none of the fallback's arm.
    """
    rows = Feedback.objects.filter(
        endpoint__in=endpoint_ids,
        state=FeedbackState.VERIFIED,
        answered_at__gte=start,
        answered_at__lt=end,
        assigned=F("variant"),
    ).values_list("endpoint", "assigned", "up", "answered_at")
    found: dict[int, list[Rating]] = {number: [] for number in endpoint_ids}
    for endpoint, assigned, up, answered_at in rows:
        if answered_at is not None:
            found[endpoint].append(Rating(assigned, up, answered_at))
    return {endpoint: tuple(ratings) for endpoint, ratings in found.items()}


def count_ratings(ratings: Iterable[Rating], *, start: datetime, end: datetime) -> dict[str, tuple[int, int]]:
    """Variant -> (ratings, thumbs down) of answers that fell in [start, end)."""
    counts: dict[str, tuple[int, int]] = {}
    for rating in ratings:
        if start <= rating.answered_at < end:
            number, down = counts.get(rating.variant, (0, 0))
            counts[rating.variant] = (number + 1, down + (not rating.up))
    return counts
