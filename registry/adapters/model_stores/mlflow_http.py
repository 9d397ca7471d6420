"""Requests to MLflow's REST API: time limits, retries, and its errors as ours. Knows nothing of models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from controlplane.kernel.errors import NotFound, Rejected, Unavailable
from controlplane.outbound.clients import remote_client

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.05
# Answers that mean "not now": the database was locked, a proxy had no worker. Everything asked here is
# idempotent.
PASSING = frozenset({429, 502, 503, 504})
CHUNK_BYTES = 1 << 20


class MlflowHttp:
    """Sends requests to one MLflow server.

    Raises Unavailable when it does not answer (or keeps answering "not now"), NotFound when it says that the
    thing does not exist, Rejected for any other refusal. Safe to share between threads, not between
    processes.
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
        self._client = remote_client(
            url, proxy=proxy, timeout=httpx.Timeout(timeout_seconds, connect=3.0), transport=transport
        )
        self._check = "HEADGATE_MLFLOW_URL and HEADGATE_MLFLOW_PROXY" if proxy else "HEADGATE_MLFLOW_URL"
        self._sleep = sleep
        parts = httpx.URL(url)
        self.address = str(parts.copy_with(username="", password="")).rstrip("/")
        self.authority = parts.netloc.decode()

    def get(self, call: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET of one REST call, for example `model-versions/get`."""
        return self._json("GET", API + call, params=dict(parameters or {}))

    def send(self, method: str, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST, PATCH or DELETE with a JSON body."""
        return self._json(method, API + call, json=dict(body))

    def list_artifacts(self, path: str) -> list[dict[str, Any]]:
        """What lies directly in a folder of the artifact store: `{path, is_dir, file_size}`, path its last
        name.
        """
        files = self._json("GET", ARTIFACTS, params={"path": path}).get("files", [])
        return list(files)

    def download(self, path: str, to: Path, *, bytes_expected: int | None) -> None:
        """Writes one artifact to the file `to`, in chunks.

        Raises Unavailable when the connection ends before all of it came.
        """
        address = f"{ARTIFACTS}/{quote(path)}"
        written = 0
        try:
            with self._client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    self._raise(response, path)
                with to.open("wb") as stream:
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        stream.write(chunk)
                        written += len(chunk)
        except httpx.TransportError as error:
            raise self._no_answer(error) from error
        if bytes_expected is not None and written != bytes_expected:
            raise Unavailable(
                f"MLflow at {self.address} sent {written} of the {bytes_expected} bytes of {path}.",
                fix="Try again; look into MLflow's log if it stays so.",
            )

    def close(self) -> None:
        self._client.close()

    def _json(self, method: str, address: str, **arguments: Any) -> dict[str, Any]:
        response = self._answer(method, address, **arguments)
        if response.is_error:
            self._raise(response, address)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Rejected(
                f"What answers at {self.address} is not MLflow ({response.status_code}, no JSON object).",
                fix=f"Correct {self._check}.",
            )
        return body

    def _answer(self, method: str, address: str, **arguments: Any) -> httpx.Response:
        for pause in self._pauses():
            try:
                response = self._client.request(method, address, **arguments)
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

    def _no_answer(self, error: httpx.TransportError) -> Unavailable:
        what = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "does not answer"
        return Unavailable(
            f"MLflow at {self.address} {what} ({error}).",
            fix=f"Start it, or correct {self._check}; nothing was changed here.",
        )

    def _raise(self, response: httpx.Response, what: str) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {}
        body = body if isinstance(body, dict) else {}
        said = str(body.get("message") or response.text.strip() or response.reason_phrase)[:400]
        if body.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"MLflow: {said}")
        if response.status_code in PASSING or response.is_server_error:
            raise Unavailable(
                f"MLflow at {self.address} failed ({response.status_code}): {said}",
                fix="Look into MLflow's log.",
            )
        raise Rejected(
            f"MLflow at {self.address} refused {what} ({response.status_code}): {said}",
            fix="Is the server's --allowed-hosts right, and is HEADGATE_MLFLOW_URL MLflow's own address?"
            if response.status_code == httpx.codes.FORBIDDEN
            else "",
        )


def _is_passing(response: httpx.Response) -> bool:
    """True for answers that a second try may turn into a good one.

    Parallel writes of one alias collide inside MLflow: about 1 in 160 ends as a 400 with an IntegrityError.
    """
    if response.status_code in PASSING:
        return True
    return response.is_error and ("IntegrityError" in response.text or "database is locked" in response.text)
