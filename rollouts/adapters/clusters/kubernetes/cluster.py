"""Keeps the contract of `rollouts.ports.Cluster` on a Kubernetes cluster.

Everything known is in the cluster: an anchor a variant says what was launched and how far it is, a ConfigMap an
endpoint keeps the fencing token of its last writer, and one for all keeps those that loops told. So a control plane
that starts anew takes over what runs. `statuses` asks nobody: it reads what the watches keep. It also takes the next
step of whatever is under way, as a level-triggered controller does.

Choices:
- A variant is never changed once it was made: the same objects would be made otherwise after the profile was changed.
- One that failed is tried again with new pods of the same Deployment.
- A server of somebody else that is adopted gets an anchor and a Service, and is never written to.
- A drain is noted first and may be taken back; after `settle_seconds` the anchor is deleted, and everything with it.
  Its pods then answer for `unlisted_seconds` more and end what is inside. A deletion cannot be taken back: `ensure` is
  refused until it is over.
- How many requests are inside is not said: pods may not be reachable from here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from controlplane.kernel.clock import Clock
from controlplane.kernel.credentials import hide, hide_in_lines
from controlplane.kernel.errors import HeadgateError, InvalidInput, Refused, Unavailable
from controlplane.kernel.foreign import storable
from rollouts.adapters.clusters.engines.declared import template_named
from rollouts.adapters.clusters.kubernetes.adopting import SERVER_KEY
from rollouts.adapters.clusters.kubernetes.adoption import Adoption, secrets_of_owner, server_in
from rollouts.adapters.clusters.kubernetes.anchors import (
    ATTEMPT,
    DRAINING_SINCE,
    MADE,
    SCALE_IN_HELD,
    UNKNOWN_SINCE,
    Anchor,
    anchor_in,
    noted,
)
from rollouts.adapters.clusters.kubernetes.belongings import find_belongings, launch_of
from rollouts.adapters.clusters.kubernetes.client import (
    CONFIG_MAP,
    DEPLOYMENTS,
    OBJECT_KINDS,
    KubernetesClient,
    ObjectKind,
)
from rollouts.adapters.clusters.kubernetes.container import (
    CONTAINER_ENGINES,
    ENGINE,
    ContainerEngine,
    chosen_by,
)
from rollouts.adapters.clusters.kubernetes.deletion import still_deleted
from rollouts.adapters.clusters.kubernetes.errors import Stale
from rollouts.adapters.clusters.kubernetes.fence import Fence
from rollouts.adapters.clusters.kubernetes.filling.filler import Filler
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, VARIANT, label_value, object_name
from rollouts.adapters.clusters.kubernetes.objects import objects_of, with_attempt
from rollouts.adapters.clusters.kubernetes.owned import name_taken, owned_object
from rollouts.adapters.clusters.kubernetes.pod_reading import part, text
from rollouts.adapters.clusters.kubernetes.preflight import Preflight
from rollouts.adapters.clusters.kubernetes.profile import AutoscalerKind, ClusterProfile
from rollouts.adapters.clusters.kubernetes.record import LAUNCH_KEY, record_of, spec_in
from rollouts.adapters.clusters.kubernetes.said import NO_END, SaidBefore, as_of
from rollouts.adapters.clusters.kubernetes.scale_in import KINDS as SCALERS
from rollouts.adapters.clusters.kubernetes.scale_in import set_scale_in
from rollouts.adapters.clusters.kubernetes.snapshot import (
    Snapshot,
    Watches,
    objects_there,
    pods_of,
    status_of,
)
from rollouts.adapters.clusters.kubernetes.spec_checks import check_spec, limits_of
from rollouts.adapters.clusters.kubernetes.states import PodStates
from rollouts.adapters.clusters.kubernetes.tokens import TokenBook
from rollouts.adapters.clusters.secrets import SecretStore, renewed_environment
from rollouts.domain.belongings import FoundThere, LaunchFound
from rollouts.domain.capacity.findings import CapacityFinding
from rollouts.domain.engine_options import EngineOptions
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.limits import Limits
from rollouts.ports import EngineApi, PlannedLaunches, WorkloadSpec, WorkloadStatus

UNREADABLE_RECORD = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    HeadgateError,
)
TRIES = 6  # of a step whose objects others change at the same time
LINES_BEFORE = 100  # a secret of several lines may begin before the lines that are asked for

Done = TypeVar("Done")

log = logging.getLogger(__name__)


class KubernetesCluster:
    """Safe to call from several threads.

    installation    identifies this Headgate: objects of another one are neither seen nor touched
    secrets         opens the secrets of specs
    tokens          where loops tell theirs; the same for the cluster's router
    door            where pods get a version's files from, where the profile has Headgate fill a volume
    settle_seconds  from the order to drain until objects are deleted
    wake            called whenever something changed in the cluster
    """

    def __init__(
        self,
        client: KubernetesClient,
        profile: ClusterProfile,
        installation: str,
        clock: Clock,
        secrets: SecretStore,
        tokens: TokenBook,
        *,
        door: HeadgateDoor | None = None,
        engines: Mapping[str, ContainerEngine] = CONTAINER_ENGINES,
        settle_seconds: float = 5.0,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._profile = profile
        self._installation = installation
        self._clock = clock
        self._secrets = secrets
        self._engines = engines
        self._settle_seconds = settle_seconds
        self._tokens = tokens
        self._fence = Fence(client, installation, tokens)
        self._adoption = Adoption(client, profile, installation, engines)
        fills = door is not None and profile.weights.filled_by_headgate
        self._watches = Watches(client, installation, wake, fills=fills)
        self._filler: Filler | None = None
        if door is not None and fills:
            self._filler = Filler(client, profile, installation, door, clock, self._watches.put)
        self._troubles: dict[str, str] = {}  # by variant: why its launch does not go on now
        self._said = SaidBefore()
        self._states = PodStates()
        self._preflight = Preflight(client, profile, installation, engines, clock)

    # --- the contract -------------------------------------------------------------------------------------------

    def ensure(self, spec: WorkloadSpec, *, token: int) -> None:
        """See the port. Raises Unavailable, too, while an earlier deletion of the same variant goes on."""
        self._again(lambda: self._ensure(spec, token))

    def adoptable(self, server: str, endpoint: str) -> int:
        return self._adoption.server_for(server, endpoint)[1]

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        self._again(lambda: self._drain(variant, endpoint, token))

    def hold_scale_in(self, variant: str, endpoint: str, *, on: bool, token: int) -> None:
        self._again(lambda: self._hold_scale_in(variant, endpoint, on, token))

    def claim(self, endpoint: str, *, token: int) -> int:
        return self._tokens.tell(endpoint, token)

    def fetches_files(self) -> bool:
        """Where Headgate hands its own copy to a Job, that copy has to be there first."""
        return self._filler is None

    def launched(self, variant: str) -> WorkloadSpec | None:
        anchor = self._anchors().get(variant)
        return None if anchor is None else self._spec(anchor)

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        """Raises Unavailable while the cluster does not say what there is."""
        snapshot = self._watches.snapshot()
        found = {anchor.variant: self._status(snapshot, anchor) for anchor in snapshot.anchors}
        for anchor in snapshot.anchors:
            self._end(anchor, found[anchor.variant])
            self._go_on(anchor, snapshot)
        for variant in self._troubles.keys() - found.keys():
            self._troubles.pop(variant, None)
        self._said.forget_others(found.keys())
        self._states.forget_others(found.keys())
        return found

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        anchor = self._anchors().get(variant)
        spec = None if anchor is None else self._spec(anchor)
        if anchor is None or spec is None or lines <= 0:
            return ()  # without the record nobody knows which words of a log are secret
        snapshot = self._watches.snapshot()
        pods = pods_of(snapshot, anchor)
        if not pods:
            return ()
        newest, server = pods[-1].name, server_in(anchor)
        container = ENGINE if server is None else server.container
        wanted = min(lines, 5000) + LINES_BEFORE
        said = self._client.log(newest, container, lines=wanted) or self._client.log(
            newest, container, lines=wanted, previous=True
        )
        known = (*self._secrets.values(spec.environment), *secrets_of_owner(snapshot, anchor))
        return hide_in_lines(storable(said).splitlines(), known)[-lines:]

    def api(self, engine: str) -> EngineApi:
        return template_named(engine, self._engines).template.api

    def options(self, engine: str) -> EngineOptions:
        return template_named(engine, self._engines).options

    def engines(self) -> tuple[str, ...]:
        return tuple(sorted(self._engines))

    def limits(self) -> Limits:
        return limits_of(self._profile)

    def capacity(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        return self._preflight.findings(planned)

    def secret_files(self) -> tuple[str, ...]:
        return self._secrets.files()

    def belongings(self) -> FoundThere:
        return find_belongings(
            self._client, self._installation, self.limits().images, self._adoption.labels_of_engines("")
        )

    def mark_unknown(self, launch: LaunchFound, since: float | None) -> None:
        anchor = self._as_seen(launch)
        if anchor is None:
            return
        try:
            self._note(anchor, {UNKNOWN_SINCE: None if since is None else str(since)})
        except Stale:
            return  # somebody uses it

    def take_away(self, launch: LaunchFound) -> bool:
        anchor = self._as_seen(launch)
        try:
            return anchor is not None and self._client.delete(
                CONFIG_MAP, anchor.name, anchor.uid, version=anchor.version
            )
        except Stale:
            return False

    def renew_secrets(self) -> int:
        renewed, problems = 0, []
        for variant in self._anchors():
            try:
                renewed += self._renewed(variant)
            except Refused as error:
                problems.append(error.message)
        if problems:
            raise Refused(" ".join(problems), code="key-missing")
        return renewed

    def close(self) -> None:
        """Ends the watches."""
        self._watches.stop()

    # --- launching ----------------------------------------------------------------------------------------------

    def _again(self, step: Callable[[], Done]) -> Done:
        """Takes the step; anew, with all that it reads, when something changed in the midst of it."""
        for _ in range(TRIES):
            try:
                return step()
            except Stale as error:
                last = error
        raise Unavailable(last.message, fix="It is tried again.")

    def _ensure(self, spec: WorkloadSpec, token: int) -> None:
        anchor = self._anchor_for(spec.variant, spec.endpoint, token)
        if anchor is not None and anchor.deleting:
            there = [anchor.raw]  # as it was read just now; the rest as far as it is known
            with suppress(Unavailable):
                there += objects_there(self._watches.snapshot(), anchor)
            raise still_deleted(anchor.variant, there)
        if spec.adopts:
            self._adopt(spec, anchor)
            return
        attempt = (
            0 if anchor is None else anchor.attempt
        )  # one that was broken off goes on with the same pods
        if anchor is not None and (anchor.made or self._filler is not None):
            snapshot = self._watches.snapshot()
            if self._status(snapshot, anchor).phase is WorkloadPhase.FAILED:
                attempt += 1
            elif anchor.made and not self._is_gone(anchor.name, snapshot):
                self._want_again(anchor)
                return
        check_spec(spec, self._profile, self._engines)
        self._launch(spec, anchor, attempt=attempt)

    def _drain(self, variant: str, endpoint: str, token: int) -> None:
        anchor = self._anchor_for(variant, endpoint, token)
        if anchor is None or anchor.deleting or anchor.draining_since is not None:
            return
        if anchor.endpoint != endpoint:
            raise InvalidInput(
                f"{variant} belongs to endpoint {anchor.endpoint}, not {endpoint}.", field="endpoint"
            )
        self._note(anchor, {DRAINING_SINCE: str(self._now())})

    def _hold_scale_in(self, variant: str, endpoint: str, on: bool, token: int) -> None:
        """The autoscaler first: the note says what is so. One that somebody deleted takes nothing away."""
        anchor, kind = self._anchor_for(variant, endpoint, token), SCALERS.get(self._profile.autoscaler.kind)
        if anchor is None or anchor.deleting or kind is None or server_in(anchor) is not None:
            return
        found = self._found(kind, anchor.name)
        if found is not None:
            set_scale_in(self._client, kind, found, held=on)
        if anchor.scale_in_held is not on:
            self._note(anchor, {SCALE_IN_HELD: "true" if on else None})

    def _anchor_for(self, variant: str, endpoint: str, token: int) -> Anchor | None:
        """The variant's anchor, for a writer with this token. The token is looked at last: whoever takes over later
        changes the anchor, and a write on what was read here is then refused."""
        anchor = self._anchor(variant)
        self._fence.check(endpoint, token)
        return anchor

    def _anchor(self, variant: str) -> Anchor | None:
        """The variant's anchor as it is now, asked of the cluster; None when there is none. Raises Refused for
        something of that name that is not this installation's."""
        seen = self._client.get(CONFIG_MAP, object_name(variant))
        anchor = None if seen is None else anchor_in(seen)
        if seen is not None and (anchor is None or anchor.installation != label_value(self._installation)):
            raise name_taken(CONFIG_MAP, object_name(variant))
        return anchor

    def _as_seen(self, launch: LaunchFound) -> Anchor | None:
        """The launch's anchor; None when it is gone, or is not any more what it was."""
        anchor = self._anchor(launch.variant)
        return anchor if anchor is not None and launch_of(anchor).state == launch.state else None

    def _found(self, kind: ObjectKind, name: str) -> Mapping[str, Any] | None:
        """The variant's object of this kind. Raises Refused for somebody else's."""
        ours = {INSTALLATION: label_value(self._installation), VARIANT: name}
        return owned_object(self._client, kind, name, ours)

    def _is_gone(self, name: str, snapshot: Snapshot) -> bool:
        """Whether somebody deleted the variant's workload. A watch may be late, so that the cluster is asked, too."""
        return name not in snapshot.workloads and self._client.get(DEPLOYMENTS, name) is None

    def _launch(
        self, spec: WorkloadSpec, anchor: Anchor | None, *, attempt: int, filled: bool = False
    ) -> None:
        """Makes all objects. Whatever is there already stays; so a launch that was broken off goes on. Where the files
        have to be fetched first, and were not (`filled`), only what fetches them: `_go_on` makes the others."""
        engine = template_named(spec.engine, self._engines)
        values = self._secrets.open_all(chosen_by(spec, engine).secrets)
        objects = objects_of(
            spec,
            self._profile,
            installation=self._installation,
            engines=self._engines,
            secrets=values,
        )
        notes = {ATTEMPT: str(attempt)}
        seen = None if anchor is None else anchor.raw
        fills = self._filler is not None and not filled  # also one that was made, and whose workload is gone
        outdated = anchor is not None and (
            anchor.draining_since is not None or anchor.unknown_since is not None or (anchor.made and fills)
        )
        kept = self._write(noted(objects.anchor, notes), seen, takes_away=outdated)
        if self._filler is not None and not filled:
            self._filler.begin(spec, objects.name, kept["metadata"]["uid"], attempt=attempt)
            return
        for body in objects.owned_by(kept["metadata"]["uid"]):
            wanted = with_attempt(body, attempt)
            kind = OBJECT_KINDS[body["kind"]]
            self._write(wanted, self._found(kind, objects.name))
        self._scale(OBJECT_KINDS[objects.workload_kind], objects.name, spec.replicas)
        self._write(noted(objects.anchor, {**notes, MADE: "true"}), kept)

    def _adopt(self, spec: WorkloadSpec, anchor: Anchor | None) -> None:
        """Makes the anchor, and the Service on the server's pods. The server itself is left as it is."""
        objects = self._adoption.objects(spec, anchor)
        if objects is None:
            self._want_again(anchor)
            return
        kept = self._write(noted(objects.anchor, {ATTEMPT: "0"}), None if anchor is None else anchor.raw)
        for body in objects.owned_by(kept["metadata"]["uid"]):
            self._write(body, self._found(OBJECT_KINDS[body["kind"]], objects.name))
        self._write(noted(objects.anchor, {ATTEMPT: "0", MADE: "true"}), kept)

    def _want_again(self, anchor: Anchor | None) -> None:
        """Takes off what says that nobody wants it."""
        if anchor is not None and (anchor.draining_since is not None or anchor.unknown_since is not None):
            self._note(anchor, {DRAINING_SINCE: None, UNKNOWN_SINCE: None})

    def _scale(self, kind: ObjectKind, name: str, replicas: int) -> None:
        found = self._client.get(kind, name)
        if found is not None and found["spec"].get("replicas") != replicas:
            self._client.scale(kind, name, replicas)

    def _write(
        self, body: Mapping[str, Any], seen: Mapping[str, Any] | None, *, takes_away: bool = False
    ) -> dict[str, Any]:
        written = self._client.apply(body, seen, takes_away=takes_away)
        self._watches.put(written)
        return written

    # --- what goes on -------------------------------------------------------------------------------------------

    def _go_on(self, anchor: Anchor, snapshot: Snapshot) -> None:
        """The next step of a launch whose files are fetched: the engine once they are there. What cannot be done now is
        told as the variant's message, and tried again with the next look."""
        filler = self._filler
        spec = None if filler is None or not _is_filling(anchor) else self._spec(anchor)
        if filler is None or spec is None or spec.adopts:
            self._troubles.pop(anchor.variant, None)
            return
        job = filler.sight(snapshot, anchor)
        try:
            if job is None:  # the launch was broken off before it was made, or somebody deleted it
                filler.begin(spec, anchor.name, anchor.uid, attempt=anchor.attempt)
            elif job.done:
                self._launch(spec, anchor, attempt=anchor.attempt, filled=True)
            self._troubles.pop(anchor.variant, None)
        except Stale:
            return  # another process takes the same step
        except HeadgateError as error:
            self._troubles[anchor.variant] = str(error)
            log.warning("kubernetes.launch_waits variant=%s %s", anchor.variant, error)

    def _end(self, anchor: Anchor, status: WorkloadStatus) -> None:
        """Deletes what has drained. One that cannot be deleted now is tried again with the next look."""
        since = anchor.draining_since
        if since is None or anchor.deleting:
            return
        never_served = status.started_at is None
        # A moment that is far ahead was noted by a clock that was wrong.
        if not never_served and abs(self._now() - since) < self._settle_seconds:
            return
        try:
            self._client.delete(CONFIG_MAP, anchor.name, anchor.uid, version=anchor.version)
        except Stale:
            return  # the drain was taken back, or another process was faster
        except HeadgateError as error:
            log.warning("kubernetes.not_deleted variant=%s %s", anchor.variant, error)

    def _note(self, anchor: Anchor, notes: Mapping[str, str | None]) -> None:
        taken = any(value is None for value in notes.values())
        self._write(noted(anchor.raw, notes), anchor.raw, takes_away=taken)

    def _renewed(self, variant: str) -> int:
        """How many records were written: 0 or 1. Raises Refused when a key is missing."""

        def step() -> int:
            anchor = self._anchor(variant)
            spec = None if anchor is None or anchor.deleting else self._spec(anchor)
            fresh = None if spec is None else renewed_environment(spec, self._secrets.keys())
            if anchor is None or spec is None or fresh is None:
                return 0
            launch = record_of(replace(spec, environment=fresh))[LAUNCH_KEY]
            data = {**anchor.raw["data"], LAUNCH_KEY: launch}
            self._write(noted({**anchor.raw, "data": data}, {}), anchor.raw)
            return 1

        return self._again(step)

    # --- reading ------------------------------------------------------------------------------------------------

    def _anchors(self) -> dict[str, Anchor]:
        return {anchor.variant: anchor for anchor in self._watches.snapshot().anchors}

    def _status(self, snapshot: Snapshot, anchor: Anchor) -> WorkloadStatus:
        """What is to be said of a variant; where nothing changed of it, what was worked out before."""
        filled_at = None
        if self._filler is not None and not (anchor.deleting or anchor.draining_since is not None):
            job = self._filler.sight(snapshot, anchor)
            filled_at = None if job is None else job.done_at
        now = self._now()
        if self._filler is not None and _is_filling(anchor) and anchor.name not in snapshot.workloads:
            # How far it is stands in a log, and changes without any object.
            found, _ = self._status_anew(snapshot, anchor, now, self._filler)
            return as_of(found, now, filled_at)
        pods = snapshot.pods.get(anchor.name, ())
        read = (anchor.raw, snapshot.workloads.get(anchor.name), *pods)
        names = [text(pod["metadata"], "name") for pod in pods]
        warnings = (
            snapshot.refused.get(anchor.name),
            *snapshot.strangers.get(anchor.name, ()),
            *(snapshot.warnings.get(name) for name in names),
        )
        before = self._said.of(anchor.variant, read, warnings)
        if before is None:
            before, is_whole = self._status_anew(snapshot, anchor, NO_END, None)
            if is_whole:
                self._said.keep(before, read, warnings)
        return as_of(before, now, filled_at)

    def _status_anew(
        self, snapshot: Snapshot, anchor: Anchor, now: float, filler: Filler | None
    ) -> tuple[WorkloadStatus, bool]:
        """What is to be said, and whether it is all that the objects say: not while a secret cannot be read, which what
        an engine said last may hold.

        filler   of one whose files are fetched still
        """
        spec = self._spec(anchor)
        engine = None if spec is None else self._engines.get(spec.engine)
        is_whole = True

        def fit(words: str) -> str:
            nonlocal is_whole
            environment = {} if spec is None or not words else spec.environment
            known = self._secrets.values(environment) if environment else ()
            is_whole = is_whole and len(known) == sum(
                not isinstance(one, str) for one in environment.values()
            )
            return storable(hide(words, (*known, *(secrets_of_owner(snapshot, anchor) if words else ()))))

        fill = None if filler is None else filler.diagnosis(snapshot, anchor, fit)
        found = status_of(
            snapshot,
            anchor,
            engine,
            now,
            fit,
            replicas=None if spec is None else spec.replicas,
            autoscaled=self._profile.autoscaler.kind is not AutoscalerKind.NONE,
            states=self._states,
            fill=fill,
        )
        if anchor.made and self._profile.autoscaler.kind in SCALERS and server_in(anchor) is None:
            found = replace(found, scale_in_held=anchor.scale_in_held)
        trouble = self._troubles.get(anchor.variant)
        told = found if fill is None or not trouble else replace(found, message=fit(trouble))
        return told, is_whole

    def _spec(self, anchor: Anchor) -> WorkloadSpec | None:
        try:
            return spec_in(anchor.raw["data"])
        except UNREADABLE_RECORD:
            log.exception("kubernetes.record_unreadable variant=%s", anchor.variant)
            return None  # nothing in this cluster says it

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _is_filling(anchor: Anchor) -> bool:
    ended = anchor.deleting or anchor.draining_since is not None
    return not (anchor.made or ended or SERVER_KEY in part(anchor.raw, "data"))
