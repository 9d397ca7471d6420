"""The port: who answered a request that a gateway served."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.request_log.otlp.records import Answered
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.domain.variants import endpoint_of
from rollouts.ports import LoggedRequest


class GatewayRequestLog:
    """A RequestLog over what the gateways of one cluster sent.

    cluster    whose requests: the name by which the receiver knows the sender's token
    namespace  of Headgate's HTTPRoutes. Others may have routes on the same gateway, and one of them could set the
               header that names a variant: only requests that a route of this namespace took count
    """

    def __init__(self, store: AnswerStore, *, cluster: str, namespace: str) -> None:
        self._store = store
        self._cluster = cluster
        self._namespace = namespace

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        """Those of the ids that are inferences and that an engine answered, with whatever status. Raises Unavailable
        while the store is away."""
        return {
            name: logged
            for name, one in self._store.find(self._cluster, request_ids).items()
            if (logged := self._logged(one)) is not None
        }

    def rotate(self) -> bool:
        """Nothing to do: entries run out by themselves. Raises Unavailable when no receiver was heard of lately, for
        what is answered meanwhile can never be rated."""
        if not self._store.is_fed():
            raise Unavailable(
                "No receiver takes what gateways say of answered requests; ratings of them will not count.",
                fix="Start it: manage.py receive_requests.",
            )
        return False

    def _logged(self, one: Answered) -> LoggedRequest | None:
        """None for what another route than one of ours took."""
        plain = route_name(one.route) == one.route
        endpoint = one.route if plain else endpoint_of(one.answered)
        if one.namespace != self._namespace or route_name(endpoint) != one.route:
            return None
        return LoggedRequest(
            request_id=one.request_id,
            endpoint=endpoint,
            assigned="" if one.forced else one.answered,
            answered=one.answered,
            status=one.status,
            at=one.at,
        )
