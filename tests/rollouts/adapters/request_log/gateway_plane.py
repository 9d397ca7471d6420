"""A gateway with two engines behind it and the receiver of its log: the real Envoy, the real gRPC, the real store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from controlplane.sealing.senders import Senders
from rollouts.adapters.request_log.otlp.log import GatewayRequestLog
from rollouts.adapters.request_log.otlp.pending import Pending
from rollouts.adapters.request_log.otlp.receiver import RequestReceiver
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace, document_of
from rollouts.ports import Backend, Route
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, PROMPT, Seen
from tests.standins.gateway import RunningGateway, objects
from tests.standins.running import RunningEngine, free_port

CLUSTER, NAMESPACE, TOKEN = "paris", "models", "token-of-paris-0123456789abcdefghij"
PLACE = GatewayPlace(NAMESPACE, (GatewayParent("edge"),), "models.test", "lab")


class GatewayRouter:
    """What a test needs of a router: puts a route in force."""

    def __init__(self, gateway: RunningGateway, engines: dict[str, RunningEngine]) -> None:
        self._gateway = gateway
        self._engines = engines

    def apply(self, route: Route, *, token: int, place: GatewayPlace = PLACE) -> int:
        document = document_of(route, place, token=token, since=0.0)
        self._gateway.serve(document, {name: engine.port for name, engine in self._engines.items()})
        return 1


class GatewayPlane:
    """`close()` ends everything. The store is the caller's."""

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        self.request_log = GatewayRequestLog(store, cluster=CLUSTER, namespace=NAMESPACE)
        self.engines = {variant: RunningEngine(variant) for variant in (BASELINE, CANDIDATE)}
        self.receiver_port = free_port()
        self.receiver: RequestReceiver | None = None
        self.gateway = RunningGateway(free_port(), self.receiver_port, objects(ROUTES=NAMESPACE, TOKEN=TOKEN))
        self.router = GatewayRouter(self.gateway, self.engines)
        self.start_receiver()
        for engine in self.engines.values():
            engine.start()
        self.gateway.start()

    def start_receiver(self) -> None:
        self.receiver = RequestReceiver(
            address=f"127.0.0.1:{self.receiver_port}",
            senders=Senders.read(f"{CLUSTER}={TOKEN}"),
            pending=Pending(self.store, pause_seconds=0.1),
        )
        self.receiver.start()

    def stop_receiver(self) -> int:
        """In an orderly way; returns how many entries no store has."""
        assert self.receiver is not None
        left = self.receiver.stop()
        self.receiver = None
        return left

    def close(self) -> None:
        self.gateway.close()
        for engine in self.engines.values():
            engine.kill()
        if self.receiver is not None:
            self.receiver.stop()

    def backend(self, variant: str) -> Backend:
        return Backend(variant, "service", name=variant)

    def ask(
        self,
        endpoint: str,
        *,
        forced: str = "",
        headers: Mapping[str, str | bytes] | None = None,
        **body: Any,
    ) -> Seen:
        usual = {"host": PLACE.host(endpoint), **({"x-headgate-variant": forced} if forced else {})}
        sent = {**usual, **(headers or {})}
        response = httpx.post(
            f"{self.gateway.url}/v1/chat/completions",
            json={"messages": PROMPT, **body},
            headers={name.encode(): as_bytes(value) for name, value in sent.items()},
            timeout=60,
        )
        answered = response.headers.get("x-headgate-variant", "")
        request_id = response.headers["x-request-id"]
        return Seen(response.status_code, "" if forced else answered, answered, request_id, True)

    def send(
        self, endpoint: str, number: int, *, forced: str = "", stream: bool = False, system: bool = False
    ) -> list[Seen]:
        assert not system
        return [self.ask(endpoint, forced=forced, stream=stream) for _ in range(number)]

    def kill(self, variant: str) -> None:
        self.engines[variant].kill()

    def change(self, variant: str, *, refused: int = 0, errors: float = 0, seconds: float = 0) -> None:
        self.engines[variant].control(
            refuse_rate=float(bool(refused)), refuse_status=refused or 429, error_rate=errors,
            latency_ms=seconds * 1000, cut_rate=0.0,
        )  # fmt: skip

    def reset(self) -> None:
        if self.receiver is None:
            self.start_receiver()
        for variant, engine in self.engines.items():
            if not engine.alive:
                engine.start()
            self.change(variant)


def as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
