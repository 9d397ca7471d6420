"""Asks a running engine over HTTP: is it healthy, how much is inside, does it answer a completion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import INT64, Fields, parsed, words_of
from controlplane.outbound.asking import Received, ask
from rollouts.adapters.clusters.engines import HOST, EngineTemplate
from rollouts.adapters.signals.exposition import samples

ASK_SECONDS = 2.0  # a busy engine on a busy machine answers /health late
WARM_UP_SECONDS = 120.0  # the first completion may compile kernels
MOST_BYTES = 8 << 20  # of an answer
LONGEST_NAME = 1_000


class Health(StrEnum):
    """What /health said. CLOSED: nobody listens, so nothing is inside either."""

    GOOD = "good"
    BAD = "bad"
    SILENT = "silent"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a warm-up went. `again`: it may work later; otherwise `problem`, when not empty, is final."""

    ok: bool
    problem: str = ""
    again: bool = False
    stranger: bool = False


def ask_health(http: httpx.Client, template: EngineTemplate, port: int) -> Health:
    try:
        answer = _ask(http, "GET", port, template.health, ASK_SECONDS)
    except httpx.ConnectError:
        return Health.CLOSED
    except httpx.TransportError:
        return Health.SILENT
    return Health.GOOD if answer.ok else Health.BAD


def ask_in_flight(http: httpx.Client, template: EngineTemplate, port: int) -> int | None:
    """Requests running and waiting in the engine; None when it does not say, or says what can be no number of them."""
    if not template.in_flight:
        return None
    try:
        answer = _ask(http, "GET", port, "/metrics", ASK_SECONDS)
    except httpx.ConnectError:
        return 0
    except httpx.TransportError:
        return None
    if not answer.ok or not answer.whole:
        return None
    try:
        found = [sample.amount for sample in samples(answer.text) if sample.name in template.in_flight]
    except InvalidInput:
        return None
    total = sum(found)
    return round(total) if found and total <= INT64 else None


def warm_up(
    http: httpx.Client, variant: str, endpoint: str, port: int, *, is_ours: Callable[[], bool | None]
) -> WarmUp:
    """One short chat completion. It must come from `variant`: a stranger on the port does not count.

    The engine is asked by the endpoint's name, as users do. That it is ours is proved by any of three things: its
    `system_fingerprint` is the variant's name; it calls itself by the variant's name (engines that an earlier version
    launched, and declared ones); or the process that listens on the port is the one that was launched.

    is_ours     whether that process listens there; None when it cannot be seen who does
    """
    question = {
        "model": endpoint,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 2,
        "temperature": 0,
    }
    try:
        answer = _ask(http, "POST", port, "/v1/chat/completions", WARM_UP_SECONDS, json=question)
    except httpx.TransportError as error:
        return WarmUp(False, f"{type(error).__name__}: {words_of(str(error))}", again=True)
    if answer.status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return WarmUp(False, f"HTTP {answer.status}: {answer.words()}", again=True)
    if not answer.ok or not answer.whole:
        return WarmUp(False, f"HTTP {answer.status}: {answer.words()}")
    try:
        body = Fields(parsed(answer.body))
        choices = len([*body.parts("choices")])
        names = {body.exact(name, "", longest=LONGEST_NAME) for name in ("system_fingerprint", "model")}
        if "choices" not in body:
            raise body.odd("choices is missing")
    except InvalidInput:
        return WarmUp(False, f"no chat completion came back: {answer.words()}")
    if variant not in names:
        ours = is_ours()
        if ours is None:
            return WarmUp(
                False,
                f"nothing proves that {variant} answered on port {port}: give the engine {{variant}} as the"
                " system_fingerprint or first model name of its answers, or run it as a process of this user",
                stranger=True,
            )
        if not ours:
            return WarmUp(False, f"another program answered on port {port}, not {variant}", stranger=True)
    return WarmUp(choices > 0, "" if choices else "a completion without choices came back")


def _ask(http: httpx.Client, method: str, port: int, path: str, seconds: float, **arguments: Any) -> Received:
    url = f"http://{HOST}:{port}{path}"
    return ask(http, method, url, most_bytes=MOST_BYTES, seconds=seconds, **arguments)
