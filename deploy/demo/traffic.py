"""The demo's users: a real OpenAI client that sends tickets and rates answers: `python -m deploy.demo.traffic`.

Half of the requests stream, and half of the tickets come with a system message. Every answer is compared with what the
ticket needs; some users leave a thumb. What a user lost (an error, a cut stream, no answer) is counted, and apart from
it what a version refused with a 4xx. Both are written to a status file twice a second. Stops on SIGTERM.

There are so many users and no more, and one who waits for an answer asks nothing else. So an engine that is slow, or a
machine, makes everybody wait, and loses nobody as long as it answers all of them within the time that they wait.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import APIStatusError, DefaultHttpxClient, OpenAI

from controlplane.outbound.clients import local_client

THUMB_SHARE = 0.3
TIMEOUT_SECONDS = 60.0  # that a user waits
USERS = 24
KEPT_LOSSES = 50


@dataclass
class Counts:
    """What happened to the users' requests; guarded by a lock, written by many threads."""

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    losses: list[dict[str, Any]] = field(default_factory=list)
    rated: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self) -> dict[str, Any]:
        with self.lock:
            return {
                "at": time.time(),
                "sent": self.sent,
                "answered": dict(self.answered),
                "right": dict(self.right),
                "refused": dict(self.refused),
                "lost": self.lost,
                "losses": list(self.losses),
                "rated": self.rated,
            }


class Users:
    """Asks the endpoint like users do. `ask` never raises: what went wrong is a lost request.

    Where the endpoint has a `host` name of its own, it is asked by that at the gateway; else it is a path there.
    """

    def __init__(
        self,
        *,
        gateway: str,
        endpoint: str,
        api: str,
        token: str,
        tickets: list[dict[str, Any]],
        host: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.tickets = tickets
        self.counts = Counts()
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        self._client = OpenAI(
            base_url=f"{gateway}/v1" if host else f"{gateway}/{endpoint}/v1",
            default_headers={"Host": host} if host else {},
            api_key="not-needed",
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            # these users are on this machine: the host's proxies lead elsewhere
            http_client=DefaultHttpxClient(trust_env=False),
        )
        self._api = local_client(
            base_url=api, headers={"Authorization": f"Bearer {token}"}, timeout=10.0, limits=limits
        )

    def ask(self, number: int) -> None:
        rng = random.Random(number)
        ticket = rng.choice(self.tickets)
        stream = rng.random() < 0.5
        with self.counts.lock:
            self.counts.sent += 1
        try:
            text, request_id, variant = self._stream(ticket) if stream else self._whole(ticket)
        except Exception as error:  # whatever it was, this user has no answer: that is what is counted
            if not self._refused(error):
                self._lost(error, stream=stream)
            return
        right = text.strip() == str(ticket["expected"]).strip()
        with self.counts.lock:
            self.counts.answered[variant] += 1
            self.counts.right[variant] += right
        if rng.random() < THUMB_SHARE:
            self._rate(request_id, variant, up=right)

    def _whole(self, ticket: dict[str, Any]) -> tuple[str, str, str]:
        raw = self._client.chat.completions.with_raw_response.create(
            model=self.endpoint,
            messages=ticket["messages"],
            max_tokens=int(ticket["max_tokens"]),
            temperature=0,
        )
        answer = raw.parse()
        return answer.choices[0].message.content or "", *_who(raw.headers)

    def _stream(self, ticket: dict[str, Any]) -> tuple[str, str, str]:
        raw = self._client.chat.completions.with_raw_response.create(
            model=self.endpoint,
            messages=ticket["messages"],
            max_tokens=int(ticket["max_tokens"]),
            temperature=0,
            stream=True,
        )
        parts: list[str] = []
        finished = False
        for chunk in raw.parse():
            for choice in chunk.choices:
                parts.append(choice.delta.content or "")
                finished = finished or choice.finish_reason is not None
        if not finished:
            raise CutStream("the stream ended before its last chunk")
        return "".join(parts), *_who(raw.headers)

    def _rate(self, request_id: str, variant: str, *, up: bool) -> None:
        """A thumb is a courtesy: one that does not arrive is no lost request."""
        body = {"request_id": request_id, "variant": variant, "score": "up" if up else "down"}
        try:
            response = self._api.post(f"/api/v1/endpoints/{self.endpoint}/feedback", json=body)
        except httpx.HTTPError:
            return
        if response.is_success:
            with self.counts.lock:
                self.counts.rated += 1

    def _refused(self, error: Exception) -> bool:
        """Counts what a version itself refused; False for everything else, the gateway's own refusals too."""
        if not isinstance(error, APIStatusError) or error.status_code >= 500:
            return False
        variant = _who(error.response.headers)[1]
        if variant:
            with self.counts.lock:
                self.counts.refused[variant] += 1
        return bool(variant)

    def _lost(self, error: Exception, *, stream: bool) -> None:
        with self.counts.lock:
            self.counts.lost += 1
            if len(self.counts.losses) < KEPT_LOSSES:
                self.counts.losses.append(
                    {"at": time.time(), "stream": stream, "error": f"{type(error).__name__}: {error}"}
                )


class CutStream(Exception):
    """A stream that ended without saying that it is finished."""


def _who(headers: Any) -> tuple[str, str]:
    return headers.get("x-request-id", ""), headers.get("x-headgate-variant", "")


def run(users: Users, *, per_second: float, status: Path, stopping: threading.Event) -> None:
    """Sends at an even pace, as long as somebody is free to ask, until told to stop."""
    free = threading.Semaphore(USERS)

    def ask(number: int) -> None:
        try:
            users.ask(number)
        finally:
            free.release()

    number = 0
    begun = time.monotonic()
    written = 0.0
    with ThreadPoolExecutor(max_workers=USERS) as pool:
        while not stopping.is_set():
            due = begun + number / per_second
            wait = due - time.monotonic()
            if wait > 0:
                stopping.wait(min(wait, 0.2))
                if wait > 0.2:
                    continue
            if stopping.is_set():
                break
            if free.acquire(blocking=False):
                pool.submit(ask, number)
            number += 1
            if time.monotonic() - written > 0.5:
                written = time.monotonic()
                write_status(status, users.counts)
    write_status(status, users.counts)


def write_status(path: Path, counts: Counts) -> None:
    """Replaces the status file in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(counts.snapshot()))
    fresh.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--host", default="", help="the endpoint's own name, where it has one")
    parser.add_argument("--api", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--tickets", type=Path, required=True)
    parser.add_argument("--status", type=Path, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    arguments = parser.parse_args()
    tickets = [json.loads(line) for line in arguments.tickets.read_text().splitlines() if line.strip()]
    users = Users(
        gateway=arguments.gateway,
        host=arguments.host,
        endpoint=arguments.endpoint,
        api=arguments.api,
        token=json.loads(arguments.token_file.read_text())["token"],
        tickets=tickets,
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    run(users, per_second=arguments.per_second, status=arguments.status, stopping=stopping)


if __name__ == "__main__":
    main()
