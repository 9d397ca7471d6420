"""Whether the gateway's processes have endpoints for whom they are to send more to: asked of whoever reads their
counters, in threads of its own.

The forced request of `questions` goes by a cluster of the gateway that only forced requests use, and finds one process.
What the split draws is another cluster, in every process, and may get its endpoints later (docs/gateway-api.md).

Who lacks endpoints gets no share, however long that lasts. Whether they lack them may be unknown: then the answer is
waited for, but not for ever, because a rollback may need a share to begin while whoever counts is away. After
`BLIND_SECONDS` in which nobody could say anything, four times what a proxy waits for endpoints by itself, the forced
request has to do as a proof. Of a route of which a lack was seen it never does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from controlplane.kernel.clock import Clock, ClockReading, seconds_between
from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.routers.gateway_api.counted import CountedRoute, EndpointsAnswer
from rollouts.adapters.routers.gateway_api.kept import KeptQuestions
from rollouts.adapters.routers.gateway_api.questions import MOMENT_SECONDS

BLIND_SECONDS = 60.0

# For whom the gateway has endpoints at these places of a route. What is older than its `since` counts for nothing.
# Raises HeadgateError when nobody can say; bounds its own time.
AskEndpoints = Callable[[CountedRoute], EndpointsAnswer]

log = logging.getLogger(__name__)


class EndpointQuestions:
    """See the module. Safe for several threads, as long as one at a time asks about a route."""

    def __init__(self, ask: AskEndpoints, clock: Clock, *, moment_seconds: float = MOMENT_SECONDS) -> None:
        self._ask = ask
        self._clock = clock
        self._moment_seconds = moment_seconds
        self._kept: KeptQuestions[tuple[str, int], EndpointsAnswer] = KeptQuestions("asks-for-endpoints")
        self._blind: dict[
            str, tuple[int, ClockReading]
        ] = {}  # by route: its revision, and since when nobody can say

    def lack(self, route: CountedRoute, revision: int, *, seen: bool) -> EndpointsAnswer:
        """What is known of these places of this revision. `seen`: a lack was seen before. Waits a moment at most."""
        question = route.route, revision
        self._kept.begin(question, partial(self._ask, route))
        result = self._kept.take(question, until=time.monotonic() + self._moment_seconds)
        if result is None:
            return EndpointsAnswer("whoever counts has not said yet which endpoints there are", seen)
        try:
            answer = result()
        except HeadgateError as error:
            return EndpointsAnswer(self._unknown(route.route, revision, error, seen=seen), seen)
        self._blind.pop(route.route, None)
        return answer

    def _unknown(self, route: str, revision: int, error: HeadgateError, *, seen: bool) -> str:
        now = self._clock.reading()
        of, since = self._blind.get(route, (revision, now))
        if of != revision:
            since = now
        self._blind[route] = (revision, since)
        if not seen and seconds_between(since, now) >= BLIND_SECONDS:
            log.warning("router.endpoints_unknown route=%s revision=%s %s", route, revision, error.message)
            return ""
        return f"nobody can say which endpoints there are: {error.message.rstrip('.')}"
