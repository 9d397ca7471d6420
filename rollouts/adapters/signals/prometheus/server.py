"""Asks a Prometheus, and trusts nothing that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, number_of, parsed, words_of
from controlplane.outbound.asking import Received, ask
from controlplane.outbound.clients import remote_client
from rollouts.adapters.signals.exposition import Sample

SAID = "What Prometheus says"
MOST_BYTES = 64 << 20
LONGEST_LABEL = 2_000
# Statuses that say that this query, or whoever asks, will be refused again.
REFUSALS = frozenset({400, 401, 403, 404, 405, 422})


class PrometheusServer:
    """A Prometheus, or what speaks as one. Raises Unavailable when it does not answer in time, or oddly; Rejected with
    its own words when it refuses a query.

    url      where it is, without /api/v1
    headers  such as an Authorization; sent with every query
    seconds  that a query may take, all of it
    authorities  certificates (PEM) of who may vouch for it, beside the usual ones
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        proxy: str = "",
        seconds: float = 4.0,
        authorities: str = "",
        most_bytes: int = MOST_BYTES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._seconds = seconds
        self._most_bytes = most_bytes
        # no kept connections: they would not outlive the server's restart or a worker's fork
        sent = {**(headers or {}), "Connection": "close"}
        self._client = remote_client(
            url, proxy=proxy, headers=sent, timeout=seconds, authorities=authorities, transport=transport
        )

    def now(self) -> float:
        """Its own time, by which the age of its samples is told. Seconds since the epoch."""
        data = self._data({"query": "time()"}, "scalar")
        try:
            return number_of(_value(data.entries("result")), SAID, "the time", least=0.0)
        except InvalidInput as error:
            raise _odd(error) from error

    def vector(self, query: str, *, at: float, seconds: float | None = None) -> list[Sample]:
        """The newest sample of each series at that moment; one that became stale is not there. A value may be NaN or
        infinite: `Sample.amount` and `Sample.count` refuse those. `seconds`: less time than a query has as a rule.

        A series that cannot be understood spoils the whole answer: without it others would look complete. So do more of
        them than a list of somebody else's may have (`controlplane.kernel.foreign`).
        """
        data = self._data({"query": query, "time": f"{at:.3f}"}, "vector", seconds)
        try:
            return [_sample(entry) for entry in data.parts("result")]
        except InvalidInput as error:
            raise _odd(error) from error

    def _data(self, form: Mapping[str, str], kind: str, seconds: float | None = None) -> Fields:
        answer = self._ask(form, self._seconds if seconds is None else min(seconds, self._seconds))
        try:
            body = Fields(parsed(answer.body, SAID), SAID)
            if not body.has("status", "success"):
                raise _refused(body, answer)
            if body.has_object("warnings") and body.entries("warnings"):
                said = words_of("; ".join(body.texts("warnings")))
                raise Unavailable(
                    f"Prometheus answers with a part of what there is: {said}.",
                    fix="See what it does not reach.",
                )
            data = body.needed("data")
            if not data.has("resultType", kind):
                raise data.odd(f"it is no {kind}", "resultType")
            return data
        except InvalidInput as error:
            raise _odd(error) from error

    def _ask(self, form: Mapping[str, str], seconds: float) -> Received:
        where = f"{self._url}/api/v1/query"
        try:
            answer = ask(
                self._client,
                "POST",
                "/api/v1/query",
                most_bytes=self._most_bytes,
                seconds=seconds,
                data=dict(form),
            )
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"Prometheus did not answer within {seconds:.2g} s ({where}).",
                fix="See whether it runs and is not overloaded.",
            ) from error
        except httpx.HTTPError as error:
            words = words_of(str(error)) or type(error).__name__
            raise Unavailable(
                f"Prometheus cannot be asked ({where}): {words}.", fix="See whether it runs."
            ) from error
        if not answer.whole:
            raise Unavailable(
                f"Prometheus answers with more than {self._most_bytes >> 20} MB ({where}).",
                fix="See which labels its series have, and whether it scrapes the gateways once.",
            )
        if answer.status in REFUSALS:
            raise Rejected(
                f"Prometheus refuses the query (HTTP {answer.status}): {answer.words()}",
                fix="Mend what it names: the query, or the right to ask.",
            )
        if not answer.ok:
            raise Unavailable(
                f"Prometheus answers HTTP {answer.status} ({where}): {answer.words()}", fix="See its log."
            )
        return answer


def _refused(body: Fields, answer: Received) -> Unavailable:
    return Unavailable(
        f"Prometheus could not answer: {words_of(body.text('error', '')) or answer.words()}.",
        fix="See its log.",
    )


def _odd(error: InvalidInput) -> Unavailable:
    return Unavailable(error.message, fix="See what answers at its address.", code=error.code)


def _sample(entry: Fields) -> Sample:
    labels = entry.texts_by_name("metric", longest=LONGEST_LABEL)
    value = number_of(_value(entry.entries("value")), SAID, "a value", finite=False)
    return Sample(labels.pop("__name__", ""), labels, value)


def _value(pair: list[Any]) -> Any:
    """The value of `[time, value]`."""
    if len(pair) != 2:
        raise Fields({}, SAID).odd("a sample is no pair of a time and a value")
    return pair[1]
