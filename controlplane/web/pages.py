"""What the views of every room share: who asks, page or fragment, nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render, resolve_url
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers

from controlplane.access.models import User
from controlplane.access.roles import Action, require

P = ParamSpec("P")

View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sent a request, and when: what services want to know of it."""

    user: User
    now: datetime
    request_id: str


def asker(request: HttpRequest) -> Asker:
    """The signed-in person of a request that a `page` view got."""
    return Asker(
        user=cast(User, request.user),
        now=request.received_at,  # type: ignore[attr-defined]
        request_id=request.request_id,  # type: ignore[attr-defined]
    )


def page(*, needs: Action = Action.VIEW) -> Callable[[View[P]], View[P]]:
    """Marks a view as one for signed-in people whose role allows `needs`.

    Others are sent to sign in and come back, or see which role is needed. An htmx request is told to load the
    sign-in page as a whole.
    """

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            require(request.user.role, needs)
            return view(request, *args, **kwargs)

        return cast(View[P], wrapper)

    return decorate


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if is_fragment(request):
        query = QueryDict(mutable=True)
        query["next"] = request.headers.get("HX-Current-URL", "/")
        response = HttpResponse(status=204)
        response.headers["HX-Redirect"] = f"{resolve_url('sign-in')}?{query.urlencode()}"
        return response
    return redirect_to_login(request.get_full_path(), resolve_url("sign-in"))


def is_fragment(request: HttpRequest) -> bool:
    """True when htmx asks for a part of a page: neither boosted nor restoring history."""
    headers = request.headers
    return (
        headers.get("HX-Request") == "true"
        and headers.get("HX-Boosted") != "true"
        and headers.get("HX-History-Restore-Request") != "true"
    )


def render_page(
    request: HttpRequest, *, page: str, fragment: str, context: Mapping[str, object], status: int = 200
) -> HttpResponse:
    """One URL, one page: `page` as a whole, or only its `fragment` for htmx; 204 when the asker has it
    already.

    The fragment's hash travels in the HX-PTag header, which the element sends back with its next request.
    """
    if not is_fragment(request):
        response = render(request, page, dict(context), status=status)
        patch_vary_headers(response, ["HX-Request"])
        return response
    text = render_to_string(fragment, dict(context), request=request)
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    if status == 200 and request.headers.get("HX-PTag") == mark:
        response = HttpResponse(status=204)
    else:
        response = HttpResponse(text, status=status)
    response.headers["HX-PTag"] = mark
    response.headers["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["HX-Request", "HX-PTag"])
    return response


def go_to(request: HttpRequest, url: str) -> HttpResponse:
    """Sends the person to `url` after something was done."""
    if is_fragment(request):
        response = HttpResponse(status=204)
        response.headers["HX-Redirect"] = url
        return response
    response = HttpResponse(status=303)
    response.headers["Location"] = url
    return response
