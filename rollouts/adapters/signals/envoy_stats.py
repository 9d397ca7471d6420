"""Counters of the assigned arms, out of Envoy's statistics.

Envoy counts each request twice: `llm.arrived` when it arrives and `llm.requests` when it ended, both under
the cluster that the route chose (see routers/envoy_logs). So `arrived` is a measurement of its own, not
a sum, and a request that no backend could take is in both. Histograms are merged once a second: they may
be one second behind the counters.

How a request ended is decided in one place, `ended_as`, for counters and histograms alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import HeadgateError, InvalidInput, Unavailable
from controlplane.kernel.foreign import number_of, whole_of
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin, unknown_if_odd
from rollouts.adapters.routers.envoy_config import MICROSECONDS, MILLISECONDS, Paths
from rollouts.adapters.routers.envoy_logs import CLIENT_CLOSED, LEFT_FLAGS, NO_STATUS, NOTHING, PART, WHOLE
from rollouts.adapters.routers.envoy_routes import ASSIGNED, split_cluster_name
from rollouts.adapters.signals.exposition import Sample, samples
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    CountedKind,
    Failures,
    HistogramReading,
    SignalReading,
    TargetReading,
)
from rollouts.ports import Backend, CounterQuestion

Ending = Literal["answered", "request", "rate", "gateway", "failed", "fallback", "before", "midway"]
# Routes that are in no arm, by the end of their names: calls that are no inference, and refusals of the router.
OTHER, TURNED_AWAY = "other", "refused"
_PREFIX = "envoy_llm_"


def ended_as(labels: Mapping[str, str], assigned: str) -> Ending:
    """In which class a request of the assigned arm belongs, by the labels that Envoy counted it with.

    - An error outranks the client's leaving: clients hang up on a stream that breaks. So does a refusal.
    - A 4xx that did not come from a backend is the router's own, whoever was about to answer: a client that stalls in
      its own upload gets 408 and the flag of an idle time-out, and says nothing of the arm.
    - Where another arm was answering, the assigned one did not: a fallback, also when that answer was a refusal, and
      when the client left before it was complete.
    - Only what is known to be an answer is one: a success that is not whole, and that no client broke off, failed.
    """
    code = _code(labels)
    flags = set(labels.get("flags", "").split(",")) - {"", "-"}
    # Connections that outlive an upgrade are counted as they were before it, without this tag.
    got = labels.get("got") or (NOTHING if flags else WHOLE)
    left = bool(flags & set(LEFT_FLAGS)) or code in (NO_STATUS, CLIENT_CLOSED)
    refused = 300 <= code < 500 and code != CLIENT_CLOSED
    if code >= 500 or labels.get("stream_error"):
        return "failed"
    if refused and got != WHOLE and not flags & {"DC", "DR"}:
        return "gateway"
    if flags - set(LEFT_FLAGS) and got != WHOLE:
        return "failed"
    if labels.get("variant", "") not in ("", assigned):
        return "fallback"
    if refused:
        return "rate" if code == 429 else "request"
    if got == WHOLE and code != CLIENT_CLOSED:
        return "answered"
    if left:
        return "midway" if got == PART else "before"
    return "failed"


def _code(labels: Mapping[str, str]) -> int:
    """The status that a request ended with. Raises InvalidInput."""
    return whole_of(labels.get("code") or NO_STATUS, "The metrics", "code", least=0, most=999)


@dataclass(slots=True)
class _Histogram:
    """Cumulative buckets of several series, added up."""

    buckets: dict[float, int] = field(default_factory=lambda: defaultdict(int))
    total: int = 0

    def add(self, part: str, sample: Sample, unit: int) -> None:
        """Adds the sample of a count or a bucket. The sum of a histogram is no count, and is not read."""
        le = sample.labels.get("le", "")
        if part == "count":
            self.total += sample.count
        elif part == "bucket" and le != "+Inf":
            self.buckets[number_of(le, "The metrics", "the edge of a bucket", least=0.0) / unit] += (
                sample.count
            )

    def reading(self, edges: Collection[float] = ()) -> HistogramReading:
        """With zeros at `edges` where nothing was counted yet."""
        found = tuple(sorted({*self.buckets, *edges}))
        return HistogramReading(found, tuple(self.buckets.get(edge, 0) for edge in found), self.total)


@dataclass(slots=True)
class _Tally:
    """One arm, while its samples are added up."""

    arrived: int = 0
    classes: dict[Ending, int] = field(default_factory=lambda: defaultdict(int))
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    latency: dict[str, _Histogram] = field(default_factory=lambda: defaultdict(_Histogram))
    left: dict[str, _Histogram] = field(default_factory=lambda: defaultdict(_Histogram))

    def add_ended(self, ended: Ending, labels: Mapping[str, str], number: int) -> None:
        self.classes[ended] += number
        code = _code(labels)
        if code != NO_STATUS and ended not in ("before", "midway"):
            self.statuses[f"{code // 100}xx"] += number

    def add_time(self, ended: Ending, name: str, sample: Sample) -> None:
        """Books a sample of a histogram where its class belongs; what says nothing of the arm's speed is left out."""
        histogram, _, part = name.rpartition("_")
        if histogram == "duration" and ended == "answered":
            self.latency["duration"].add(part, sample, MICROSECONDS)
        elif histogram == "ttft" and ended in ("answered", "midway"):
            self.latency["ttft"].add(part, sample, MICROSECONDS)
        elif histogram == "left_ttft" and ended == "before":
            self.left["ttft"].add(part, sample, MILLISECONDS)
        elif histogram == "left_duration" and ended == "answered":  # it left at [DONE]
            self.latency["duration"].add(part, sample, MILLISECONDS)
        elif histogram == "left_duration" and ended in ("before", "midway"):
            self.left["duration"].add(part, sample, MILLISECONDS)

    def reading(self) -> ArmReading:
        # both kinds, where there is one of them: an arm that nobody waited for has no latency and much of `left`
        signals = sorted({*self.latency, *self.left})
        edges = {name: {*self.latency[name].buckets, *self.left[name].buckets} for name in signals}
        found = ArmReading(
            arrived=self.arrived,
            answered=self.classes["answered"],
            refused={kind: self.classes[kind] for kind in ("request", "rate", "gateway")},
            failed=self.classes["failed"],
            fallbacks=self.classes["fallback"],
            abandoned={when: self.classes[when] for when in ("before", "midway")},
            statuses=dict(sorted(self.statuses.items())),
            latency={name: self.latency[name].reading(edges[name]) for name in signals},
            left={name: self.left[name].reading(edges[name]) for name in signals},
        )
        # the counters are read one after the other: a request may arrive and end in between
        return replace(found, arrived=max(found.arrived, found.arrived - found.running))


