"""A prober that asks the data plane in memory."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kernel.errors import NotFound, Rejected, Unavailable
from rollouts.adapters.probers.openai import LATER
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.ports import Answer


class MemoryProber:
    """A Prober over a MemoryRouter. No time passes; an engine slower than `timeout` gives no answer."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router

    def ask(
        self,
        *,
        endpoint: str,
        variant: str,
        messages: tuple[Mapping[str, str], ...],
        max_tokens: int,
        timeout: float,
    ) -> Answer:
        try:
            response = self._router.send(endpoint, forced=variant, messages=messages)
        except NotFound as error:
            raise Rejected(f"{variant} answered HTTP 404: {error}") from error
        if response.status >= 500 or response.status in LATER:
            raise Unavailable(f"{variant} answered HTTP {response.status}.")
        if response.status >= 300:
            raise Rejected(f"{variant} answered HTTP {response.status}: the request is refused.")
        if response.broken:
            raise Unavailable(f"{variant} broke off its answer.")
        if not response.status or response.duration_seconds > timeout:
            raise Unavailable(f"{variant} did not finish its answer within {timeout:g} s.")
        words = response.text.split(" ")
        tokens = min(len(words) + 1, max_tokens)  # the end is one
        words = words[:max_tokens]
        return Answer(
            text=" ".join(words),
            variant=response.answered,
            seconds=response.duration_seconds,
            first_token_seconds=response.ttft_seconds,
            tokens=tokens,
        )
