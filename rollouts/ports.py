"""What rollouts need from the outside: a cluster that runs variants, a router that splits traffic, a source of
signals, a log of requests, and a prober. Each has a real adapter and an in-memory one under one contract suite.

Values are plain and frozen; adapters never see a Django model. `token` is the fencing token of the caller's lease on
the endpoint: it only grows, and a write that carries an older token than the last one seen for that endpoint raises
StaleWriter and changes nothing. Everything that writes is idempotent. `claim` tells the token without writing anything
else: what it answers tells a control plane whose database is an older copy that somebody newer was here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from controlplane.kernel.errors import HeadgateError
from registry.domain.manifest import Manifest
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.belongings import FoundThere, LaunchFound
from rollouts.domain.capabilities import Capability
from rollouts.domain.capacity.findings import CapacityFinding
from rollouts.domain.engine_options import EngineOptions
from rollouts.domain.engines import EngineView, FailureReason, WorkloadPhase
from rollouts.domain.images import Image
from rollouts.domain.limits import Limits
from rollouts.domain.record.asked import CounterAnswer, CounterPair
from rollouts.domain.record.numbers import NumberQuery
from rollouts.domain.record.readings import CountedKind, Failures, SignalReading
from rollouts.domain.secrets import Secret
from rollouts.domain.trials import GatewayTrait, TrialFinding

FULL_SHARE_BP = 10_000
FORCED_VARIANT_HEADER = (
    "x-headgate-variant"  # on a request: answer with this variant; on a response: who answered
)


# --- clusters -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What to run for a variant.

    source       URI of the version's files, as the model store has it ("models:/m-1f3a", "s3://models/triage/2")
    manifest     what they must be: compared where the engine reads them, before every launch
    engine       name of an engine template: "vllm", or another that the cluster knows
    arguments    engine arguments by name without dashes ("max-model-len": 256); only declared options
    environment  variables of the engine; only declared options. A secret is given as it is stored or referred to, and
                 opened by the cluster at every launch
    resources    what one replica needs, by name ("memory_mb": 3000). A cluster leaves aside what it cannot set apart
    replicas     how many to run
    image        what the engine is started from; None: what the cluster has for it. What a tag means is looked up once
                 for a launch, so that all replicas, and those that take their place, run the same
    accelerators that one replica has to itself; None: none
    start_seconds how long it may take until READY, from when its files are there
    adopts       the server of somebody else that answers for it and is left as it is; empty: an engine is started
    """

    variant: str
    endpoint: str
    source: str
    manifest: Manifest
    engine: str = "vllm"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str | Secret] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    replicas: int = 1
    start_seconds: float = 600.0
    image: Image | None = None
    accelerators: Accelerators | None = None
    adopts: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """How a variant is reached: a reference that its cluster gives out. Only a router, and what reads engines of the
    same cluster, look inside (`rollouts/adapters/backends.py`); all others pass it on as it is.

    kind     says how to read the rest: "address", "service" ... A router refuses a kind that it does not know
    name     of the thing in the cluster, where the kind has one
    address  where the kind has one
    """

    variant: str
    kind: str
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """What the cluster sees of a workload. Times are seconds since the epoch.

    backend     how a router reaches it; None while that is not known
    ready, desired, restarts, started_at
                as `rollouts.domain.engines` says of an engine with replicas. `ready` is 0 in every phase but READY, and
                counts none that is being stopped; `restarts` are those since the launch
    message     for people; of replicas that are not ready, why: what the cluster says of the one it cannot place
    files_at    until when its files were still coming, where the cluster fetches them and knows it. It stands still
                while nothing comes: a launch that waits for nothing must come to its end
    drift       what somebody changed of it in the cluster since its launch, and who, as a sentence; it is left so.
                Empty: nothing
    altered     the part of it because of which something else runs, or still runs, than what was asked for, as words:
                what is measured then proves nothing. Empty: what runs is what was asked for
    scale_in_held  whether what scales it by itself is kept from taking replicas away; None: nothing scales it
    """

    variant: str
    phase: WorkloadPhase
    backend: Backend | None = None
    ready: int = 0
    desired: int = 0
    restarts: int = 0
    started_at: float | None = None
    reason: FailureReason = FailureReason.NONE
    message: str = ""
    in_flight: int | None = None
    files_at: float | None = None
    drift: str = ""
    altered: str = ""
    scale_in_held: bool | None = None

    @property
    def is_ready(self) -> bool:
        return self.view.is_ready

    @property
    def view(self) -> EngineView:
        """What decisions see of it."""
        return EngineView(
            variant=self.variant,
            phase=self.phase,
            ready=self.ready,
            desired=self.desired,
            restarts=self.restarts,
            started_at=self.started_at,
            reason=self.reason,
            message=self.message,
            files_at=self.files_at,
        )


