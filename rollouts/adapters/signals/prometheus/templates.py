"""What each gateway counts, and under which names: data, and nothing else differs between gateways.

A class of endings is a tuple of sums, and the largest of them counts. So two counters that overlap in a way that nobody
can tell apart (a reset that also became a 503) never blame an arm twice. A counter that a target does not have yet is 0
only beside other counters of the same arm at the same target; an arm without any is not there at all.

Sources: Envoy's "Cluster manager statistics" and "Router"; Istio's "Standard metrics"; Envoy Gateway 1.9, where a
backend of a route is a cluster of its own once its reference has a filter, named by the places of rule and backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class CounterTerm:
    """A counter that is added (`sign` 1) or taken away (-1), of the series whose labels match in full."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    sign: int = 1

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in self.labels.items())


ClassSums = tuple[tuple[CounterTerm, ...], ...]


@dataclass(frozen=True, slots=True)
class HistogramTerm:
    """A histogram whose edges are in parts of a second: `per_second` of them."""

    metric: str
    per_second: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayTemplate:
    """How a gateway's counters are asked for and read.

    name        of the gateway, for people
    alive       a metric that every process of the gateway always has. The time of its sample is that of all others
    start       a query for when each process started, in seconds since the epoch
    target      labels that tell the processes apart; the last one is their name for people
    selector    labels of the series to ask for; NAMESPACE and ROUTES become those of the endpoints' routes, SERVICES
                the names of their Services
    arm_label, arm_pattern
                which label says whose a series is, and how: `route`, `rule` and `backend` are places in an HTTPRoute,
                `service` is a Service
    arrived     requests that arrived; where there is no such counter, all that ended and that run
    running     a gauge of requests that have not ended; empty: the gateway does not say
    answered    whole answers; empty: all that arrived and neither run nor ended otherwise, but at most `succeeded`.
                Envoy writes its counters down one after the other: a request that ends meanwhile may be in one and not
                yet in the next, and no refusal must become an answer by that
    succeeded   requests whose answer began with a success
    unheld      answers with a success at whose end clients may leave and be in `abandoned`; see `ArmReading`
    endpoints   a gauge of the endpoints that get the requests of a backend; empty: the gateway does not say it by the
                place of the backend
    forced_apart  whether forced requests are counted under other names by themselves. Else the place of the routes
                needs a suffix for Services of forced requests (`GatewayPlace.forced_suffix`)
    latency     histograms, by signal
    edges       of these histograms as the gateway has them by default, in seconds
    untold      what its counters cannot say, for people
    """

    name: str
    alive: str
    start: str
    target: tuple[str, ...]
    selector: str
    arm_label: str
    arm_pattern: str
    failed: ClassSums
    refused_request: ClassSums
    refused_rate: ClassSums
    abandoned: ClassSums
    unheld: ClassSums
    arrived: ClassSums = ()
    running: ClassSums = ()
    answered: ClassSums = ()
    succeeded: ClassSums = ()
    endpoints: str = ""
    forced_apart: bool = True
    latency: Mapping[str, HistogramTerm] = field(default_factory=dict)
    edges: tuple[float, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def counters(self) -> tuple[str, ...]:
        """The metrics of all classes, sorted."""
        every = (
            self.arrived, self.running, self.answered, self.failed, self.refused_request, self.refused_rate,
            self.abandoned, self.unheld, self.succeeded,
        )  # fmt: skip
        return tuple(sorted({term.metric for sums in every for one in sums for term in one}))


def _envoy(name: str, sign: int = 1, **labels: str) -> CounterTerm:
    return CounterTerm(f"envoy_cluster_upstream_{name}", labels, sign)


_BY_CODE = "rq"
# A second count of the requests that went by the script of deploy/kubernetes/whole-answers.yaml.
_HELD = "envoy_cluster_headgate_upstream_rq"
_SERVER_ERRORS = _envoy(_BY_CODE, envoy_response_code="5..")
_ENVOY_MS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6)

