"""The REST API as the command uses it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, NoReturn, Self

import httpx

from controlplane.cli.answers import Strange, check
from controlplane.cli.exits import Exit, exit_of_status
from controlplane.cli.failure import Failure as Failure  # both are what callers of the API need
from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.clients import remote_client

API = "/api/v1"
TIMEOUT_SECONDS = 30.0
ANSWER_SECONDS = 120.0  # for all of one answer, however slowly it comes
LARGEST_ANSWER = 8 << 20
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5
PASSING = frozenset({408, 429, 502, 503, 504})  # worth the same call again
KINDS = ("application/json", "application/problem+json")


class Client:
    """Calls the API with a token. Raises Failure for everything that is no success.

    A call that got no answer, or a passing one (PASSING), is sent again up to ATTEMPTS times with growing
    waits; a POST carries an idempotency key, so that sending it again is safe.

    `proxy` is what calls go through, named by the variable `proxy_from`; "" is none. A `shape` is what an answer must
    look like (see answers.py); what does not is a Failure (unavailable): something else answers.
    """

    def __init__(self, *, url: str, token: str, proxy: str = "", proxy_from: str = "") -> None:
        self._url = url
        self._check = (
            f"Check HEADGATE_URL{', ' + proxy_from if proxy_from else ''}, and that the control plane runs."
        )
        try:
            self._http = remote_client(
                url.rstrip("/") + API,
                proxy=proxy,
                headers={
                    "Authorization": f"Bearer {token}",
                    "Accept": "application/json, application/problem+json",
                },
                timeout=TIMEOUT_SECONDS,
            )
        except InvalidInput as error:
            raise Failure(Exit.USAGE, error.message, fix=error.fix) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def close(self) -> None:
        """Closes the connections; the client cannot be used afterwards."""
        self._http.close()

    def get(
        self,
        path: str,
        *,
        shape: Any = None,
        patient: bool = True,
        seconds: float = TIMEOUT_SECONDS,
        **query: Any,
    ) -> Any:
        """The JSON at `path`. `patient=False`: one attempt, for callers that wait themselves, of at most `seconds`
        without a byte."""
        given = {name: value for name, value in query.items() if value is not None}
        attempts = ATTEMPTS if patient else 1
        return self._call("GET", path, shape, attempts=attempts, params=given, timeout=seconds)

    def post(self, path: str, body: Mapping[str, Any], *, shape: Any = None, key: str = "") -> Any:
        """Posts JSON; `key` is the idempotency key (a fresh one by default)."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._call("POST", path, shape, attempts=ATTEMPTS, json=dict(body), headers=headers)

    def put(self, path: str, body: Mapping[str, Any], *, shape: Any = None) -> Any:
        """Puts JSON."""
        return self._call("PUT", path, shape, attempts=ATTEMPTS, json=dict(body))

    def _call(self, method: str, path: str, shape: Any, *, attempts: int, **arguments: Any) -> Any:
        request = self._request(method, path, **arguments)
        wait = FIRST_WAIT_SECONDS
        for attempt in range(1, attempts + 1):
            try:
                response = self._http.send(request, stream=True)
                try:
                    answer = self._answer(response)
                finally:
                    response.close()
            except httpx.LocalProtocolError as error:  # its words would repeat a header, the token is one
                raise _unsendable() from error
            except httpx.HTTPError as error:
                failure = Failure(
                    Exit.UNAVAILABLE,
                    f"{self._url} does not answer: {error or type(error).__name__}.",
                    fix=self._check,
                )
            except UnicodeError as error:  # Python's resolver, about names that DNS cannot hold
                raise Failure(
                    Exit.USAGE, f"{self._url} cannot be looked up: {error}.", fix=self._check
                ) from None
            else:
                if response.is_success:
                    return self._checked(answer, shape)
                failure = self._failure(response, answer)
                if response.status_code not in PASSING:
                    raise failure
            if attempt == attempts:
                raise failure
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable: attempts is at least 1")

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, path, **arguments)
        except (
            ValueError,
            httpx.InvalidURL,
        ) as error:  # a character that no UTF-8 or no header can carry, NaN
            raise _unsendable() from error

    def _answer(self, response: httpx.Response) -> Any:
        """The JSON of the body; a Strange when it is none. Raises httpx.HTTPError, Failure when it does not end."""
        ends = time.monotonic() + ANSWER_SECONDS
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LARGEST_ANSWER:
                self._strange(f"its answer has more than {LARGEST_ANSWER >> 20} MB")
            if time.monotonic() > ends:
                self._strange(f"its answer has not come to an end in {ANSWER_SECONDS:g} s")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in KINDS:
            return Strange(f"the answer ({response.status_code}) is {kind or 'of no kind'} and no JSON")
        try:
            return json.loads(bytes(body), parse_constant=_no_number)
        except (ValueError, RecursionError):
            return Strange(f"the answer ({response.status_code}) is no JSON, whatever it says of itself")

    def _checked(self, answer: Any, shape: Any) -> Any:
        try:
            if isinstance(answer, Strange):
                raise answer
            check(answer, {} if shape is None else shape)
        except Strange as strange:
            self._strange(str(strange))
        return answer

    def _failure(self, response: httpx.Response, answer: Any) -> Failure:
        """What an answer other than success means. Only a problem that Headgate itself tells is taken at its word."""
        if isinstance(answer, dict) and isinstance(answer.get("detail"), str):
            fix = answer.get("fix")
            return Failure(
                exit_of_status(response.status_code),
                answer["detail"] or f"The answer was {response.status_code}.",
                fix=fix if isinstance(fix, str) else "",
                problem=answer,
            )
        where = response.headers.get("Location", "")
        leads = f" and leads to {where[:200]}" if response.is_redirect and where else ""
        return Failure(
            Exit.UNAVAILABLE,
            f"{self._url} answered {response.status_code}{leads}, and not as Headgate does.",
            fix="Check that HEADGATE_URL is the address of Headgate itself.",
        )

    def _strange(self, what: str) -> NoReturn:
        raise Failure(
            Exit.UNAVAILABLE,
            f"What answers at {self._url} is not Headgate, or not of this version: {what}.",
            fix="Check that HEADGATE_URL is the address of Headgate itself.",
        )


def _unsendable() -> Failure:
    return Failure(
        Exit.USAGE,
        "What the command line or a file says cannot be sent: it holds a character or a number that is none.",
        fix="Look for broken and control characters, or for NaN and Infinity in a file.",
    )


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
