"""Where machines fetch the files of a version: a file at a time, whole, for whoever shows a pass.

Bytes go out as fast as the other side takes them and hold up no page: a file is read in threads aside. A process lets
in AT_ONCE downloads at a time; one more is told to come again.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_GET

from controlplane.api.problems import MEDIA_TYPE, problem_of, request_id_of
from controlplane.kernel.errors import Forbidden, HeadgateError, TooMany
from registry.services.file_door import OpenFile, open_file
from registry.wiring import models_dir

AT_ONCE = 8  # downloads in a process
CHUNK_BYTES = 1 << 20
STALLED_SECONDS = 120.0  # a download in which nothing moved for so long keeps nobody else away
AGAIN_SECONDS = 10


class Places:
    """How many downloads go on. Safe to call from several threads."""

    def __init__(self, most: int, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._most, self._stalled_seconds = most, stalled_seconds
        self._moved: dict[int, float] = {}  # by place: when something moved last
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int:
        """A place. Raises TooMany when all are taken."""
        now = time.monotonic()
        with self._lock:
            moving = sum(now - moved < self._stalled_seconds for moved in self._moved.values())
            if moving >= self._most:
                raise TooMany(
                    f"{moving} downloads go on, and no more at a time.", fix="Ask again in a moment."
                )
            self._next += 1
            self._moved[self._next] = now
            return self._next

    def move(self, place: int) -> None:
        """Something moved."""
        with self._lock:
            self._moved[place] = time.monotonic()

    def leave(self, place: int) -> None:
        """The place is free; also when it was before."""
        with self._lock:
            self._moved.pop(place, None)


PLACES = Places(AT_ONCE)


class Download:
    """The content of a file, read aside. Its place is free and the file closed once the answer is over, also where the
    other side left before it began and nobody calls `close`."""

    def __init__(self, file: OpenFile, place: int, places: Places) -> None:
        self._file, self._place, self._places = file, place, places
        self.close = weakref.finalize(self, _end, file, place, places)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._file.size
        while left > 0:
            chunk = await asyncio.to_thread(self._file.handle.read, min(CHUNK_BYTES, left))
            if not chunk:
                return  # it was cut meanwhile: the other side misses bytes, and says so
            left -= len(chunk)
            self._places.move(self._place)
            yield chunk


def _end(file: OpenFile, place: int, places: Places) -> None:
    places.leave(place)
    file.handle.close()


@require_GET
def send_file(request: HttpRequest, folder: str, path: str) -> HttpResponseBase:
    """200 with the file; a problem for anything else (403, 404, 422, 503, and 429 while too many go on)."""
    try:
        file = open_file(
            folder=folder,
            path=path,
            token=_pass_of(request),
            models_dir=models_dir(),
            now=request.received_at,  # type: ignore[attr-defined]
        )
        try:
            place = PLACES.take()
        except TooMany:
            file.handle.close()
            raise
    except HeadgateError as error:
        return _problem(request, error)
    response = StreamingHttpResponse(Download(file, place, PLACES), content_type="application/octet-stream")
    response["Content-Length"] = str(file.size)
    return response


def _pass_of(request: HttpRequest) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer" or not token:
        raise Forbidden("A pass is missing.", fix="Send it as Authorization: Bearer PASS.")
    return token


def _problem(request: HttpRequest, error: HeadgateError) -> HttpResponse:
    problem = problem_of(error)
    body = problem.body(instance=request.path, request_id=request_id_of(request))
    response = JsonResponse(body, status=problem.status, content_type=MEDIA_TYPE)
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        response["Retry-After"] = str(AGAIN_SECONDS)
    return response