@dataclass(frozen=True, slots=True)
class EngineApi:
    """The calls of an engine that users may make; every other path is refused by the router.

    inference   paths whose POST is an inference: counted, by the arm that was drawn for it
    other       further paths (token counts, health): passed on to the stable variant, never counted
    """

    inference: tuple[str, ...]
    other: tuple[str, ...] = ()


OPENAI_API = EngineApi(
    inference=(
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/score",
        "/v1/rerank",
        "/v2/rerank",
        "/v2/embed",
        "/score",
        "/rerank",
        "/classify",
        "/pooling",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
    ),
    other=("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/health", "/ping", "/version"),
)


@dataclass(frozen=True, slots=True)
class PlannedLaunches:
    """Engines that would be launched at the same time, as a dry run asks about them.

    specs     of each variant; all of them are served alike
    config    reads the config.json of one of these variants, by its name, and nothing else of its files. Raises
              HeadgateError with why it cannot be had
    ending    variants that end when they are launched
    baseline  the variant that goes on beside them; empty: none
    """

    specs: tuple[WorkloadSpec, ...]
    config: Callable[[str], bytes]
    ending: tuple[str, ...] = ()
    baseline: str = ""


class Cluster(Protocol):
    """Runs variants. Calls return quickly; launching and draining go on behind, `status` tells how far."""

    def ensure(self, spec: WorkloadSpec, *, token: int) -> None:
        """Makes the variant run. Already running or starting: nothing happens. FAILED: it is tried again.

        No file that differs from the manifest is ever loaded: raises TamperedFile before anything starts where the
        difference shows at once, else the workload fails with TAMPERED_FILE before its engine starts.

        Raises InvalidInput naming the field (`engine`, `arguments.x`, `environment.X`) for what the engine's options do
        not allow, and (`replicas`, `image`, `accelerators`) for what `limits` do not; Refused (with the remedy) when
        the machine has no room, or with the code `no-secret` when a secret cannot be read; Unavailable when the cluster
        does not answer.
        """
        ...

    def adoptable(self, server: str, endpoint: str) -> int:
        """How many replicas this server has, which somebody else runs there and which can answer for a variant of the
        endpoint. Asks the cluster. Raises InvalidInput (field `adopts`, with what its owner can do) for one that cannot
        now, Unavailable when the cluster does not answer.
        """
        ...

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        """Lets requests in flight end, then stops and removes it; a server that was adopted is let go and runs on.
        Nothing happens when it is absent."""
        ...

    def hold_scale_in(self, variant: str, endpoint: str, *, on: bool, token: int) -> None:
        """Keeps what scales the variant by itself from taking replicas away, or lets it do so again; it may add some
        either way. Nothing happens where that is so already, where nothing scales it, or where it is absent."""
        ...

    def claim(self, endpoint: str, *, token: int) -> int:
        """Remembers the token unless a larger one was seen, and returns the largest one seen for the endpoint. What
        other processes see of it may be some seconds late; the token of whoever writes is not."""
        ...

    def fetches_files(self) -> bool:
        """Whether it brings a version's files to its engines by itself, from the spec's source. Asks nobody.

        If it does not, `ensure` is called only when all of them lie on this machine and were compared, under
        `Manifest.folder_name` in the folder of models.
        """
        ...

    def launched(self, variant: str) -> WorkloadSpec | None:
        """What was asked for when the variant was launched; None when the cluster does not run it."""
        ...

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        """Everything that runs, by variant, including what an earlier control plane started. One that somebody deleted
        behind our back is ABSENT with words for it, or not there at all: `ensure` makes it again."""
        ...

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        """The last lines of the engine's log, oldest first, without the values of its secrets and without what looks
        like a credential; empty when there is none."""
        ...

    def api(self, engine: str) -> EngineApi:
        """The calls that users may make to this engine. Raises InvalidInput when the cluster knows no such engine."""
        ...

    def options(self, engine: str) -> EngineOptions:
        """All that a serving spec may set of this engine; `ensure` refuses everything else (InvalidInput, the field
        named). Raises InvalidInput when the cluster knows no such engine, Unavailable when it cannot say now."""
        ...

    def engines(self) -> tuple[str, ...]:
        """The engines that the cluster knows, sorted by name. Raises Unavailable when it cannot say now."""
        ...

    def limits(self) -> Limits:
        """What a serving spec may ask of it. Asks nobody."""
        ...

    def capacity(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        """Whether there is room for them now, in the cluster's own words and figures; empty where it has nothing to
        say. A forecast: it reserves nothing. Returns within seconds: what it cannot ask or compute is a finding, too
        (`Room.UNKNOWN`), and never `Room.ENOUGH`. Raises Unavailable when it does not answer at all."""
        ...

    def secret_files(self) -> tuple[str, ...]:
        """The names of files that a serving spec may refer to as secrets, sorted."""
        ...

    def belongings(self) -> FoundThere:
        """All launches of this installation, those that nobody knows any more too, and servers of models there that are
        not ours. Asks the cluster, which may take seconds; empty where a cluster has nothing to say. Raises Unavailable
        when it does not answer."""
        ...

    def mark_unknown(self, launch: LaunchFound, since: float | None) -> None:
        """Notes at the launch since when no database knows it; None takes the note off, as `ensure` does. Nothing
        happens when it changed since it was seen, or is gone."""
        ...

    def take_away(self, launch: LaunchFound) -> bool:
        """Ends a launch that nobody knows, as it was seen; False when it changed since, or is gone. Somebody who asked
        for it by `ensure` in between has changed it."""
        ...

    def renew_secrets(self) -> int:
        """Puts the secrets that the cluster itself keeps under the newest key; returns how many were not. Idempotent.
        Raises Refused naming the variants whose key is missing, after all others were done."""
        ...


# --- routers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """How one endpoint's traffic is split.

    shares      variant -> basis points; they sum to 10,000; each variant with a share has a backend
    backends    all variants that may be forced by header, those with a share of 0 too
    fallback    the variant that answers when another one's backend is dead (normally the baseline)
    rescuers    further variants that may answer for a dead one, in this order, before the fallback is tried though it
                fails its health check; none of them means that nobody answers for a dead fallback
    api         which calls there are
    """

    endpoint: str
    shares: Mapping[str, int]
    backends: tuple[Backend, ...]
    fallback: str
    rescuers: tuple[str, ...] = ()
    api: EngineApi = OPENAI_API


@dataclass(frozen=True, slots=True)
class ObservedRoute:
    """What the router itself says it does now.

    shares       as applied by the router, not as written by us
    healthy      variants whose backend passes the router's health check
    named        variants that the route in force can send a request to, by a share, by the header, or for a dead one
    generation   of the route in force: the number that `apply` returned for it. What somebody else put in force may
                 have any other number, and is judged by its split
    accepted     generation of the newest route that the router accepted; another one than `generation` while that is
                 not in force yet
    rejected     the router's words when it refused a newer route, also when it does so after `apply` returned
    """

    endpoint: str
    shares: Mapping[str, int]
    healthy: frozenset[str]
    named: frozenset[str] = frozenset()
    generation: int = 0
    accepted: int = 0
    rejected: str = ""

    @property
    def settled(self) -> bool:
        """Whether what is in force is what was accepted last."""
        return self.generation == self.accepted


class TrafficRouter(Protocol):
    """Splits an endpoint's traffic. `Unavailable` when it cannot be reached.

    One that has not the capability FALLBACK leaves fallback and rescuers of a route aside: a request that draws a dead
    variant fails, and counts as that one's failure.
    """

    def apply(self, route: Route, *, token: int) -> int:
        """Has the router accept the route, and returns its generation. It may come into force later: `observe` says
        when. Another route gets a larger one. The same route again keeps its generation, whatever others have added to
        what the router holds (defaults, a status), and costs little: it is asked for again until it is in force.

        A route that is accepted overtakes those that were accepted before it: what is not in force yet never comes into
        force after it.

        Raises InvalidInput (shares do not sum to 10,000, a share without backend, a backend of a kind that it does not
        know), Rejected with the router's own words when it refuses (the last good configuration stays in force and on
        disk), StaleWriter.
        """
        ...

    def claim(self, endpoint: str, *, token: int) -> int:
        """As that of a cluster. Raises Unavailable, without waiting, while somebody publishes a route."""
        ...

    def observe(self, endpoint: str) -> ObservedRoute | None:
        """What is in force for the endpoint; None when the router knows no such endpoint."""
        ...

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        """The same of every endpoint that the router knows, in one look. One whose route is odd is left out."""
        ...

    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond splitting traffic. Asks nobody."""
        ...


