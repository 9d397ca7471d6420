from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.timekeeping.database_clock import CLOCK
from registry import tasks
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import ManifestState, MirrorState, Version
from registry.selectors import CHECKED_AGAIN
from registry.services.manifests import register_manifest
from registry.wiring import model_store, models_dir
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import RunningMlflow, Trainer

pytestmark = pytest.mark.django_db


@pytest.fixture
def at_mlflow(settings: Any, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Points the process at an address of MLflow, with a folder of its own for the files."""

    def forget_store() -> None:
        store = model_store()
        assert isinstance(store, MlflowModelStore)
        store.close()
        model_store.cache_clear()

    def point(url: str) -> None:
        forget_store()
        settings.HEADGATE = replace(settings.HEADGATE, mlflow_url=url)
        settings.RUN_DIR = tmp_path

    yield point
    forget_store()


@pytest.fixture
def name(trainer: Trainer) -> str:
    """A model with one version in the real MLflow, in production: so its manifest comes first."""
    made = f"tasks-{uuid.uuid4().hex[:8]}"
    trainer.add_model(made)
    trainer.add_version(made, {"model.safetensors": safetensors()})
    trainer.set_alias(made, "production", 1)
    return made


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow__version_arrives_with_its_manifest(
    mlflow_server: RunningMlflow, name: str, at_mlflow: Any
) -> None:
    at_mlflow(mlflow_server.url)
    tasks.mirror()
    for _ in range(40):  # other tests' versions wait too, five are taken at a time
        tasks.take_manifests()
    version = Version.objects.get(model__name=name)
    assert version.manifest_state == ManifestState.VERIFIED
    assert (models_dir() / version.manifest_digest.removeprefix("sha256:") / "model.safetensors").is_file()


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow_changed_file_put_back__the_version_is_verified_again(
    mlflow_server: RunningMlflow, name: str, at_mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_mlflow(mlflow_server.url)
    tasks.mirror()
    version = Version.objects.get(model__name=name)
    register_manifest(version_id=version.pk, store=model_store(), models_dir=models_dir(), now=CLOCK.now())
    Version.objects.filter(pk=version.pk).update(
        manifest_state=ManifestState.CHANGED, manifest_checked_at=CLOCK.now() - CHECKED_AGAIN
    )
    sent: list[Any] = []
    for task in (tasks.take_manifests, tasks.verify_changed_versions):
        monkeypatch.setattr(task, "apply_async", lambda *, expires, task=task: sent.append(task))
    tasks.mirror()
    assert tasks.verify_changed_versions in sent
    tasks.verify_changed_versions()
    version.refresh_from_db()
    assert version.manifest_state == ManifestState.VERIFIED


@pytest.mark.needs("mlflow")
def test_command__real_mlflow__says_what_it_read(
    mlflow_server: RunningMlflow, name: str, at_mlflow: Any
) -> None:
    at_mlflow(mlflow_server.url)
    out = StringIO()
    call_command("mirror_registry", "--no-manifests", stdout=out)
    assert "new versions" in out.getvalue()
    assert Version.objects.filter(model__name=name).exists()


def test_command__mlflow_down__fails_with_the_reason(at_mlflow: Any) -> None:
    at_mlflow("http://127.0.0.1:9")
    with pytest.raises(CommandError, match="does not answer"):
        call_command("mirror_registry")


def test_mirror__mlflow_down__no_error_but_the_state_says_so(at_mlflow: Any) -> None:
    at_mlflow("http://127.0.0.1:9")
    tasks.mirror()
    assert MirrorState.objects.get().is_down
