from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.services.manifests import register_manifest
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors
from tests.registry.api.conftest import ClientOf

pytestmark = pytest.mark.django_db


def test_models__listed__by_name_with_counts_and_aliases(
    filled: MemoryModelStore, client_of: ClientOf
) -> None:
    items = client_of("viewer").get("/api/v1/models").json()["items"]
    assert [(item["name"], item["version_count"], item["newest_version"]) for item in items] == [
        ("empty", 0, None),
        ("llama", 3, 3),
    ]
    assert items[1]["aliases"] == [{"name": "production", "version": 1}]


def test_models__pages_of_one__followed_to_the_end(filled: MemoryModelStore, client_of: ClientOf) -> None:
    client, url, names = client_of(), "/api/v1/models?limit=1", []
    while url:
        page = client.get(url).json()
        names += [item["name"] for item in page["items"]]
        url = page["next"]
    assert names == ["empty", "llama"]


def test_models__many__queries_do_not_grow(
    filled: MemoryModelStore, client_of: ClientOf, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        filled.add_model(f"model-{number}")
    mirror_models(store=filled, clock=ManualClock(now))
    client = client_of()
    with django_assert_max_num_queries(6):
        assert len(client.get("/api/v1/models").json()["items"]) == 32


def test_model__known__whole(filled: MemoryModelStore, client_of: ClientOf) -> None:
    body = client_of().get("/api/v1/models/llama").json()
    assert (body["description"], body["version_count"], body["gone_at"]) == ("routes tickets", 3, None)


def test_versions__one_is_odd__the_others_are_there_and_it_is_named(
    filled: MemoryModelStore, client_of: ClientOf
) -> None:
    assert Version.objects.filter(model__name="llama", number=2).update(datasets=["odd"])
    page = client_of().get("/api/v1/models/llama/versions").json()
    assert {item["version"] for item in page["items"]} == {1, 3}
    (said,) = page["unreadable"]
    assert "cannot be read" in said


def test_model__unknown__problem_that_names_it(filled: MemoryModelStore, client_of: ClientOf) -> None:
    answer = client_of().get("/api/v1/models/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert "'nobody'" in answer.json()["detail"]


def test_versions__listed__newest_first_with_state(filled: MemoryModelStore, client_of: ClientOf) -> None:
    items = client_of().get("/api/v1/models/llama/versions").json()["items"]
    assert [(item["label"], item["aliases"], item["may_launch"]) for item in items] == [
        ("v3", [], False),
        ("v2", [], False),
        ("v1", ["production"], False),
    ]
    assert items[0]["metrics"] == {"accuracy": 0.8}
    assert "manifest" not in items[0]


def test_versions__many__queries_do_not_grow(
    filled: MemoryModelStore, client_of: ClientOf, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for _ in range(40):
        filled.add_version("llama", {"a": b"b"})
    mirror_models(store=filled, clock=ManualClock(now))
    client = client_of()
    with django_assert_max_num_queries(7):
        assert len(client.get("/api/v1/models/llama/versions").json()["items"]) == 43


def test_versions__unknown_model__not_found(filled: MemoryModelStore, client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/models/nobody/versions").status_code == 404


def test_version__with_manifest__files_named(
    filled: MemoryModelStore, client_of: ClientOf, models_dir: Path, now: datetime
) -> None:
    row = Version.objects.get(number=2)
    register_manifest(version_id=row.pk, store=filled, models_dir=models_dir, now=now)
    body = client_of().get("/api/v1/models/llama/versions/2").json()
    assert (body["manifest_state"], body["may_launch"]) == ("verified", True)
    assert [(entry["path"], entry["size"]) for entry in body["manifest"]] == [
        ("model.safetensors", len(safetensors()))
    ]


def test_version__files__each_with_what_it_is_and_the_findings_as_sentences(
    filled: MemoryModelStore, client_of: ClientOf, models_dir: Path, now: datetime
) -> None:
    filled.add_version(
        "llama", {"config.json": b'{"auto_map": "x.X"}', "run.py": b"1", "model.safetensors": safetensors()}
    )
    mirror_models(store=filled, clock=ManualClock(now))
    row = Version.objects.get(number=4)
    register_manifest(version_id=row.pk, store=filled, models_dir=models_dir, now=now)
    body = client_of().get("/api/v1/models/llama/versions/4").json()
    assert [(file["path"], file["kind"], file["why"]) for file in body["manifest"]] == [
        ("config.json", "configuration", ""),
        ("model.safetensors", "weights", ""),
        ("run.py", "code", "is Python source"),
    ]
    assert body["manifest"][0]["finding"].startswith("asks for code of its own (auto_map: x.X)")
    assert body["findings"] == [f"config.json {body['manifest'][0]['finding']}."]
    assert (body["manifest_state"], body["may_launch"]) == ("failed", False)


def test_version__last_checked_before_there_were_classes__files_without_a_kind(
    filled: MemoryModelStore, client_of: ClientOf, models_dir: Path, now: datetime
) -> None:
    row = Version.objects.get(number=2)
    register_manifest(version_id=row.pk, store=filled, models_dir=models_dir, now=now)
    Version.objects.update(file_classes=None)
    body = client_of().get("/api/v1/models/llama/versions/2").json()
    assert [(file["kind"], file["why"], file["finding"]) for file in body["manifest"]] == [("", "", "")]
    assert body["findings"] == []


def test_version__unknown__problem_names_model_and_number(
    filled: MemoryModelStore, client_of: ClientOf
) -> None:
    answer = client_of().get("/api/v1/models/llama/versions/9")
    assert answer.status_code == 404
    assert "'llama' has no version 9" in answer.json()["detail"]


def test_aliases__listed__with_their_versions(filled: MemoryModelStore, client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/models/llama/aliases").json() == [{"name": "production", "version": 1}]


def test_alias_moves__listed__newest_first(
    filled: MemoryModelStore, client_of: ClientOf, now: datetime
) -> None:
    filled.delete_alias("llama", "production")
    mirror_models(store=filled, clock=ManualClock(now))
    items = client_of().get("/api/v1/models/llama/alias-moves").json()["items"]
    assert [(item["previous"], item["version"], item["by"]) for item in items] == [
        (1, None, "by hand in MLflow"),
        (None, 1, "by hand in MLflow"),
    ]


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/llama", "/api/v1/golden-sets"])
def test_read__nobody_known__unauthorised(client_of: ClientOf, path: str) -> None:
    client = client_of()
    client.credentials()
    assert client.get(path).status_code == 401
