"""Asks through the gateway, as users do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import Fields, parsed, words_of
from controlplane.outbound.asking import ask
from rollouts.adapters.routers.gateway_api.objects import MODEL_LIST, REVISION_HEADER
from rollouts.ports import FORCED_VARIANT_HEADER

MOST_BYTES = 1 << 20
SAID = "The list of models"


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """Who answered a request that was forced to a variant, by the engine's own word, and which revision of the route
    the proxy had that sent it there; 0 when it does not say."""

    by: str
    revision: int


class GatewayUser:
    """Asks through the gateway, as users do, and tells who answered by the engine's own word.

    client  of the gateway's address
    model   that inferences name: one that all engines behind the host serve
    url_of  where a host is asked, when that is not the client's own address
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        model: str = "",
        seconds: float = 10.0,
        url_of: Callable[[str], str] = lambda host: "",
    ) -> None:
        self._client = client
        self._model = model
        self._seconds = seconds
        self._url_of = url_of

    def ask(self, host: str, forced: str) -> str:
        """Who answers a request for the list of models."""
        return self._named(self.send("GET", MODEL_LIST, host, forced)[1])

    def served(self, host: str, variant: str) -> ServedAnswer:
        """What a request for the list of models finds that is forced to the variant. Only one proxy of the gateway is
        asked. Raises Unavailable when nobody answers."""
        headers, body = self.send("GET", MODEL_LIST, host, variant)
        said = headers.get(REVISION_HEADER, "")
        return ServedAnswer(self._named(body), int(said) if re.fullmatch("[0-9]{1,18}", said) else 0)

    def infer(self, host: str, forced: str) -> str:
        """Who answers an inference of one token, by the gateway's header: the engine's answer names the endpoint."""
        body = {"model": self._model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        headers, _ = self.send("POST", "/v1/chat/completions", host, forced, json=body)
        return headers.get(FORCED_VARIANT_HEADER, "")

    def send(
        self, method: str, path: str, host: str, forced: str, **more: Any
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of an answer. Raises Unavailable for none, and for one that is no success."""
        headers = {"Host": host, **({FORCED_VARIANT_HEADER: forced} if forced else {})}
        try:
            answer = ask(
                self._client,
                method,
                self._url_of(host) + path,
                most_bytes=MOST_BYTES,
                seconds=self._seconds,
                headers=headers,
                **more,
            )
        except httpx.HTTPError as error:
            words = words_of(str(error)) or type(error).__name__
            raise Unavailable(f"The gateway does not answer for {host}: {words}.") from error
        if not answer.ok:
            raise Unavailable(f"The gateway answers HTTP {answer.status} for {host}: {answer.words()}")
        return answer.headers, answer.body

    @staticmethod
    def _named(body: bytes) -> str:
        try:
            first = next(Fields(parsed(body.decode(errors="replace"), SAID), SAID).parts("data"), None)
            if first is None:
                raise Unavailable(f"{SAID} is empty.")
            return first.text("id", longest=200)
        except InvalidInput as error:
            raise Unavailable(error.message, fix="See what answers behind the gateway.") from error
