"""Builds the registry's real parts from the settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.ports import ModelStore


@cache
def model_store() -> ModelStore:
    """MLflow at HEADGATE_MLFLOW_URL, through HEADGATE_MLFLOW_PROXY; one connection pool a process."""
    environment = settings.HEADGATE
    return MlflowModelStore(MlflowHttp(environment.mlflow_url, proxy=environment.mlflow_proxy))


def models_dir() -> Path:
    """Where verified files lie on this machine."""
    return Path(settings.RUN_DIR) / "models"


def allowed_files() -> frozenset[str]:
    """Names or paths of files that may be served although they are not data."""
    names = str(settings.HEADGATE.allowed_pickle_files).split(",")
    return frozenset(name.strip() for name in names if name.strip())


def webhook_secret() -> str:
    """The secret shared with MLflow's webhooks; empty: they are refused."""
    return str(settings.HEADGATE.mlflow_webhook_secret)
