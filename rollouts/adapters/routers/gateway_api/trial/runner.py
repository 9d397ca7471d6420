"""Runs a trial on a real gateway: makes what is needed, asks, and takes it away again.

All of it hangs on one object, the trial's anchor, which is made first and deleted last. A process that is killed in
between leaves the anchor, and `clear` takes away every one that is older than a trial can last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import HeadgateError, Unavailable
from controlplane.kernel.foreign import storable
from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, DEPLOYMENTS, POD, ObjectKind
from rollouts.adapters.clusters.kubernetes.diagnosis import diagnose, workload_of
from rollouts.adapters.clusters.kubernetes.errors import Denied, Stale
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION
from rollouts.adapters.clusters.kubernetes.objects import owned_by
from rollouts.adapters.clusters.kubernetes.pod_reading import part, seconds_of, sight_of, text
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.routers.gateway_api.api import RouteStore
from rollouts.adapters.routers.gateway_api.implementations import GatewayImplementation
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.adapters.routers.gateway_api.probes import GatewayProbe, probe_endpoint
from rollouts.adapters.routers.gateway_api.trial.asking import TrialUser
from rollouts.adapters.routers.gateway_api.trial.objects import (
    CONTAINER,
    TRIAL,
    TrialObjects,
    trial_objects_of,
    trial_owner,
)
from rollouts.adapters.routers.gateway_api.user import GatewayUser
from rollouts.domain.trials import TRIAL_SECONDS, GatewayTrait, TrialFinding
from rollouts.ports import Backend

SERVICE = "service"
BEGIN_SECONDS = 180.0  # that the pod may take until it answers: its image may have to be pulled
WORK_SECONDS = TRIAL_SECONDS - 30.0  # what is left is for taking it away
LEFT_SECONDS = 2 * TRIAL_SECONDS  # what is older than this was left behind: clocks differ

log = logging.getLogger(__name__)


class TrialObjectStore(Protocol):
    """The part of a client that is needed here."""

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]: ...

    def get(self, kind: ObjectKind, name: str) -> dict[str, Any] | None: ...

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]: ...

    def delete(self, kind: ObjectKind, name: str, uid: str, *, version: str = "") -> bool: ...


class KubernetesTrials:
    """Keeps the contract of `rollouts.ports.GatewayTrials`.

    gateway_of  a Gateway's object; None when there is none
    user        asks through the gateway
    draw        what tells one trial from all others: ten small letters and digits
    steady      seconds that never jump
    """

    def __init__(
        self,
        client: TrialObjectStore,
        routes: RouteStore,
        place: GatewayPlace,
        profile: ClusterProfile,
        implementation: GatewayImplementation,
        clock: Clock,
        *,
        gateway_of: Callable[[GatewayParent], Mapping[str, Any] | None],
        user: GatewayUser,
        draw: Callable[[], str],
        sleep: Callable[[float], None] = time.sleep,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._routes = routes
        self._place = place
        self._profile = profile
        self._implementation = implementation
        self._clock = clock
        self._gateway_of = gateway_of
        self._user = user
        self._draw = draw
        self._sleep = sleep
        self._steady = steady

    def declared(self) -> frozenset[GatewayTrait]:
        """See the port."""
        return self._implementation.traits

    def gateway(self) -> str:
        """See the port. Without the right to read Gateways it names them only: a change of one is not seen then."""
        parents = "; ".join(self._state(parent) for parent in self._place.parents)
        return f"{self._implementation.name} by {parents}, for {self._place.domain}"

    def run(self) -> tuple[TrialFinding, ...]:
        """See the port."""
        self.clear()
        made = trial_objects_of(self._profile, self._place.installation, self._draw())
        anchor = self._client.create(made.anchor)
        uid = str(anchor["metadata"]["uid"])
        try:
            for body in owned_by(made.others, made.name, uid):
                self._client.create(body)
            return self._tried(made, uid)
        finally:
            self._take_away(made.name, uid)

    def clear(self) -> int:
        """See the port."""
        ours = f"{INSTALLATION}={trial_owner(self._place.installation)}"
        now = self._clock.now().timestamp()
        count = 0
        for raw in self._client.list(CONFIG_MAP, ours)[0]:
            metadata = part(raw, "metadata")
            made_at = seconds_of(text(metadata, "creationTimestamp"))
            is_trial = text(part(metadata, "labels"), TRIAL) == text(metadata, "name") != ""
            if not is_trial or made_at is None or now - made_at < LEFT_SECONDS:
                continue
            count += self._take_away(text(metadata, "name"), text(metadata, "uid"))
        return count

    # --- within -------------------------------------------------------------------------------------------------

    def _tried(self, made: TrialObjects, uid: str) -> tuple[TrialFinding, ...]:
        until = self._steady() + WORK_SECONDS

        def check() -> None:
            if self._steady() >= until:
                raise Unavailable(
                    f"The trial of the gateway took longer than {WORK_SECONDS:.0f} s and was given up.",
                    fix="See how fast the gateway answers.",
                )

        def rest(seconds: float) -> None:
            check()
            self._sleep(seconds)

        endpoint = probe_endpoint(made.name)
        user = TrialUser(self._user, made.backends, check)
        first, second = (Backend(name, SERVICE, name) for name in made.backends)
        probe = GatewayProbe(
            self._routes,
            # Who looks for this installation's routes does not find it.
            self._own_place(),
            endpoint,
            (first, second),
            ask=user.ask,
            infer=user.infer,
            received=lambda backend: user.received(self._place.host(endpoint), backend),
            owned=lambda document: owned_by([document], made.name, uid)[0],
            sleep=rest,
            patience_seconds=BEGIN_SECONDS,
        )
        try:
            return probe.run()
        except HeadgateError as error:
            trouble = self._trouble(made.name)
            if trouble:
                raise Unavailable(
                    f"{error.message} What answers is not there: {trouble}", fix=error.fix
                ) from error
            raise

    def _own_place(self) -> GatewayPlace:
        return replace(self._place, installation=trial_owner(self._place.installation))

    def _trouble(self, name: str) -> str:
        """Why the trial's pod does not answer, in the cluster's words; empty: it does, or nobody says."""
        try:
            workload = self._client.get(DEPLOYMENTS, name)
            pods = self._client.list(POD, f"{TRIAL}={name}")[0]
            seen = diagnose(
                None if workload is None else workload_of(workload),
                [sight_of(pod, storable, container=CONTAINER) for pod in pods],
                {},
                VLLM,
                draining=False,
                now=self._clock.now().timestamp(),
            )
        except HeadgateError as error:
            log.warning("trial.pod_unreadable %s", error)
            return ""
        return seen.message

    def _state(self, parent: GatewayParent) -> str:
        named = f"{parent.namespace}/{parent.name}" + (f"/{parent.section}" if parent.section else "")
        try:
            raw = self._gateway_of(parent)
        except Denied as error:
            log.warning("trial.gateway_unreadable %s", error)
            return named
        if raw is None:
            raise Unavailable(
                f"There is no Gateway {parent.namespace}/{parent.name}.", fix="Make it, or name another."
            )
        metadata = part(raw, "metadata")
        kind = text(part(raw, "spec"), "gatewayClassName")
        generation = metadata.get("generation")
        return storable(f"{named} of class {kind}, {text(metadata, 'uid')}, generation {generation}")[:300]

    def _take_away(self, name: str, uid: str) -> bool:
        """Whether it was there and goes. One that cannot be deleted now is left to `clear`."""
        try:
            return self._client.delete(CONFIG_MAP, name, uid)
        except Stale:
            return False
        except HeadgateError as error:
            log.warning("trial.not_taken_away name=%s %s", name, error)
            return False
