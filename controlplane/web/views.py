"""Pages that belong to no app: sign in, search and the live stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from urllib.parse import urlsplit

from django.contrib.auth import aget_user, login, logout
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.access.hashing import TooBusy
from controlplane.access.sign_in import check_sign_in
from controlplane.kernel.errors import InvalidInput
from controlplane.web import live, shell
from controlplane.web.pages import page
from controlplane.web.problems import status_and_wait

MAX_TOPICS = 20
MAX_TOPIC_LENGTH = 120
LONGEST_ADDRESS = 2_000  # Django refuses to redirect to a longer one


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The form, and what it posts. Goes on to `next` when that is an address of this site."""
    wanted = request.POST.get("next", request.GET.get("next", ""))
    onward = _onward(request, wanted)
    if request.method == "GET":
        if request.user.is_authenticated:
            return HttpResponseRedirect(onward)
        return render(request, "web/sign_in.html", {"next": wanted})
    username = request.POST.get("username", "")
    try:
        user = check_sign_in(
            username=username,
            password=request.POST.get("password", ""),
            address=request.META.get("REMOTE_ADDR", ""),
            now=request.received_at,  # type: ignore[attr-defined]
        )
    except (InvalidInput, TooBusy) as refused:
        context = {"next": wanted, "username": username, "refused": refused}
        status, wait = status_and_wait(refused)
        response = render(request, "web/sign_in.html", context, status=status)
        if wait:
            response.headers["Retry-After"] = wait
        return response
    login(request, user)
    return HttpResponseRedirect(onward)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ends the session."""
    logout(request)
    return redirect("sign-in")


def _onward(request: HttpRequest, wanted: str) -> str:
    """`wanted` when it is an address of this site, else the overview. htmx names the full address of its page."""
    overview = reverse("overview")
    try:
        parts = urlsplit(wanted)
    except ValueError:  # a host in brackets that is none
        return overview
    if parts.netloc == request.get_host():
        wanted = parts._replace(scheme="", netloc="").geturl()
    is_ours = wanted.startswith("/") and len(wanted) <= LONGEST_ADDRESS
    return wanted if is_ours and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else overview


@require_GET
@page()
def search(request: HttpRequest) -> HttpResponse:
    """Where `q` can be found, as a list of links (a fragment only)."""
    words = request.GET.get("q", "")[:100]
    return render(request, "web/_hits.html", {"words": words, "found": shell.search(words)})


@require_GET
@page()
def banners(request: HttpRequest) -> HttpResponse:
    """The bands over every page, as they are now (a fragment only)."""
    return render(request, "web/_banners.html", {"banners": shell.banners(request)})


@require_GET
async def events(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events: `changed` with a topic as data, for each of `topics` (by comma), and for all of them at once
    (`everything`) when too much changed to tell it apart.

    Starts after `Last-Event-ID`, or after `after` on the first connection. Signed-in people only.
    """
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse("Sign in to listen.", status=403, content_type="text/plain")
    topics = [topic for topic in request.GET.get("topics", "").split(",") if topic]
    if not topics or len(topics) > MAX_TOPICS or any(len(topic) > MAX_TOPIC_LENGTH for topic in topics):
        raise InvalidInput(f"topics must name 1 to {MAX_TOPICS} topics, by comma.", field="topics")
    last_id = _event_id(request.headers.get("Last-Event-ID", "")) or _event_id(request.GET.get("after", ""))
    stream = _stream(request, topics, last_id)
    response = StreamingHttpResponse(stream, content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _stream(request: HttpRequest, topics: list[str], last_id: int | None) -> AsyncIterator[bytes]:
    checked = monotonic()
    async for hint in live.feed().listen(topics, last_id=last_id):
        # By the clock as well: where much happens no heartbeat comes.
        if hint is None or monotonic() - checked >= live.HEARTBEAT_SECONDS:
            if not (await aget_user(request)).is_authenticated:
                return  # the sessions of this person were ended, or their password changed
            checked = monotonic()
        if hint is None:
            yield b": alive\n\n"
        else:
            yield f"id: {hint.id}\nevent: changed\ndata: {hint.topic}\n\n".encode()


def _event_id(raw: str) -> int | None:
    return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 19 else None
