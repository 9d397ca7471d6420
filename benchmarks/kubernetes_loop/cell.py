"""The worker that is measured, in a process of its own: `python -m benchmarks.kubernetes_loop.cell KUBECONFIG NAMESPACE
ENDPOINTS ROLLOUTS SECONDS`, on the database that HEADGATE_DATABASE_URL names.

The loop runs as in a worker: a tick a second, woken in between by what the watches see, and the probes every two
seconds. Prints what it does as JSON, a line each: first that the steady state begins and ends, then the figures.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HEADGATE_RUN_DIR", tempfile.mkdtemp(prefix="headgate-bench-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")

import django

django.setup()

from django.db import connections  # noqa: E402

from benchmarks.kubernetes_loop.furnish import Furnished, begin_rollout  # noqa: E402
from controlplane.timekeeping.database_clock import CLOCK  # noqa: E402
from rollouts.models import Endpoint, Rollout, Workload  # noqa: E402
from rollouts.services.loop.glances import Glances  # noqa: E402
from rollouts.services.loop.leases import look_soon  # noqa: E402
from rollouts.services.loop.reconcile import (  # noqa: E402
    reconcile_endpoint,
    reconcile_endpoints,
    worker_name,
)
from rollouts.wake import LoopWaker  # noqa: E402
from tests.rollouts.probing import probe_rollouts  # noqa: E402

TICK, PROBES, THREADS = 1.0, 2.0, 4
BETWEEN_ROLLOUTS = 2.0
SETTLES_SECONDS = 16.0  # after the first look at all
MOST_SECONDS = 60.0  # for all rollouts to move


class Worker:
    """The loop's worker and the probes' one."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.waker = LoopWaker(lambda: self._ask.set())
        self.at = Furnished(kubeconfig, namespace, CLOCK, self.waker)
        self.ticks: list[float] = []
        self._ask, self._ask_probes = threading.Event(), threading.Event()
        self._glances = Glances()
        self._woken = ThreadPoolExecutor(
            THREADS - 2, thread_name_prefix="woken"
        )  # beside the tick and the look

    def start(self) -> None:
        self.waker.run_here()
        for work in (self._tick, self._look, self._probe):
            threading.Thread(target=self._forever, args=(work,), daemon=True).start()

    def _tick(self) -> None:
        began = time.monotonic()
        self._reconcile()
        self.ticks.append(time.monotonic() - began)
        time.sleep(max(0.0, TICK - self.ticks[-1]))

    def _look(self) -> None:
        self._ask.wait()
        self._ask.clear()
        self._reconcile()
        self._ask_probes.set()

    def _probe(self) -> None:
        """A round of each rollout that is due; what was proven is looked at, as the task of a round asks for it."""
        self._ask_probes.wait(PROBES)
        self._ask_probes.clear()
        probe_rollouts(self.at.worlds)
        for endpoint_id in Rollout.objects.filter(phase="provisioning").values_list("endpoint_id", flat=True):
            self._woken.submit(self._turn, endpoint_id)

    def _turn(self, endpoint_id: int) -> None:
        try:
            reconcile_endpoint(endpoint_id=endpoint_id, world=self.at.world, owner=worker_name())
        finally:
            connections.close_all()

    def _reconcile(self) -> None:
        reconcile_endpoints(worlds=self.at.worlds, clock=CLOCK, threads=THREADS, glances=self._glances)

    @staticmethod
    def _forever(work: Callable[[], None]) -> None:
        while True:
            try:
                work()
            except Exception as error:  # the boundary of a thread: the benchmark says it and goes on
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                time.sleep(TICK)
            finally:
                connections.close_all()


def main() -> None:
    kubeconfig, namespace = Path(sys.argv[1]), sys.argv[2]
    endpoints, rollouts, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    began = time.monotonic()
    worker = Worker(kubeconfig, namespace)
    worker.at.furnish(endpoints)
    say(
        mark="furnished",
        seconds=round(time.monotonic() - began, 1),
        requests=sum(worker.at.requests.values()),
    )
    worker.start()
    while Endpoint.objects.filter(reconciled_at=None).exists():
        time.sleep(1.0)
    time.sleep(SETTLES_SECONDS)
    steady = _steady(worker, seconds)
    candidates = _rollouts(rollouts)
    end = time.monotonic() + MOST_SECONDS
    while Rollout.objects.exclude(phase="progressing").exists() and time.monotonic() < end:
        time.sleep(1.0)
    time.sleep(2.0)  # whoever watches routes sees the last one
    stuck = list(
        Rollout.objects.exclude(phase="progressing").values_list("endpoint__name", "phase", "reason")
    )
    sys.stderr.flush()
    say(mark="over", candidates=candidates, stuck=stuck, **steady, peak_mb=_memory("VmHWM"))


def _steady(worker: Worker, seconds: float) -> dict[str, Any]:
    """What is asked and used while nothing happens."""
    worker.ticks.clear()
    before, cpu = Counter(worker.at.requests), time.process_time()
    say(mark="steady")
    began = time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    say(mark="steady is over")
    asked = Counter(worker.at.requests) - before
    return {
        "steady_seconds": round(lasted, 1),
        "asked": dict(sorted(asked.items())),
        "cpu_share": round((time.process_time() - cpu) / lasted, 3),
        "longest_tick": round(max(worker.ticks), 2),
        "memory_mb": _memory("VmRSS"),
        "not_ready": Workload.objects.exclude(phase="ready").count(),
    }


def _rollouts(count: int) -> list[str]:
    """Begins one after the other, and has each looked at, as after a click."""
    found = []
    for endpoint in Endpoint.objects.select_related("stable", "gate_policy", "model").order_by("pk")[:count]:
        found.append(begin_rollout(endpoint, CLOCK.now()))
        look_soon(pk=endpoint.pk)
        time.sleep(BETWEEN_ROLLOUTS)
    return found


def _memory(which: str) -> int:
    """Of this process in MiB, as the kernel has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(which))


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # the worker's threads go on for ever
