"""The edge: what no view could read is refused before any view, through whichever door it came.

Path, query, forms and cookies are looked at here; JSON bodies when they are parsed (`controlplane.api.parsers`). A NUL
character, half of a surrogate pair, another character set than UTF-8, or more than a bound is answered with 400 and the
name of the field. A cookie that cannot be read is as if it had not been sent: nobody typed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_cache_control

from controlplane.kernel.errors import NotFound, Unreadable
from controlplane.kernel.plain import LARGEST, check_text, is_plain_text, shown
from controlplane.web.problems import problem_page

Handler = Callable[[HttpRequest], HttpResponseBase]

LONGEST_PATH = 2_000
LONGEST_QUERY = 64_000  # the live plan of a new rollout sends its whole form in one


class EdgeMiddleware:
    """Refuses what cannot be read. Stands before sessions: a session's cookie is input, too."""

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.COOKIES = {name: value for name, value in request.COOKIES.items() if is_plain_text(value)}
        try:
            _check_address(request)
        except Unreadable as error:
            return problem_page(request, error, bare=True)
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        if any(isinstance(value, int) and value > LARGEST for value in kwargs.values()):
            return problem_page(request, NotFound(f"There is nothing at {shown(request.path)}."), bare=True)
        # What may be posted without the form's own token is no form: those views read their bodies themselves.
        if request.method == "POST" and not getattr(view, "csrf_exempt", False):
            try:
                _check_values(request.POST.lists())
            except Unreadable as error:
                return problem_page(request, error, bare=True)
        return None


class PrivateAnswersMiddleware:
    """Everything that a view answers is about somebody's installation: no cache keeps it. Static files, which are
    answered before, stay cacheable.
    """

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        patch_cache_control(response, no_store=True)
        return response


def _check_address(request: HttpRequest) -> None:
    charset = (request.content_params or {}).get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8"):
        raise Unreadable(
            f"The character set {shown(charset)!r} is not read here.", field="Content-Type", fix="Send UTF-8."
        )
    if len(request.path_info) > LONGEST_PATH:
        raise Unreadable(f"The path is longer than {LONGEST_PATH:,} characters.", field="path")
    check_text(request.path_info, field="path")
    if len(request.META.get("QUERY_STRING", "")) > LONGEST_QUERY:
        raise Unreadable(f"The query is longer than {LONGEST_QUERY:,} characters.", field="query")
    _check_values(request.GET.lists())


def _check_values(lists: Any) -> None:
    for name, values in lists:
        check_text(name, field=shown(name))
        for value in values:
            check_text(value, field=shown(name))
