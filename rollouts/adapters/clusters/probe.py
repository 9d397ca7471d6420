"""Asks a running engine over HTTP: is it healthy, how much is inside, does it answer a completion."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import httpx

from rollouts.adapters.clusters.engines import HOST, EngineTemplate

ASK_SECONDS = 2.0  # a busy engine on a busy machine answers /health late
WARM_UP_SECONDS = 120.0  # the first completion may compile kernels


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
        answer = http.get(f"http://{HOST}:{port}{template.health}", timeout=ASK_SECONDS)
    except httpx.ConnectError:
        return Health.CLOSED
    except httpx.TransportError:
        return Health.SILENT
    return Health.GOOD if answer.status_code == httpx.codes.OK else Health.BAD


def ask_in_flight(http: httpx.Client, template: EngineTemplate, port: int) -> int | None:
    """Requests running and waiting in the engine; None when it does not say."""
    if not template.in_flight:
        return None
    try:
        answer = http.get(f"http://{HOST}:{port}/metrics", timeout=ASK_SECONDS)
    except httpx.ConnectError:
        return 0
    except httpx.TransportError:
        return None
    if answer.status_code != httpx.codes.OK:
        return None
    found = False
    total = 0.0
    for metric in template.in_flight:
        for value in re.findall(rf"^{re.escape(metric)}(?:\{{.*\}})? (\S+)$", answer.text, re.MULTILINE):
            found = True
            total += float(value)
    return round(total) if found else None


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
        answer = http.post(
            f"http://{HOST}:{port}/v1/chat/completions", json=question, timeout=WARM_UP_SECONDS
        )
    except httpx.TransportError as error:
        return WarmUp(False, f"{type(error).__name__}: {error}", again=True)
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return WarmUp(False, f"HTTP {answer.status_code}: {answer.text[:300]}", again=True)
    if answer.status_code != httpx.codes.OK:
        return WarmUp(False, f"HTTP {answer.status_code}: {answer.text[:300]}")
    try:
        body = answer.json()
        choices = body["choices"]
        names = {body.get("system_fingerprint"), body.get("model")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return WarmUp(False, f"no chat completion came back: {answer.text[:300]}")
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
    return WarmUp(bool(choices), "" if choices else "a completion without choices came back")
