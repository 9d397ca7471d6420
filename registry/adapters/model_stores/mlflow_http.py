"""Requests to MLflow's REST API: bounds, retries, and its errors as ours. Knows nothing of models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, parsed, words_of
from controlplane.outbound.asking import Received, ask, asking
from controlplane.outbound.clients import remote_client
from registry.domain.manifest import Progress, nothing

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.05
# Answers that mean "not now": the database was locked, a proxy had no worker. Everything asked here is
# idempotent.
PASSING = frozenset({429, 502, 503, 504})
MOST_BYTES = 64 << 20  # of one answer: a page of 500 models is half a megabyte
MOST_WORDS = 400
CALL_SECONDS = 60.0  # for one whole answer
# A download that is slower than this, by what has come so far, is given up; the first minutes are free.
SLOWEST_BYTES_A_SECOND = 64 << 10
DOWNLOAD_SECONDS = 300.0
LARGEST_FILE = 1 << 40
UNSAID_SECONDS = 6 * 3600.0  # for a file whose size MLflow does not say
TOO_LARGE = "too-large"  # code of Rejected: the answer is larger than MOST_BYTES


class MlflowHttp:
    """Sends requests to one MLflow server.

    Raises Unavailable when it does not answer (or keeps answering "not now"), NotFound when it says that the
    thing does not exist, Rejected for any other refusal, InvalidInput for a request that cannot be sent (a name that
    no address holds). An answer is at most MOST_BYTES large and takes at most CALL_SECONDS. Safe to share between
    threads, not between processes.
    """

    def __init__(
        self,
        url: str,
        *,
        proxy: str = "",
        timeout_seconds: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` may carry `user:password@`; they are sent as basic authentication and never shown.
        `proxy` is what requests go through; "" is none, whatever the host's variables say.
        """
        self._client = remote_client(url, proxy=proxy, transport=transport)
        self._timeout = httpx.Timeout(timeout_seconds, connect=3.0)
        self._check = "HEADGATE_MLFLOW_URL and HEADGATE_MLFLOW_PROXY" if proxy else "HEADGATE_MLFLOW_URL"
        self._sleep = sleep
        parts = httpx.URL(url)
        self.address = str(parts.copy_with(username="", password="")).rstrip("/")
        self.authority = parts.netloc.decode()

    def get(self, call: str, parameters: Mapping[str, Any] | None = None, *, said: str = "") -> Fields:
        """GET of one REST call, for example `model-versions/get`. `said`: what it speaks of, for errors."""
        return self._fields("GET", API + call, said, params=dict(parameters or {}))

    def send(self, method: str, call: str, body: Mapping[str, Any]) -> Fields:
        """POST, PATCH or DELETE with a JSON body."""
        return self._fields(method, API + call, "", json=dict(body))

    def list_artifacts(self, path: str) -> Fields:
        """What lies directly in a folder of the artifact store: `files`, a list of `{path, is_dir, file_size}`, path
        being its last name.
        """
        return self._fields("GET", ARTIFACTS, f"the files in {words_of(path, 100)}", params={"path": path})

    def download(
        self, path: str, to: Path, *, bytes_expected: int | None, progress: Progress = nothing
    ) -> None:
        """Writes one artifact to the file `to`, in chunks; calls `progress` with the bytes of each.

        Raises Unavailable when the connection ends before all of it came, when more comes than was said, and when it
        comes too slowly.
        """
        if bytes_expected is None:
            most, seconds = LARGEST_FILE, UNSAID_SECONDS
        else:
            most, seconds = bytes_expected, DOWNLOAD_SECONDS + bytes_expected / SLOWEST_BYTES_A_SECOND
        written, began = 0, time.monotonic()
        try:
            with (
                _sendable(),
                asking(
                    self._client,
                    "GET",
                    f"{ARTIFACTS}/{quote(path)}",
                    seconds=seconds,
                    timeout=self._timeout,
                ) as incoming,
            ):
                if incoming.status != httpx.codes.OK:
                    self._raise(incoming.received(MOST_WORDS * 4), path)
                with to.open("wb") as stream:
                    for piece in incoming.pieces():
                        written += len(piece)
                        if written > most:
                            break
                        stream.write(piece)
                        progress(len(piece))
                        if time.monotonic() - began > DOWNLOAD_SECONDS + written / SLOWEST_BYTES_A_SECOND:
                            raise httpx.ReadTimeout("the file comes too slowly")
        except httpx.TransportError as error:
            raise self._no_answer(error) from error
        if bytes_expected is not None and written != bytes_expected:
            sent = (
                f"more than the {bytes_expected}" if written > most else f"{written} of the {bytes_expected}"
            )
            raise self._other_size(sent, path)

    def read(self, path: str, *, size: int) -> bytes:
        """The content of one artifact that has so many bytes; more than that are not read.

        Raises Unavailable for any other number of them, and as `download` does.
        """
        try:
            with _sendable():
                found = ask(
                    self._client,
                    "GET",
                    f"{ARTIFACTS}/{quote(path)}",
                    most_bytes=size,
                    seconds=CALL_SECONDS,
                    timeout=self._timeout,
                )
        except httpx.TransportError as error:
            raise self._no_answer(error) from error
        if not found.ok:
            self._raise(found, path)
        if not found.whole or len(found.body) != size:
            sent = f"{len(found.body)} of the {size}" if found.whole else f"more than the {size}"
            raise self._other_size(sent, path)
        return found.body

    def close(self) -> None:
        self._client.close()

    def _fields(self, method: str, address: str, said: str, **arguments: Any) -> Fields:
        response = self._answer(method, address, **arguments)
        if not response.ok:
            self._raise(response, address)
        if not response.whole:
            raise Rejected(
                f"MLflow at {self.address} answers {address} with more than {MOST_BYTES >> 20} MB.",
                fix="Look for a model with very long tags or descriptions in MLflow.",
                code=TOO_LARGE,
            )
        try:
            return Fields(parsed(response.body), f"What MLflow says of {said}" if said else "MLflow's answer")
        except InvalidInput:
            raise Rejected(
                f"What answers at {self.address} is not MLflow ({response.status}, no JSON object).",
                fix=f"Correct {self._check}.",
            ) from None

    def _answer(self, method: str, address: str, **arguments: Any) -> Received:
        for pause in self._pauses():
            try:
                with _sendable():
                    response = ask(
                        self._client,
                        method,
                        address,
                        most_bytes=MOST_BYTES,
                        seconds=CALL_SECONDS,
                        timeout=self._timeout,
                        **arguments,
                    )
            except httpx.TransportError as error:
                # A kept-alive connection that the server closed looks the same as a dead server: try again. One that
                # hangs would hang again: a call takes one time-out, not four.
                if pause is None or isinstance(error, httpx.TimeoutException):
                    raise self._no_answer(error) from error
            else:
                if pause is None or not _is_passing(response):
                    return response
            self._sleep(pause)
        raise AssertionError("the last pause is None")

    @staticmethod
    def _pauses() -> Iterator[float | None]:
        yield from (FIRST_PAUSE_SECONDS * 2**attempt for attempt in range(ATTEMPTS - 1))
        yield None

    def _other_size(self, sent: str, path: str) -> Unavailable:
        return Unavailable(
            f"MLflow at {self.address} sent {sent} bytes of {words_of(path, 200)}.",
            fix="Try again; look into MLflow's log if it stays so.",
        )

    def _no_answer(self, error: httpx.TransportError) -> Unavailable:
        what = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "does not answer"
        return Unavailable(
            f"MLflow at {self.address} {what} ({words_of(str(error), 200)}).",
            fix=f"Start it, or correct {self._check}; nothing was changed here.",
        )

    def _raise(self, response: Received, what: str) -> NoReturn:
        try:
            body = Fields(parsed(response.body))
            said, code = body.text("message", ""), body.text("error_code", "")
        except InvalidInput:
            said, code = "", ""
        said = words_of(said, MOST_WORDS) or response.words(MOST_WORDS) or _phrase(response.status)
        what = words_of(what, 200)
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"MLflow: {said}")
        if response.status in PASSING or response.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise Unavailable(
                f"MLflow at {self.address} failed ({response.status}): {said}",
                fix="Look into MLflow's log.",
            )
        raise Rejected(
            f"MLflow at {self.address} refused {what} ({response.status}): {said}",
            fix="Is the server's --allowed-hosts right, and is HEADGATE_MLFLOW_URL MLflow's own address?"
            if response.status == httpx.codes.FORBIDDEN
            else "",
        )


def _phrase(status: int) -> str:
    return httpx.codes.get_reason_phrase(status) or "it said nothing more"


@contextmanager
def _sendable() -> Iterator[None]:
    """Turns what no request can carry into InvalidInput: a lone surrogate in a name, an address that is too long."""
    try:
        yield
    except (UnicodeEncodeError, httpx.InvalidURL) as error:
        raise InvalidInput(
            f"MLflow cannot be asked for it: {words_of(str(error), 200)}.", fix="Rename it in MLflow."
        ) from error


def _is_passing(response: Received) -> bool:
    """True for answers that a second try may turn into a good one.

    Parallel writes of one alias collide inside MLflow: about 1 in 160 ends as a 400 with an IntegrityError.
    """
    if response.status in PASSING:
        return True
    failed = response.status >= httpx.codes.BAD_REQUEST
    return failed and (b"IntegrityError" in response.body or b"database is locked" in response.body)
