"""Whether proxies serve a route: asked through the gateway, so that a gateway that hangs keeps nobody waiting but for a
moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.routers.gateway_api.kept import KeptQuestions
from rollouts.adapters.routers.gateway_api.user import ServedAnswer

MOMENT_SECONDS = 0.25  # a gateway that is near answers within a few milliseconds

_Question = tuple[str, str, int]  # host, variant, revision
AskServed = Callable[[str, str], ServedAnswer]  # (host, variant); raises HeadgateError; bounds its own time


class RouteQuestions:
    """Asks about routes, and keeps what is not answered yet until it is asked again. Safe for several threads.

    ask   asks a variant behind a host (`GatewayUser.served`)
    """

    def __init__(self, ask: AskServed, *, moment_seconds: float = MOMENT_SECONDS) -> None:
        self._ask = ask
        self._moment_seconds = moment_seconds
        self._kept: KeptQuestions[_Question, ServedAnswer] = KeptQuestions("asks-gateways")

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
        self._kept.begin(question, partial(self._ask, host, variant))
        return question

    def _said(self, question: _Question, until: float) -> str:
        """What the answer lacks, "" for nothing; waits for it until then."""
        _, variant, revision = question
        result = self._kept.take(question, until=until)
        if result is None:
            return f"{variant} has not answered yet"
        try:
            answer = result()
        except HeadgateError as error:
            return error.message
        if answer.by != variant:
            return f"{variant} was asked, but {answer.by} answered"
        if answer.revision < revision:
            return f"{variant} answered by revision {answer.revision} of the route, not by {revision}"
        return ""