def by_endpoint(text: str) -> dict[str, list[Sample]]:
    """The samples of Envoy's Prometheus output by the endpoint that they are of; those of none are left out."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples(text):
        kind, endpoint, _ = split_cluster_name(sample.labels.get("cluster", ""))
        if kind == ASSIGNED:
            found[endpoint].append(sample)
            continue
        endpoint, _, route = sample.labels.get("route", "").partition("/")
        if route in (OTHER, TURNED_AWAY):
            found[endpoint].append(sample)
    return found


def arms_of(endpoint: str, found: Iterable[Sample]) -> dict[str, ArmReading]:
    """The arms of one endpoint among samples of Envoy's, by variant; forced requests are in none.

    Raises InvalidInput for a sample that can be no count: the others without it would be less than was counted.
    """
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for sample in found:
        kind, of_endpoint, variant = split_cluster_name(sample.labels.get("cluster", ""))
        if kind != ASSIGNED or of_endpoint != endpoint:
            continue
        tally, name = tallies[variant], sample.name.removeprefix(_PREFIX)
        if name == "arrived":
            tally.arrived += sample.count
            continue
        ended = ended_as(sample.labels, variant)
        if name == "requests":
            tally.add_ended(ended, sample.labels, sample.count)
        else:
            tally.add_time(ended, name, sample)
    return {variant: tally.reading() for variant, tally in tallies.items()}


def calls_of(endpoint: str, route: str, found: Iterable[Sample]) -> int:
    """How many calls of the endpoint ended on its route of that name, which is in no arm."""
    return sum(
        sample.count
        for sample in found
        if sample.name == f"{_PREFIX}requests" and sample.labels.get("route") == f"{endpoint}/{route}"
    )


def failures_of(text: str) -> dict[str, Failures]:
    """How requests ended, by endpoint, in Envoy's Prometheus output. An endpoint with an odd sample is left out."""
    ended: dict[str, int] = defaultdict(int)
    failed: dict[str, int] = defaultdict(int)
    odd: set[str] = set()
    for sample in samples(text):
        kind, endpoint, variant = split_cluster_name(sample.labels.get("cluster", ""))
        if kind != ASSIGNED or sample.name != f"{_PREFIX}requests":
            continue
        try:
            number, how = sample.count, ended_as(sample.labels, variant)
        except InvalidInput:
            odd.add(endpoint)
            continue
        ended[endpoint] += number
        failed[endpoint] += number if how in ("failed", "fallback") else 0
    return {name: Failures(ended[name], failed[name]) for name in ended if name not in odd}