# --- signals --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CounterQuestion:
    """What a gate asks for by expressions of its own, of one arm: two counters, or one number."""

    endpoint: str
    backend: Backend
    asks: CounterPair | NumberQuery


class SignalSource(Protocol):
    """Reads counters. A router may have several targets, each a process that counts by itself; one that cannot be read
    is left out, and its part of the interval is then not counted. So is one whose counters are older than the last
    reading, as those of a process that died may be: they would say that nobody asked for anything. Raises Unavailable
    when none can be read; an engine that cannot be read is named in `broken` instead."""

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        """The counters of these endpoints, in one look; of one whose counters are odd, what is wrong with them.

        backends    of each endpoint, those that can be reached
        """
        ...

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        """What is asked for each kind of counters of this variant, as a person may ask it by hand; a kind that this
        source does not count is left out. Raises Unavailable while it is not known how the counters are named."""
        ...

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        """The answer to every question, in one look of a few seconds at most. Raises nothing: what cannot be read, or
        not in time, says why. Nothing that is absent, stale or no count is ever a number."""
        ...

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        """Of every endpoint that had requests, by target, in one look. An endpoint whose counters are odd is left
        out."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One inference that an engine answered, with whatever status. `at` is seconds since the epoch."""

    request_id: str
    endpoint: str
    assigned: str  # empty when the variant was forced
    answered: str
    status: int
    at: float


