from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from registry.adapters.model_stores.memory import MemoryModelStore
from registry.api import files
from registry.api.files import Download, Places
from registry.models import Version
from registry.services.file_door import OpenFile, grant_files
from registry.services.manifests import register_manifest
from tests.registry.services.registering import FILES, add

pytestmark = pytest.mark.django_db

FOREVER = 1e9
PATH = "sub/config.json"


@pytest.fixture
def version(settings: Any, tmp_path: Path, memory_store: MemoryModelStore, now: datetime) -> Version:
    settings.RUN_DIR = tmp_path
    version_id = add(memory_store, now)
    return register_manifest(
        version_id=version_id, store=memory_store, models_dir=tmp_path / "models", now=now
    )


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    made = Places(2)
    monkeypatch.setattr(files, "PLACES", made)
    yield made
    gc.collect()
    assert made._moved == {}  # whatever a test does, no place stays taken


def asked(
    version: Version, path: str = PATH, *, method: str = "get", authorization: str | None = None
) -> Any:
    """(answer, content)"""
    manifest = version.manifest_value
    assert manifest is not None
    token = grant_files(manifest=manifest, seconds=FOREVER, now=version.created_at)
    headers = {"Authorization": f"Bearer {token}" if authorization is None else authorization}

    async def ask() -> Any:
        address = f"/files/{manifest.folder_name}/{path}"
        answer = await getattr(AsyncClient(), method)(address, headers=headers)
        if not answer.streaming:
            return answer, answer.content
        content = b"".join([chunk async for chunk in answer.streaming_content])
        answer.close()
        return answer, content

    return async_to_sync(ask)()


@pytest.mark.parametrize("path", sorted(FILES))
def test_file__with_its_pass__comes_whole_and_is_kept_by_nobody(version: Version, path: str) -> None:
    answer, content = asked(version, path)
    assert (answer.status_code, content) == (200, FILES[path])
    assert answer["Content-Length"] == str(len(FILES[path]))
    assert answer["Content-Type"] == "application/octet-stream"
    assert "no-store" in answer["Cache-Control"]


def test_file__larger_than_a_chunk__comes_whole(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 3)
    assert asked(version, "model.safetensors")[1] == FILES["model.safetensors"]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp5"])
def test_file__without_a_pass__is_a_problem(version: Version, authorization: str) -> None:
    answer, _ = asked(version, authorization=authorization)
    assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")


def test_file__not_in_the_manifest__is_a_problem(version: Version) -> None:
    assert asked(version, "other.json")[0].status_code == 404


def test_file__posted__is_refused(version: Version) -> None:
    assert asked(version, method="post")[0].status_code == 405


def test_file__all_places_taken__is_told_when_to_come_again(version: Version, places: Places) -> None:
    taken = [places.take(), places.take()]
    answer, _ = asked(version)
    assert (answer.status_code, answer["Retry-After"]) == (429, "10")
    for place in taken:
        places.leave(place)
    assert asked(version)[0].status_code == 200


def test_download__other_side_leaves_before_it_begins__frees_its_place(
    places: Places, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    handle = file.open("rb")
    download = Download(OpenFile(handle, 1), places.take(), places)
    del download
    gc.collect()
    assert handle.closed


def test_download__file_is_cut_meanwhile__ends_with_what_there_is(places: Places, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"half")

    async def read() -> bytes:
        download = Download(OpenFile(file.open("rb"), 8), places.take(), places)
        try:
            return b"".join([chunk async for chunk in download])
        finally:
            download.close()

    assert asyncio.run(read()) == b"half"


def test_places__one_in_which_nothing_moves__keeps_nobody_away() -> None:
    stalled = Places(1, stalled_seconds=0.0)
    first = stalled.take()
    second = stalled.take()
    stalled.leave(first)
    stalled.leave(second)
