"""Asks a trial's backends through the gateway, and believes them alone: the gateway's own word is what is tried."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import Fields, parsed, words_of
from rollouts.adapters.routers.gateway_api.objects import MODEL_LIST
from rollouts.adapters.routers.gateway_api.user import GatewayUser

INFERENCE = "/v1/chat/completions"
MOST_RECEIVED = 1_000_000_000
FIX = "See what answers behind the gateway for hosts that no endpoint has."
SAID = "What a trial's backend says"


class TrialUser:
    """See the module. Raises Unavailable when nobody answers, or somebody whom nobody asked.

    backends  who may answer
    check     raises when no more time is left; called before each request
    """

    def __init__(self, user: GatewayUser, backends: Collection[str], check: Callable[[], None]) -> None:
        self._user = user
        self._backends = backends
        self._check = check

    def ask(self, host: str, forced: str) -> str:
        """Who answers a request for the list of models."""
        with _readable():
            return self._known(self._list(host, forced).text("id", longest=200))

    def infer(self, host: str, forced: str) -> str:
        """Who answers an inference."""
        self._check()
        body = {"model": "trial", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        _, answer = self._user.send("POST", INFERENCE, host, forced, json=body)
        with _readable():
            return self._known(_fields(answer).text("model", longest=200))

    def received(self, host: str, backend: str) -> int:
        """How many inferences this backend has received. Whoever answers knows it of both."""
        with _readable():
            counts = self._list(host, "").wholes_by_name("received", least=0, most=MOST_RECEIVED)
        return counts.get(backend, 0)

    def _list(self, host: str, forced: str) -> Fields:
        self._check()
        _, answer = self._user.send("GET", MODEL_LIST, host, forced)
        first = next(_fields(answer).parts("data"), None)
        if first is None:
            raise Unavailable("The list of models is empty.", fix=FIX)
        return first

    def _known(self, name: str) -> str:
        if name not in self._backends:
            raise Unavailable(
                f"Somebody else answers for the trial's host: {words_of(name) or 'without a name'}.",
                fix=FIX,
            )
        return name


def _fields(body: bytes) -> Fields:
    return Fields(parsed(body.decode(errors="replace"), SAID), SAID)


@contextmanager
def _readable() -> Iterator[None]:
    """What cannot be read is no answer of a backend."""
    try:
        yield
    except InvalidInput as error:
        raise Unavailable(error.message, fix=FIX) from error
