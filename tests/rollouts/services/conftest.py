"""The registry's real MLflow, for what the rollouts write there."""

from tests.registry.conftest import mlflow_http, mlflow_server, mlflow_store, trainer

__all__ = ["mlflow_http", "mlflow_server", "mlflow_store", "trainer"]
