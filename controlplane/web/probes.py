"""Probes of this process: alive, ready, and its metrics, for machines that know neither its name nor a password.

They answer before host names are checked, also HEAD, and write nothing. A stranger learns whether each part works and
no name of anything here; the detail is for people who are signed in and for tokens that may read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import resolve
from django.views.decorators.http import require_safe

from controlplane.access.services import Scope, live_token
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web import health, metrics

Handler = Callable[[HttpRequest], HttpResponseBase]

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class ProbeMiddleware:
    """Answers the probes itself. Stands behind the request's id and before everything that asks for a host name."""

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response
        # The only ones that a probe needs: who asks, looked up when it is asked for.
        self._probe = SessionMiddleware(AuthenticationMiddleware(_answer))

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in PATHS:
            return self._get_response(request)
        request.resolver_match = resolve(request.path_info)
        return self._probe(request)  # type: ignore[return-value]


def _answer(request: HttpRequest) -> HttpResponseBase:
    assert request.resolver_match is not None
    answer: HttpResponseBase = request.resolver_match.func(request)
    return answer


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers. Says nothing about any other part, and asks nobody."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """503 when this process is useless (no database, wrong schema). Other parts are reported: their state to
    everybody, age and words to those who may read.
    """
    parts = health.report(now=CLOCK.now())
    ready = all(part.is_ok for part in parts if part.needed)
    body = {
        "status": "unready" if not ready else "ready" if all(part.is_ok for part in parts) else "degraded",
        "parts": _in_full(parts) if _may_read(request) else _in_short(parts),
    }
    text = json.dumps(body, indent=1) + "\n"
    return HttpResponse(text, status=200 if ready else 503, content_type="application/json")


@require_safe
def metrics_text(request: HttpRequest) -> HttpResponse:
    """Prometheus' text format, for those who may read and at the addresses that the operator named."""
    if not _is_for_metrics(request) and not _may_read(request):
        response = HttpResponse(
            "Metrics need a token with the scope read: Authorization: Bearer hg_...\n"
            "HEADGATE_METRICS_ADDRESSES names addresses of this server where they need none.\n",
            status=401,
            content_type="text/plain",
        )
        response.headers["WWW-Authenticate"] = 'Bearer realm="headgate"'
        return response
    return HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _in_full(parts: Sequence[health.Part]) -> list[dict[str, Any]]:
    return [
        {
            "name": part.name,
            "state": part.state,
            "needed": part.needed,
            "age_seconds": part.age_seconds,
            "message": part.message,
        }
        for part in parts
    ]


def _in_short(parts: Sequence[health.Part]) -> list[dict[str, Any]]:
    """States alone. A pass is called after what it goes over, which may be an endpoint: all of them are one part."""
    short = [
        {"name": part.name, "state": part.state, "needed": part.needed}
        for part in parts
        if part.name in health.KNOWN_PARTS
    ]
    if len(short) < len(parts):
        others = [part for part in parts if part.name not in health.KNOWN_PARTS]
        worst = next((part.state for part in others if not part.is_ok), "ok")
        short.append({"name": "passes", "state": worst, "needed": False})
    return short


def _may_read(request: HttpRequest) -> bool:
    """Whether a person who is signed in asks, or a live token that may read. False while the database is away."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer":
            token = live_token(secret=secret.strip(), now=CLOCK.now())
            return token is not None and Scope.READ.value in token.scopes
        return request.user.is_authenticated
    except (DatabaseError, InterfaceError):
        return False


def _is_for_metrics(request: HttpRequest) -> bool:
    """Whether the request reached this server at an address that the operator named for metrics. What the client says
    (the Host header) does not count."""
    host, port = request.META.get("SERVER_NAME", ""), request.META.get("SERVER_PORT", "")
    shown_host = f"[{host}]" if ":" in host else host
    named = settings.HEADGATE.metrics_at
    return host in named or f"{shown_host}:{port}" in named
