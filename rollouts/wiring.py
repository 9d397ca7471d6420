"""Builds the outside world from settings: the one place where adapters are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from django.conf import settings

from controlplane.kernel.clock import SystemClock
from registry.wiring import model_store, models_dir
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.adapters.routers.envoy_config import EnvoySettings
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.services.world import World


def gateway_url() -> str:
    """Where people reach the endpoints."""
    return str(settings.HEADGATE.gateway_url) or f"http://127.0.0.1:{settings.HEADGATE.gateway_port}"
