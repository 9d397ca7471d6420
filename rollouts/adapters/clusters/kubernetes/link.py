"""The connection to an API server. It is made anew where that may help: after the credentials were refused, and where
calls fail after what it was made from was changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kubernetes import client as official
from kubernetes.dynamic import DynamicClient

from controlplane.kernel.errors import HeadgateError

LOOK_SECONDS = 5.0  # between two looks at what connections are made from, while calls fail


class _NothingDiscovered:
    """Stands where the official client would ask the server for all of its kinds."""

    def __init__(self, client: object, cache_file: object) -> None:
        pass


class Link:
    """Safe to call from several threads.

    connect   makes the official client; it may raise a HeadgateError
    state     tells by a text what `connect` would read now: another text, another connection. Where it raises a
              HeadgateError, the connection stays as it is
    steady    seconds of a clock that never jumps
    """

    def __init__(
        self,
        connect: Callable[[], official.ApiClient],
        state: Callable[[], str],
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._state = state
        self._steady = steady
        self._lock = threading.Lock()
        self._dynamic: DynamicClient | None = None
        self._uid = ""
        self._made_from = ""
        self._looked_at = float("-inf")

    def reached(self) -> DynamicClient:
        """The connection; made now where there is none."""
        with self._lock:
            if self._dynamic is None:
                # The state first: what is changed in between is another one at the next look.
                self._made_from = self._state()
                self._dynamic = DynamicClient(self._connect(), discoverer=_NothingDiscovered)
            return self._dynamic

    @property
    def uid(self) -> str:
        """Of the cluster that answers this connection; empty: nobody asked yet."""
        return self._uid

    def note_uid(self, dynamic: DynamicClient, uid: str) -> None:
        """What was answered over this connection; of an earlier one it says nothing about the one that is there now."""
        with self._lock:
            if self._dynamic is dynamic:
                self._uid = uid

    def forget(self, dynamic: DynamicClient) -> None:
        """The next call connects anew, with the credentials as they are by then; to whom, is asked again."""
        with self._lock:
            if self._dynamic is dynamic:
                self._dynamic, self._uid = None, ""

    def look_again(self) -> None:
        """A call failed: the next one connects anew if what connections are made from was changed. However many fail,
        that is looked at once in LOOK_SECONDS."""
        with self._lock:
            now = self._steady()
            if self._dynamic is None or now - self._looked_at < LOOK_SECONDS:
                return
            self._looked_at = now
            try:
                changed = self._state() != self._made_from
            except HeadgateError:
                return  # there is nothing else to connect with
            if changed:
                self._dynamic, self._uid = None, ""
