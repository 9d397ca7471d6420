"""Wake-ups for the loop, so that nobody waits for the next tick: after a person's command, and when a cluster that is
watched tells that something changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery import current_app
from kombu.exceptions import OperationalError

from controlplane.kernel.clock import MESSAGE_SECONDS

log = logging.getLogger(__name__)

TOGETHER_SECONDS = 0.05  # changes within so long are one: a pod that becomes ready changes three objects
APART_SECONDS = (
    0.3  # between two looks: a cluster in which something changes all the time is no reason for more
)


def wake(endpoint_id: int) -> None:
    """Asks a worker to look at an endpoint now. Without a broker the next tick does the same."""
    _send("rollouts.reconcile_endpoint", endpoint_id)


def probe_soon() -> None:
    """Asks the probes' worker to see what is due: a candidate that became ready is proven at once. Without a broker the
    next tick does the same."""
    _send("rollouts.probe")


def _send(task: str, *arguments: int) -> None:
    try:
        # By name: pages and API stand beside the tasks and do not import them.
        current_app.send_task(task, arguments, expires=MESSAGE_SECONDS, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("loop.not_woken task=%s %s %s", task, arguments, error)


class LoopWaker:
    """Has the loop look once at all clusters, soon after something changed in one of them. Only in a process in which
    the loop runs: all processes watch, and one of them is enough.

    look   asks for that look; it may fail, and the next tick does the same
    """

    def __init__(self, look: Callable[[], None], *, steady: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._steady = steady
        self._here = threading.Event()
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run_here(self) -> None:
        """The loop runs in this process: from now on it is woken."""
        self._here.set()

    def wake(self) -> None:
        """Something changed. Returns at once."""
        if not self._here.is_set():
            return
        self._asked.set()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # also in the child of a fork
                self._thread = threading.Thread(target=self._run, name="wakes the loop", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            time.sleep(TOGETHER_SECONDS)
            began = self._steady()
            self._asked.clear()
            try:
                self._look()
            except Exception:  # the boundary of a thread: the next tick looks, too
                log.exception("loop.not_woken")
            time.sleep(max(0.0, APART_SECONDS - (self._steady() - began)))


LOOP = LoopWaker(lambda: _send("rollouts.reconcile_changed"))