ENVOY_GATEWAY = GatewayTemplate(
    name="Envoy Gateway",
    alive="envoy_server_uptime",
    start='container_start_time_seconds{container="envoy"}',
    target=("namespace", "pod"),
    selector='envoy_cluster_name=~"httproute/NAMESPACE/(ROUTES)/rule/[0-9]+/backend/[0-9]+"',
    arm_label="envoy_cluster_name",
    arm_pattern=r"httproute/[^/]+/(?P<route>[^/]+)/rule/(?P<rule>\d{1,3})/backend/(?P<backend>\d{1,3})",
    # A retry is another request to the backend and no other arrival. Whom no connection could be had for is in none of
    # the backend's requests.
    arrived=(
        (
            _envoy("rq_total"),
            _envoy("rq_retry", -1),
            _envoy("rq_pending_failure_eject"),
            _envoy("rq_pending_overflow"),
            _envoy("cx_none_healthy"),
        ),
    ),
    running=((_envoy("rq_active"),),),
    succeeded=((_envoy(_BY_CODE, envoy_response_code="2.."),),),
    # What an engine breaks off is a 503 before the headers, and a broken answer of status 200 after them.
    # Over HTTP/2 a request is reset, over HTTP/1 its connection is closed, and each counts in one of the two.
    failed=((_SERVER_ERRORS,), (_envoy("rq_rx_reset"), _envoy("cx_destroy_remote_with_active_rq"))),
    refused_request=(
        (
            _envoy(_BY_CODE, envoy_response_code="[34].."),
            _envoy(_BY_CODE, -1, envoy_response_code="429"),
        ),
    ),
    refused_rate=((_envoy(_BY_CODE, envoy_response_code="429"),),),
    # Envoy breaks off the request to the backend when its client leaves, and when it took too long: then it says 504.
    abandoned=(
        (
            _envoy("rq_tx_reset"),
            _envoy("cx_destroy_local_with_active_rq"),
            _envoy("rq_timeout", -1),
            _envoy("rq_per_try_timeout", -1),
        ),
    ),
    # A client that closes at [DONE], before the end of the body, is in these counters, and had its answer. The script
    # holds [DONE] back until the end, and what went by it is counted a second time.
    unheld=(
        (
            _envoy(_BY_CODE, envoy_response_code="2.."),
            CounterTerm(_HELD, {"envoy_response_code": "2.."}, -1),
        ),
    ),
    endpoints="envoy_cluster_membership_healthy",
    latency={"duration": HistogramTerm("envoy_cluster_upstream_rq_time", _MS)},
    edges=tuple(edge / _MS for edge in _ENVOY_MS),
    untold=(
        "whether a client left before the first token or midway: all are told as midway",
        "who left and who closed the connection at [DONE], without deploy/kubernetes/whole-answers.yaml",
        "an error inside a stream of status 200",
        "time to the first token; the engine's own is beside it",
        "which of the timed answers were refusals: a fast 400 is in the durations",
        "requests to a backend without any endpoint: Envoy Gateway answers 503 in no backend's name",
    ),
)

_FROM_GATEWAY = {"reporter": "source"}
_BROKEN = r"(?:.*,)?(?:UC|UR|UPE|UF|UT|SI)(?:,.*)?"
_LEFT = rf"(?!{_BROKEN}$)(?:.*,)?(?:DC|DR|DPE)(?:,.*)?"  # whoever leaves a stream that broke did not leave it
_WHOLE = rf"(?!{_BROKEN}$)(?!{_LEFT}$).*"


def _istio(code: str, flags: str = ".*") -> CounterTerm:
    return CounterTerm(
        "istio_requests_total", {**_FROM_GATEWAY, "response_code": code, "response_flags": flags}
    )


ISTIO = GatewayTemplate(
    name="Istio",
    alive="envoy_server_uptime",
    start='container_start_time_seconds{container="istio-proxy"}',
    target=("namespace", "pod"),
    selector='reporter="source",destination_service_namespace="NAMESPACE",destination_service_name=~"(SERVICES)"',
    arm_label="destination_service_name",
    arm_pattern=r"(?P<service>[a-z0-9-]+)",
    answered=((_istio("2..", _WHOLE),),),
    failed=((_istio("5.."), _istio("2..", _BROKEN)),),
    refused_request=((_istio("3..|4(?!29|99).."),),),
    refused_rate=((_istio("429"),),),
    abandoned=((_istio("0|499"), _istio("2..", _LEFT)),),
    unheld=((_istio("2.."),),),
    forced_apart=False,
    latency={
        "duration": HistogramTerm(
            "istio_request_duration_milliseconds",
            _MS,
            {**_FROM_GATEWAY, "response_code": "2..", "response_flags": "-"},
        )
    },
    edges=tuple(edge / _MS for edge in _ENVOY_MS),
    untold=(
        "requests that still run: it counts them when they end",
        "whether a client left before the first token or midway: all are told as midway",
        "who left and who closed the connection at [DONE]",
        "an error inside a stream of status 200",
        "time to the first token; the engine's own is beside it",
        "forced requests by themselves, unless they go to Services of their own",
        "whether a proxy has endpoints: of a first share a forced request is the only proof",
    ),
)  # fmt: skip

TEMPLATES = {one.name: one for one in (ENVOY_GATEWAY, ISTIO)}
