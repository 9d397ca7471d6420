"""Versions that the tests of manifests register, and what lies in the store of files."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from controlplane.kernel.clock import ManualClock
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors

FILES = {"model.safetensors": safetensors(), "sub/config.json": b"{}"}
LATER = timedelta(hours=1)


def add(
    store: MemoryModelStore, now: datetime, files: dict[str, bytes] | None = None, status: str = "READY"
) -> int:
    """Registers a version in the store, mirrors it, and returns its row's id."""
    if not store.models():
        store.add_model("llama")
    number = store.add_version("llama", FILES if files is None else files, status=status).number
    mirror_models(store=store, clock=ManualClock(now))
    return Version.objects.get(number=number).pk


def folders(models_dir: Path) -> list[str]:
    """Everything that lies in the store of files, hidden folders too."""
    return sorted(path.name for path in models_dir.iterdir()) if models_dir.exists() else []


def spoil(models_dir: Path, path: str) -> None:
    """Changes one byte of a file of the only copy, as a bad disk or hand would."""
    (folder,) = models_dir.iterdir()
    file = folder / path
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))


def remove_copy(models_dir: Path) -> None:
    """Deletes the only copy."""
    (folder,) = models_dir.iterdir()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
