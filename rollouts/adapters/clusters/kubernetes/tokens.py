"""Which fencing tokens loops have told, of all endpoints of one installation in a namespace together: one ConfigMap.

A loop tells its token for every endpoint every few seconds, so that another control plane finds out about it. A write
for each would be hundreds of requests a second with a thousand endpoints. So telling asks nobody and waits for nobody:
it counts in this process at once, and a thread has it in the cluster within TELL_SECONDS, with all others of that time
in one write, by compare-and-set. Nothing is asked while nobody tells anything.

It shows who is at work, and shuts out a worker that was overtaken a moment later than a write does: what is written
carries its token itself (`fence.py`, and every route).
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from controlplane.kernel.errors import HeadgateError, InvalidInput, Unavailable
from controlplane.kernel.foreign import parsed, words_of
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Missing, Stale
from rollouts.adapters.clusters.kubernetes.names import (
    ENDPOINT,
    ENDPOINT_NAME,
    INSTALLATION,
    MANAGED_BY,
    VARIANT,
    label_value,
    object_name,
)

# One who tells and one who listens are late by this much each, and looks are 15 s apart: together less than
# `QUIET_SECONDS` of services/loop/restored.py.
TELL_SECONDS = 2.0
SILENT_SECONDS = 10.0  # after which what others told is not known any more
FIRST_SECONDS = 5.0  # that those who ask first wait, all together, until it is known what was told before
LONGEST_PAUSE = 8.0  # between two tries
TRIES = 4  # of a write that meets others
# Beyond so many the ones that were told longest ago are left out: a ConfigMap takes 1 MiB.
MOST_ENDPOINTS = 5_000
TOKENS = "tokens"  # the key of a JSON object: token by endpoint, those that were told last at the end
TOKEN = "token"  # noqa: S105 - the key of a number
LARGEST = 2**63 - 1
DRAW = random.SystemRandom().random  # processes that were forked must not draw the same

log = logging.getLogger(__name__)


class TokenObjects(Protocol):
    """The part of a client that is needed here."""

    @property
    def namespace(self) -> str: ...

    def get(self, kind: ObjectKind, name: str) -> dict[str, Any] | None: ...

    def pages(self, kind: ObjectKind, selector: str = "") -> Iterator[tuple[list[dict[str, Any]], str]]: ...

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]: ...

    def apply(
        self, body: Mapping[str, Any], seen: Mapping[str, Any] | None, *, force: bool = False
    ) -> dict[str, Any]: ...


class TokenBook(Protocol):
    """Where loops tell their tokens."""

    def tell(self, endpoint: str, token: int) -> int:
        """Remembers the token unless a larger one is known, and returns the largest one; 0 only asks. Raises
        Unavailable while it is not known what others told."""
        ...


class ToldTokens:
    """A TokenBook that is kept in the cluster. Safe to call from several threads.

    steady   seconds that run steadily
    pause    waits so many seconds, or until `stop`
    """

    def __init__(
        self,
        client: TokenObjects,
        installation: str,
        *,
        steady: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = DRAW,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._client = client
        self._installation = installation
        self._steady = steady
        self._draw = draw
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._changed = threading.Condition()
        self._known: dict[str, int] = {}
        self._untold: dict[str, int] = {}  # that the cluster does not have yet
        self._asked_since: float | None = None  # the first question that no answer of the cluster followed
        self._loaded = False
        self._problem: HeadgateError | None = None
        self._seen: dict[str, Any] | None = None  # the object as it was read or written last
        self._thread: threading.Thread | None = None
        self._waited_until = 0.0

    def tell(self, endpoint: str, token: int) -> int:
        """See the protocol. Waits only before the first answer of the cluster, and a moment at most."""
        with self._changed:
            if self._asked_since is None:
                self._asked_since = self._steady()
            self._begin()
            left = max(0.0, self._waited_until - self._steady())
            self._changed.wait_for(lambda: self._loaded or self._problem is not None, left)
            if self._problem is not None:
                raise Unavailable(self._problem.message, fix=self._problem.fix, code=self._problem.code)
            silent = 0.0 if self._asked_since is None else self._steady() - self._asked_since
            if not self._loaded or silent > SILENT_SECONDS:
                raise Unavailable(
                    "The cluster does not say which tokens were told.", fix="It is asked again."
                )
            newest = self._known.get(endpoint, 0)
            if token > newest:
                self._known[endpoint] = self._untold[endpoint] = newest = token
            return newest

    def stop(self) -> None:
        """Ends the thread; it begins anew when somebody tells something. What is not in the cluster yet never comes."""
        self._stopped.set()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stopped.clear()
            self._waited_until = self._steady() + FIRST_SECONDS
            self._thread = threading.Thread(target=self._run, name="told tokens", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        tries = 0
        while not self._stopped.is_set():
            try:
                self.exchange()
                tries = 0
            except Exception as error:  # the boundary of a thread: whatever comes, it goes on
                tries += 1
                self._note(error)
            longest = min(LONGEST_PAUSE, TELL_SECONDS * 2 ** min(tries, 10))
            self._pause(longest if not tries else longest * (0.5 + self._draw() / 2))

    def _note(self, error: Exception) -> None:
        self._seen = None  # it may be gone: it is read before it is written
        problem = error if isinstance(error, HeadgateError) else None
        if problem is None:
            log.exception("kubernetes.tokens_failed")
            problem = Unavailable("The tokens could not be told.", fix="The log has it.")
        with self._changed:
            self._problem = problem
            self._changed.notify_all()

    def exchange(self) -> None:
        """Tells what was not told yet, and learns what others told; nothing where nobody asked since the last time.
        Raises what the client raises, and Unavailable when others write all the time."""
        with self._changed:
            untold, asked_since = dict(self._untold), self._asked_since
            loaded = self._loaded
        if asked_since is None and not untold:
            return
        if not loaded:
            self._learn(self._fences())
        if not loaded or not untold or self._seen is None:
            self._read()
        for _ in range(TRIES):
            try:
                self._write(untold)
                break
            except (Stale, Missing):
                self._read()
        else:
            raise Unavailable("Others change the told tokens again and again.", fix="It is tried again.")
        with self._changed:
            self._untold = {one: token for one, token in self._untold.items() if untold.get(one) != token}
            if self._asked_since == asked_since:  # else it was asked after this began
                self._asked_since = None
            self._loaded, self._problem = True, None
            self._changed.notify_all()

    def _fences(self) -> dict[str, int]:
        """What writers left behind, whatever becomes of the object that all share."""
        found: dict[str, int] = {}
        ours = f"{INSTALLATION}={label_value(self._installation)},{ENDPOINT},!{VARIANT}"
        for objects, _ in self._client.pages(CONFIG_MAP, ours):
            for one in objects:
                metadata = one.get("metadata")
                notes = metadata.get("annotations") if isinstance(metadata, Mapping) else None
                endpoint = notes.get(ENDPOINT_NAME) if isinstance(notes, Mapping) else None
                token = token_in(one)
                if isinstance(endpoint, str) and token is not None:
                    found[endpoint] = max(token, found.get(endpoint, 0))
        return found

    def _read(self) -> None:
        self._seen = self._client.get(CONFIG_MAP, self._name)
        self._learn(_tokens_in(self._seen))

    def _learn(self, tokens: Mapping[str, int]) -> None:
        with self._changed:
            for endpoint, token in tokens.items():
                self._known[endpoint] = max(token, self._known.get(endpoint, 0))

    def _write(self, untold: Mapping[str, int]) -> None:
        """Raises Stale when others wrote since it was read."""
        kept = _tokens_in(self._seen)
        if self._seen is None:
            with self._changed:  # somebody took it away, or nobody made it yet
                kept = dict(self._known)
        fresh = {one: token for one, token in untold.items() if token > kept.get(one, 0)}
        if not fresh and (self._seen is not None or not kept):
            return
        every = {one: token for one, token in kept.items() if one not in fresh} | fresh
        newest = dict(list(every.items())[-MOST_ENDPOINTS:])
        body = {
            "apiVersion": "v1",
            "kind": CONFIG_MAP.name,
            "metadata": {
                "name": self._name,
                "namespace": self._client.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": MANAGED_BY,
                    INSTALLATION: label_value(self._installation),
                },
            },
            "data": {TOKENS: json.dumps(newest, separators=(",", ":"))},
        }
        if self._seen is None:
            self._seen = self._client.create(body)
        else:
            self._seen = self._client.apply(body, self._seen, force=True)

    @property
    def _name(self) -> str:
        # No variant has a dot in the name of its objects; two installations may share a namespace.
        return f"tokens.{object_name(self._installation)}"


def token_in(seen: Mapping[str, Any] | None) -> int | None:
    """The token of an endpoint's own object. None: there is none, or somebody made it unreadable."""
    found = (seen or {}).get("data")
    value = str(found.get(TOKEN, "")) if isinstance(found, Mapping) else ""
    return int(value) if value.isdecimal() and len(value) <= 19 else None


def _tokens_in(seen: Mapping[str, Any] | None) -> dict[str, int]:
    """What the object says. What somebody spoilt is left out: it is told again soon."""
    data = (seen or {}).get("data")
    text = data.get(TOKENS) if isinstance(data, Mapping) else None
    if not isinstance(text, str):
        return {}
    try:
        found = parsed(text, "The object of told tokens")
    except InvalidInput as error:
        log.warning("kubernetes.tokens_odd %s", words_of(error.message))
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        one: token
        for one, token in found.items()
        if isinstance(token, int) and not isinstance(token, bool) and 0 < token <= LARGEST
    }
