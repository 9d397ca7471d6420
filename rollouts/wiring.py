"""Builds the outside world from settings: the one place where adapters are chosen."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from django.conf import settings

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from controlplane.sealing.services import key_ring
from controlplane.timekeeping.database_clock import CLOCK
from registry.wiring import allowed_files, model_store, models_dir
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import available_memory_mb
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.adapters.routers.envoy_config import DURATION_EDGES, TTFT_EDGES
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.models import Cluster as ClusterRow
from rollouts.services.preview_checks import EngineRoom
from rollouts.services.world import World, Worlds

ENGINE_TIMEOUT_SECONDS = 5.0


def gateway_url() -> str:
    """Where people reach the endpoints."""
    return str(settings.HEADGATE.public_gateway_url)


def edges() -> Mapping[str, tuple[float, ...]]:
    """The router's histogram edges in seconds, by signal: an SLO must be one of them."""
    return {"ttft": TTFT_EDGES, "duration": DURATION_EDGES}


@cache
def router() -> EnvoyRouter:
    """Envoy of this machine."""
    environment = settings.HEADGATE
    return EnvoyRouter(
        environment.envoy_dir,
        environment.gateway_port,
        envoy_binary(),
        cors_origins=environment.allowed_origins,
    )


def envoy_binary() -> Path:
    """Envoy beside this Python, or on the PATH. Raises Unavailable when there is none."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise Unavailable("Envoy is not installed.", fix="Install requirements/app.txt (make setup).")
    return Path(found)


@cache
def local_cluster() -> LocalCluster:
    """This machine, by its process manager."""
    environment = settings.HEADGATE
    return LocalCluster(
        environment.run_dir,
        environment.supervisor_socket,
        environment.engine_python,
        environment.engine_port_range,
        environment.engine_memory_mb,
        SystemClock(),
        local_client(timeout=ENGINE_TIMEOUT_SECONDS),
        memory_limit_mb=environment.engine_memory_limit_mb,
        engine_user=environment.engine_user,
        secrets_dir=environment.secrets_folder,
        keys=key_ring,
    )


def engine_room() -> EngineRoom:
    """The memory that engines start in, as it is now."""
    return EngineRoom(free_mb=available_memory_mb(), engine_mb=settings.HEADGATE.engine_memory_mb)


def worlds() -> Worlds:
    """The worlds of all clusters that the database knows. Cheap: the parts are made once. 1 query."""
    names = ClusterRow.objects.filter(kind="local").order_by("name").values_list("name", flat=True)
    return Worlds(tuple(names), _world, CLOCK)


def _world(name: str) -> World:
    environment = settings.HEADGATE
    return World(
        name=name,
        cluster=local_cluster(),
        router=router(),
        signals=_signals(),
        request_log=_request_log(),
        prober=_prober(),
        store=model_store(),
        models_dir=models_dir(),
        clock=CLOCK,
        edges=edges(),
        interval_seconds=environment.interval_seconds,
        feedback_seconds=environment.feedback_seconds,
        probe_pairs=environment.probe_pairs,
        allowed_files=allowed_files(),
    )


@cache
def _signals() -> CombinedSignals:
    return CombinedSignals(EnvoyStats(settings.HEADGATE.envoy_dir, CLOCK), VllmMetrics())


@cache
def _request_log() -> EnvoyRequestLog:
    return EnvoyRequestLog(settings.HEADGATE.envoy_dir)


def rotate_request_log() -> bool:
    """Rotates the router's log when it is long; True when it did."""
    return _request_log().rotate()


@cache
def _prober() -> OpenAIProber:
    return OpenAIProber(f"http://127.0.0.1:{settings.HEADGATE.gateway_port}")
