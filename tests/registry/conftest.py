"""One MLflow server a session, and stores to test against."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.adapters.model_stores.memory import MemoryModelStore
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from tests.fixtures.mlflow_server import RunningMlflow, Trainer

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[RunningMlflow]:
    """A real MLflow, shared by the session; tests use models of their own."""
    assert importlib.util.find_spec("mlflow"), "mark the test with needs('mlflow')"
    server = RunningMlflow(tmp_path_factory.mktemp("mlflow"))
    try:
        yield server.begin_with(empty_mlflow_database(pytestconfig))
    finally:
        server.kill()


def empty_mlflow_database(config: pytest.Config) -> Path:
    """Where an empty database of this version of MLflow is kept between runs; it may not be there yet."""
    assert config.cache is not None
    return config.cache.mkdir("mlflow") / f"empty-{importlib.metadata.version('mlflow')}.sqlite3"


@pytest.fixture(scope="session")
def mlflow_http(mlflow_server: RunningMlflow) -> Iterator[MlflowHttp]:
    http = MlflowHttp(mlflow_server.url, timeout_seconds=30)
    yield http
    http.close()


@pytest.fixture
def mlflow_store(mlflow_http: MlflowHttp) -> MlflowModelStore:
    return MlflowModelStore(mlflow_http)


@pytest.fixture(scope="session")
def trainer(mlflow_server: RunningMlflow) -> Iterator[Trainer]:
    made = Trainer(mlflow_server.url)
    yield made
    made.close()


@pytest.fixture
def memory_store() -> MemoryModelStore:
    return MemoryModelStore()


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def now() -> datetime:
    return NOW
