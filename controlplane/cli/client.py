"""The REST API as the command uses it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Self

import httpx

from controlplane.cli.exits import Exit, exit_of_status

API = "/api/v1"
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5
PASSING = frozenset({408, 429, 502, 503, 504})  # worth the same call again


class Failure(Exception):
    """A call that did not work: the exit code it means, and the problem as the API told it."""

    def __init__(
        self, code: Exit, message: str, *, fix: str = "", problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
        self.problem = dict(problem or {})

    @property
    def lines(self) -> list[str]:
        """What to tell a person: what happened, which values are wrong, what to do."""
        wrong = [
            f"  {item['field']}: {item['detail']}"
            for item in self.problem.get("errors", [])
            if item.get("field") and item.get("detail") != self.message
        ]
        fields = [item["field"] for item in self.problem.get("errors", []) if item.get("field")]
        first = f"{fields[0]}: {self.message}" if len(fields) == 1 and not wrong else self.message
        line = self.problem.get("extra", {}).get("line")
        if line and not first.startswith("Line "):
            first = f"Line {line}: {first}"
        return [first, *wrong, *([self.fix] if self.fix else [])]


class Client:
    """Calls the API with a token. Raises Failure for everything that is no success.

    A call that got no answer, or a passing one (PASSING), is sent again up to ATTEMPTS times with growing
    waits; a POST carries an idempotency key, so that sending it again is safe.
    """

    def __init__(self, *, url: str, token: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url.rstrip("/") + API,
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/json, application/problem+json",
            },
            timeout=TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def close(self) -> None:
        """Closes the connections; the client cannot be used afterwards."""
        self._http.close()

    def get(self, path: str, *, patient: bool = True, **query: Any) -> Any:
        """The JSON at `path`. `patient=False`: one attempt, for callers that wait themselves."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, attempts=ATTEMPTS if patient else 1, params=given)

    def post(self, path: str, body: Mapping[str, Any], *, key: str = "") -> Any:
        """Posts JSON; `key` is the idempotency key (a fresh one by default)."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._call("POST", path, attempts=ATTEMPTS, json=dict(body), headers=headers)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Puts JSON."""
        return self._call("PUT", path, attempts=ATTEMPTS, json=dict(body))

    def _call(self, method: str, path: str, *, attempts: int, **arguments: Any) -> Any:
        wait = FIRST_WAIT_SECONDS
        for attempt in range(1, attempts + 1):
            failure: Failure
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.HTTPError as error:
                failure = Failure(
                    Exit.UNAVAILABLE,
                    f"{self._url} does not answer: {error or type(error).__name__}.",
                    fix="Check HEADGATE_URL, and that the control plane runs.",
                )
            else:
                if response.is_success:
                    return _json_of(response, self._url)
                failure = _failure_of(response)
                if response.status_code not in PASSING:
                    raise failure
            if attempt == attempts:
                raise failure
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable: attempts is at least 1")


def _json_of(response: httpx.Response, url: str) -> Any:
    try:
        return response.json() if response.content else {}
    except ValueError:
        raise Failure(
            Exit.UNAVAILABLE,
            f"{url} answered {response.status_code} with something that is no JSON.",
            fix="Check that HEADGATE_URL is the address of Headgate itself.",
        ) from None


def _failure_of(response: httpx.Response) -> Failure:
    code = exit_of_status(response.status_code)
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return Failure(
            code, f"{response.request.method} {response.url.path} answered {response.status_code}."
        )
    return Failure(
        code,
        str(problem.get("detail") or f"The answer was {response.status_code}."),
        fix=str(problem.get("fix", "")),
        problem=problem,
    )
