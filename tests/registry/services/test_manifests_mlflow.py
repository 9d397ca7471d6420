"""The same on a real MLflow whose artifacts change afterwards."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import TamperedFile, Unavailable
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import ManifestState, Version
from registry.services.manifests import (
    register_manifest,
    verify_version,
)
from registry.services.materialise import materialise_version
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import RunningMlflow, Trainer
from tests.registry.services.registering import FILES, folders, remove_copy

pytestmark = pytest.mark.django_db


@pytest.fixture
def real_version(
    mlflow_store: MlflowModelStore, trainer: Trainer, models_dir: Path, now: datetime
) -> Version:
    """A version in a real MLflow whose manifest was taken."""
    name = f"manifest-{uuid.uuid4().hex[:8]}"
    trainer.add_model(name)
    trainer.add_version(name, FILES)
    mirror_models(store=mlflow_store, clock=ManualClock(now))
    row = Version.objects.get(model__name=name)
    return register_manifest(version_id=row.pk, store=mlflow_store, models_dir=models_dir, now=now)


@pytest.mark.needs("mlflow")
def test_verify__real_mlflow_artifact_overwritten_after_registration__detected_by_name(
    real_version: Version, mlflow_store: MlflowModelStore, trainer: Trainer, models_dir: Path, now: datetime
) -> None:
    assert real_version.manifest_state == ManifestState.VERIFIED
    trainer.overwrite_file(real_version.model.name, 1, "model.safetensors", safetensors(b"WEIGHTS"))
    version = verify_version(version_id=real_version.pk, models_dir=models_dir, store=mlflow_store, now=now)
    assert version.manifest_state == ManifestState.CHANGED
    assert "model.safetensors differs in MLflow" in version.manifest_problem


@pytest.mark.needs("mlflow")
def test_materialise__real_mlflow_artifact_overwritten_and_no_copy__refused_and_nothing_kept(
    real_version: Version, mlflow_store: MlflowModelStore, trainer: Trainer, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    trainer.overwrite_file(real_version.model.name, 1, "sub/config.json", b"{} ")
    with pytest.raises(TamperedFile) as caught:
        materialise_version(version_id=real_version.pk, store=mlflow_store, models_dir=models_dir, now=now)
    assert (caught.value.path, folders(models_dir)) == ("sub/config.json", [])


@pytest.mark.needs("mlflow")
def test_register__real_mlflow_source_by_reference_only__failed_saying_how_to_log_it(
    mlflow_store: MlflowModelStore, trainer: Trainer, models_dir: Path, now: datetime
) -> None:
    name = f"manifest-{uuid.uuid4().hex[:8]}"
    trainer.add_model(name)
    trainer.register(name, "s3://bucket/llama")
    mirror_models(store=mlflow_store, clock=ManualClock(now))
    row = Version.objects.get(model__name=name)
    version = register_manifest(version_id=row.pk, store=mlflow_store, models_dir=models_dir, now=now)
    assert version.manifest_state == ManifestState.FAILED
    assert "s3://bucket/llama" in version.manifest_problem
    assert "--serve-artifacts" in version.manifest_problem


@pytest.mark.needs("mlflow")
def test_materialise__real_mlflow_down__copy_serves_and_a_missing_one_says_why(
    real_version: Version, mlflow_server: RunningMlflow, models_dir: Path, now: datetime
) -> None:
    nobody = mlflow_server.sibling()  # never started: nothing listens there
    http = MlflowHttp(nobody.url)
    store = MlflowModelStore(http)
    folder, _ = materialise_version(version_id=real_version.pk, store=store, models_dir=models_dir, now=now)
    assert folder.is_dir()
    remove_copy(models_dir)
    with pytest.raises(Unavailable, match=f"MLflow at {nobody.url} does not answer"):
        materialise_version(version_id=real_version.pk, store=store, models_dir=models_dir, now=now)
    http.close()
    assert (folders(models_dir), Version.objects.get(id=real_version.pk).manifest_state) == (
        [],
        ManifestState.VERIFIED,
    )