class EnvoyStats:
    """A SignalSource of the router's counters alone (see `combined` for the engines' too). It has one target: Envoy.

    Every variant of `backends` has a reading: where Envoy has no counter yet, it has counted zero requests.
    Variants that had requests earlier are in it too.
    """

    def __init__(self, run_dir: Path, clock: Clock) -> None:
        self._admin = EnvoyAdmin(Paths(run_dir).admin)
        self._clock = clock

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        """See the port."""
        wanted = rf"^llm\.requests\..*{ASSIGNED}/"
        text = self._admin.text("/stats", filter=wanted, format="prometheus")
        with unknown_if_odd():
            return {endpoint: {ROUTER: found} for endpoint, found in failures_of(text).items()}

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        """See the port. All of them are one question to Envoy's admin interface."""
        asked = f"GET /stats?{urlencode({'filter': _counters_of([endpoint]), 'format': 'prometheus'})}"
        kinds = (CountedKind.REQUESTS, CountedKind.TTFT, CountedKind.DURATION, CountedKind.DEPARTURES)
        return dict.fromkeys(kinds, asked)

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        """See the port. Envoy knows no PromQL."""
        why = "this cluster has no Prometheus that could be asked; one of kind kubernetes has"
        return {one: CounterAnswer(why=why) for one in questions}

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        """See the port."""
        started_at = self._admin.started_at()
        at = self._clock.now().timestamp()
        text = self._admin.text("/stats", filter=_counters_of(backends), format="prometheus")
        if self._admin.started_at() != started_at:
            raise Unavailable("Envoy restarted while its counters were read.", fix="Read them again.")
        with unknown_if_odd():
            found = by_endpoint(text)
        return {
            endpoint: _reading(endpoint, known, found.get(endpoint, ()), at, started_at)
            for endpoint, known in backends.items()
        }


def _counters_of(endpoints: Iterable[str]) -> str:
    """A pattern of the names that Envoy's counters of these endpoints have."""
    names = "|".join(re.escape(endpoint) for endpoint in sorted(endpoints))
    return rf"^llm\..*({ASSIGNED}/({names})/|\.route\.({names})/({OTHER}|{TURNED_AWAY})\.)"


def _reading(
    endpoint: str, backends: Iterable[Backend], found: Collection[Sample], at: float, started_at: float
) -> SignalReading | HeadgateError:
    """One endpoint's reading of the router; what is wrong with its counters where they are odd."""
    nothing = {backend.variant: _Tally().reading() for backend in backends}
    try:
        with unknown_if_odd():
            target = TargetReading(
                started_at=started_at,
                arms=nothing | arms_of(endpoint, found),
                other=calls_of(endpoint, OTHER, found),
                turned_away=calls_of(endpoint, TURNED_AWAY, found),
            )
            return SignalReading(at=at, targets={ROUTER: target})
    except Unavailable as error:
        return error
