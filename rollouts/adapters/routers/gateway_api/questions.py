"""Whether proxies serve a route: asked through the gateway, in threads of its own, so that a gateway that hangs keeps
nobody waiting but for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.routers.gateway_api.user import ServedAnswer

MOMENT_SECONDS = 0.25  # a gateway that is near answers within a few milliseconds
ASKED_AT_ONCE = 16
MOST_KEPT = 1_000  # questions whose answer nobody came back for are forgotten together

_Question = tuple[str, str, int]  # host, variant, revision
AskServed = Callable[[str, str], ServedAnswer]  # (host, variant); raises HeadgateError; bounds its own time


class RouteQuestions:
    """Asks about routes, and keeps what is not answered yet until it is asked again. Safe for several threads.

    ask   asks a variant behind a host (`GatewayUser.served`)
    """

    def __init__(self, ask: AskServed, *, moment_seconds: float = MOMENT_SECONDS) -> None:
        self._ask = ask
        self._moment_seconds = moment_seconds
        self._pool = ThreadPoolExecutor(max_workers=ASKED_AT_ONCE, thread_name_prefix="asks-gateways")
        self._lock = threading.Lock()
        self._asked: dict[_Question, Future[ServedAnswer]] = {}

    def unproven(self, host: str, revision: int, *, every: Sequence[str], some: Sequence[str]) -> str:
        """Why it is not proven that a proxy serves this revision of the host's route: "" when it is.

        every   variants that must all answer themselves by it
        some    where there is nobody in `every`: one of these must, and they are asked in this order

        Each is asked by one request; one without an answer is not asked again before that has ended. Waits a moment at
        most, whatever there is to ask.
        """
        until = time.monotonic() + self._moment_seconds
        if every:
            asked = [self._begun(host, revision, variant) for variant in every]
            return "; ".join(filter(None, (self._said(key, until) for key in asked)))
        said = []
        for variant in some:
            words = self._said(self._begun(host, revision, variant), until)
            if not words:
                return ""
            said.append(words)
        return "; ".join(dict.fromkeys(said)) or "the route has no variant to be asked"

    def _begun(self, host: str, revision: int, variant: str) -> _Question:
        """Asks, unless it is asked already."""
        question = (host, variant, revision)
        with self._lock:
            if len(self._asked) > MOST_KEPT:
                self._asked.clear()
            if question not in self._asked:
                self._asked[question] = self._pool.submit(self._ask, host, variant)
        return question

    def _said(self, question: _Question, until: float) -> str:
        """What the answer lacks, "" for nothing; waits for it until then."""
        _, variant, revision = question
        with self._lock:
            future = self._asked.get(question)
        if future is None:
            return f"{variant} has not answered yet"
        wait([future], timeout=max(0.0, until - time.monotonic()))
        if not future.done():
            return f"{variant} has not answered yet"
        with self._lock:
            self._asked.pop(question, None)
        try:
            answer = future.result()
        except HeadgateError as error:
            return error.message
        if answer.by != variant:
            return f"{variant} was asked, but {answer.by} answered"
        if answer.revision < revision:
            return f"{variant} answered by revision {answer.revision} of the route, not by {revision}"
        return ""