class RequestLog(Protocol):
    """Finds answered inferences, so that feedback is attributed to who really answered."""

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        """Those of the ids that the router has logged (the last quarter of an hour at least)."""
        ...

    def rotate(self) -> bool:
        """Keeps the log within bounds; True when something was done. Raises Unavailable when the router is away."""
        ...


# --- probes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion that came back. `variant` is who answered, by the response's header."""

    text: str
    variant: str
    seconds: float
    first_token_seconds: float | None = None
    tokens: int = 0


class Prober(Protocol):
    """Asks an OpenAI-compatible endpoint for a chat completion, forced to one variant, through the router."""

    def ask(
        self,
        *,
        endpoint: str,
        variant: str,
        messages: tuple[Mapping[str, str], ...],
        max_tokens: int,
        timeout: float,
    ) -> Answer:
        """Temperature 0. Raises Unavailable (no answer in time, 5xx, another variant answered) or Rejected (4xx)."""
        ...


# --- all of one cluster ---------------------------------------------------------------------------------------


class GatewayTrials(Protocol):
    """Tries on one cluster's gateway what its implementation is declared to do, with objects of its own there."""

    def declared(self) -> frozenset[GatewayTrait]:
        """What its implementation is said to do. Asks nobody."""
        ...

    def gateway(self) -> str:
        """Which gateway it is, in which state, for people: another text is one to be tried. Raises Unavailable."""
        ...

    def run(self) -> tuple[TrialFinding, ...]:
        """Makes what is needed, asks, and takes it away again; ends within `TRIAL_SECONDS`, whatever hangs. Raises
        HeadgateError, with why nothing was found."""
        ...

    def clear(self) -> int:
        """Takes away what an earlier trial left behind, because its process was killed; returns how many trials' that
        was. One that may still go on is left alone. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterPorts:
    """What reaches one cluster and what is in front of it.

    edges         the router's histogram edges in seconds, by signal: an SLO must be one of them
    endpoint_url  where people reach the endpoint of this name, without a slash at the end: what /v1 is put behind
    trials        tries the gateway; None where there is nothing to try
    close         ends what goes on behind, such as watches; whoever asks once more begins it anew
    """

    cluster: Cluster
    router: TrafficRouter
    signals: SignalSource
    request_log: RequestLog
    prober: Prober
    edges: Mapping[str, tuple[float, ...]]
    endpoint_url: Callable[[str], str]
    trials: GatewayTrials | None = None
    close: Callable[[], None] = lambda: None
