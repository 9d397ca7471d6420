"""The processes of a gateway, as a Prometheus scraped them last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.counting import Scraped, Target, target_of
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.templates import GatewayTemplate

STALE_SECONDS = 45.0  # three scrapes of 15 s
CLOCKS_APART_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ScrapedProcesses:
    """All that were scraped lately.

    now     Prometheus' own time, in seconds since the epoch
    found   when each started is not known here
    late    by how many seconds our clock is behind Prometheus'
    """

    now: float
    found: Mapping[Target, Scraped]
    late: float


class GatewayProcesses:
    """Asks which processes there are.

    namespaces     where the gateway's pods are: others say what they like, too. Empty: anywhere
    stale_seconds  older samples are of a process that is gone or that Prometheus does not reach
    """

    def __init__(
        self,
        server: PrometheusServer,
        template: GatewayTemplate,
        clock: Clock,
        *,
        namespaces: Collection[str] = (),
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._server = server
        self._template = template
        self._clock = clock
        self._namespaces = frozenset(namespaces)
        self._stale_seconds = stale_seconds

    def read(self) -> ScrapedProcesses:
        """Raises Unavailable when there is none, and as `PrometheusServer` does."""
        template = self._template
        now = self._server.now()
        late = now - self._clock.now().timestamp()
        apart = abs(late)
        if apart > CLOCKS_APART_SECONDS:
            raise Unavailable(
                f"The clock of Prometheus and this one are {apart:.0f} s apart: its samples cannot be put in time.",
                fix="Have both machines set their clocks by a time server.",
            )
        scrapes = self._server.vector(f"timestamp({template.alive})", at=now)
        found: dict[Target, Scraped] = {}
        for sample in sorted(scrapes, key=lambda one: sorted(one.labels.items())):
            target = target_of(sample.labels, template)
            foreign = self._namespaces and sample.labels.get("namespace") not in self._namespaces
            if foreign or not target[-1] or _age(sample, now) > self._stale_seconds:
                continue
            scraped = Scraped(target, sample.labels, sample.value)
            # Two Prometheus jobs may scrape one process: it is counted once, by the newer scrape.
            if target not in found or found[target].at < scraped.at:
                found[target] = scraped
        if not found:
            raise Unavailable(
                f"Prometheus has no fresh series of {template.name} ({template.alive} with the labels"
                f" {', '.join(template.target)}).",
                fix="See whether it scrapes the gateway's pods, and whether these run.",
            )
        return ScrapedProcesses(now, found, max(0.0, late))


def _age(sample: Sample, now: float) -> float:
    """Of a sample whose value is a time; infinite where it is none."""
    try:
        return now - sample.amount
    except InvalidInput:
        return float("inf")
