"""Users of an endpoint behind the lab's gateway: about fifty inferences a second, and what became of each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import httpx

from tests.standins.running import wait_until

NUMBER = 5
PAUSE_SECONDS = 0.1  # of each user between two requests
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it was sent, on the monotonic clock, and what came back: a status, or a word."""

    at: float
    came: int | str
    body: str = ""


class Users:
    """They send from the beginning of a with block until its end, and everything is answered then."""

    def __init__(self, url: str, host: str, model: str) -> None:
        self.sent: list[Sent] = []
        self._url = f"{url}/v1/chat/completions"
        self._host = host
        self._model = model
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(NUMBER)]

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def more(self, number: int) -> None:
        """Returns when so many more have been answered, of whatever kind."""
        wanted = len(self.sent) + number
        wait_until(f"{number} more requests", lambda: len(self.sent) >= wanted, PATIENCE_SECONDS)

    def lost(self) -> list[Sent]:
        """What was not answered well. Fails a test in which hardly anybody asked."""
        assert len(self.sent) > 3 * NUMBER, f"{len(self.sent)} requests prove nothing"
        return [one for one in self.sent if one.came != httpx.codes.OK]

    def _send(self) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS, headers={"Host": self._host}) as client:
            while not self._ends.is_set():
                at = time.monotonic()
                try:
                    answer = client.post(self._url, json=body)
                    one = Sent(at, answer.status_code, "" if answer.is_success else answer.text[:200])
                except httpx.TransportError as error:
                    one = Sent(at, type(error).__name__, str(error)[:200])
                self.sent.append(one)
                self._ends.wait(PAUSE_SECONDS)
