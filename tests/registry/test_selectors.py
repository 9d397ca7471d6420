from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.access.actors import HEADGATE
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import NotFound
from registry import selectors
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import ManifestState, Model, Version
from registry.services.golden import upload_golden_set
from registry.services.manifests import register_manifest, verify_version
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors

pytestmark = pytest.mark.django_db

FILES = {"model.safetensors": safetensors()}


def fill(store: MemoryModelStore, now: datetime, *, models: int = 1, versions: int = 3) -> None:
    for model in range(models):
        store.add_model(f"llama-{model}")
        for version in range(versions):
            store.add_version(f"llama-{model}", FILES, metrics={"accuracy": 0.7 + version / 100})
        store.set_alias(f"llama-{model}", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))


@pytest.fixture
def model(memory_store: MemoryModelStore, now: datetime) -> Model:
    fill(memory_store, now)
    return Model.objects.get()


def test_mirror_health__never_read__no_age(now: datetime) -> None:
    assert selectors.mirror_health(now=now).age_seconds is None


def test_mirror_health__read_before__age_in_seconds(memory_store: MemoryModelStore, now: datetime) -> None:
    mirror_models(store=memory_store, clock=ManualClock(now))
    health = selectors.mirror_health(now=now + timedelta(seconds=8))
    assert (health.age_seconds, health.is_down, health.error) == (8.0, False, "")


def test_mirror_health__store_down__error_and_last_success(
    memory_store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=memory_store, clock=ManualClock(now))
    memory_store.down = True
    mirror_models(store=memory_store, clock=ManualClock(now + timedelta(seconds=10)))
    health = selectors.mirror_health(now=now + timedelta(seconds=12))
    assert (health.is_down, health.last_success_at, health.age_seconds) == (True, now, 12.0)
    assert "does not answer" in health.error


def test_list_models__with_versions_and_aliases__counted(model: Model) -> None:
    Version.objects.filter(number=2).update(manifest_state=ManifestState.CHANGED)
    (row,) = selectors.list_models()
    assert (row.name, row.version_count, row.changed_count, row.newest_number) == ("llama-0", 3, 1, 3)
    assert [(alias.name, alias.label) for alias in row.aliases] == [("production", "v1")]


def test_list_models__model_without_versions__counted_as_none(
    memory_store: MemoryModelStore, now: datetime
) -> None:
    memory_store.add_model("empty")
    mirror_models(store=memory_store, clock=ManualClock(now))
    (row,) = selectors.list_models()
    assert (row.version_count, row.changed_count, row.newest_number, row.newest_at) == (0, 0, None, None)


def test_list_models__deleted_version__not_counted(
    memory_store: MemoryModelStore, model: Model, now: datetime
) -> None:
    memory_store.delete_version("llama-0", 3)
    mirror_models(store=memory_store, clock=ManualClock(now))
    (row,) = selectors.list_models()
    assert (row.version_count, row.newest_number) == (2, 2)


def test_list_models__search_and_after__narrowed(memory_store: MemoryModelStore, now: datetime) -> None:
    for name in ("chat", "support-a", "support-b"):
        memory_store.add_model(name)
    mirror_models(store=memory_store, clock=ManualClock(now))
    assert [row.name for row in selectors.list_models(search="SUPP", after="support-a")] == ["support-b"]


@pytest.mark.parametrize("models", [2, 12])
def test_list_models__any_number__two_queries(
    memory_store: MemoryModelStore, now: datetime, django_assert_num_queries: Any, models: int
) -> None:
    fill(memory_store, now, models=models)
    with django_assert_num_queries(2):
        assert len(selectors.list_models()) == models


def test_get_model__with_a_changed_version__head_and_problems(
    model: Model, django_assert_num_queries: Any
) -> None:
    Version.objects.filter(number=2).update(manifest_state=ManifestState.CHANGED, manifest_problem="x")
    with django_assert_num_queries(5):
        found = selectors.get_model(name="llama-0")
    assert (found.version_count, found.newest and found.newest.label) == (3, "v3")
    assert [version.label for version in found.problems] == ["v2"]


def test_get_model__unknown__not_found() -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        selectors.get_model(name="nobody")


def test_aliases_of__two__by_name_in_two_queries(
    memory_store: MemoryModelStore, model: Model, now: datetime, django_assert_num_queries: Any
) -> None:
    memory_store.set_alias("llama-0", "champion", 3)
    mirror_models(store=memory_store, clock=ManualClock(now))
    with django_assert_num_queries(2):
        found = selectors.aliases_of(name="llama-0")
    assert [(alias.name, alias.number) for alias in found] == [("champion", 3), ("production", 1)]


def test_aliases_of__unknown_model__not_found() -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        selectors.aliases_of(name="nobody")


def test_page_versions__several_pages__each_version_once_newest_first(
    memory_store: MemoryModelStore, now: datetime
) -> None:
    fill(memory_store, now, versions=7)
    model_id, before, seen = Model.objects.get().pk, None, []
    for _ in range(3):
        page = selectors.page_versions(model_id=model_id, before=before, limit=3)
        seen += [row.version.number for row in page.rows]
        before = page.next_before
    assert (seen, before) == ([7, 6, 5, 4, 3, 2, 1], None)


@pytest.mark.parametrize("limit", [2, 20])
def test_page_versions__any_size__two_queries_and_no_manifest(
    memory_store: MemoryModelStore, now: datetime, django_assert_num_queries: Any, limit: int
) -> None:
    fill(memory_store, now, versions=25)
    model_id = Model.objects.get().pk
    with django_assert_num_queries(2):
        page = selectors.page_versions(model_id=model_id, limit=limit)
        assert [(row.aliases, row.refusal, str(row.version)) for row in page.rows]
    assert "manifest" in page.rows[0].version.get_deferred_fields()


def test_refusal__by_state__a_sentence_or_nothing(
    memory_store: MemoryModelStore, model: Model, models_dir: Path, now: datetime
) -> None:
    version = Version.objects.get(number=1)
    assert selectors.refusal_to_launch(version) == "Its files are being read for the first time."
    version = register_manifest(version_id=version.pk, store=memory_store, models_dir=models_dir, now=now)
    assert selectors.refusal_to_launch(version) == ""
    assert [file["path"] for file in version.files or ()] == ["model.safetensors"]
    memory_store.overwrite_file("llama-0", 1, "model.safetensors", safetensors(b"others"))
    version = verify_version(version_id=version.pk, store=memory_store, models_dir=models_dir, now=now)
    assert "model.safetensors" in selectors.refusal_to_launch(version)
    version.gone_at = now
    assert selectors.refusal_to_launch(version) == "It was deleted in MLflow."


def test_get_version__unknown__not_found_naming_both(model: Model) -> None:
    with pytest.raises(NotFound, match="'llama-0' has no version 9"):
        selectors.get_version(model="llama-0", number=9)


def test_alias_history__two_moves__newest_first_in_one_query(
    memory_store: MemoryModelStore, model: Model, now: datetime, django_assert_num_queries: Any
) -> None:
    memory_store.set_alias("llama-0", "production", 2)
    mirror_models(store=memory_store, clock=ManualClock(now))
    with django_assert_num_queries(1):
        moves = selectors.alias_history(model_id=model.pk)
        told = [(m.alias, m.previous and m.previous.label, m.version and m.version.label) for m in moves]
    assert told == [("production", "v1", "v2"), ("production", None, "v1")]
    assert selectors.alias_history(model_id=model.pk, before_id=moves[0].pk) == moves[1:]


def test_evaluations__newest_versions__oldest_first_with_gaps(
    memory_store: MemoryModelStore, model: Model, now: datetime
) -> None:
    memory_store.add_version("llama-0", FILES, metrics={"accuracy": 0.8, "refusals": 0.02})
    mirror_models(store=memory_store, clock=ManualClock(now))
    found = selectors.evaluations_of(model_id=model.pk, newest=3)
    assert [version.label for version in found.versions] == ["v2", "v3", "v4"]
    assert [(measure.name, measure.values) for measure in found.measures] == [
        ("accuracy", (0.71, 0.72, 0.8)),
        ("refusals", (None, None, 0.02)),
    ]


def test_golden_sets__two_revisions__newest_listed_and_both_found(now: datetime) -> None:
    for expected in ("billing", "shipping"):
        text = f'{{"prompt": "Refund?", "expected": "{expected}"}}'
        upload_golden_set(name="tickets", text=text, actor=HEADGATE, now=now)
    assert [found.label for found in selectors.newest_golden_sets()] == ["tickets@2"]
    assert selectors.get_golden_set(name="tickets").label == "tickets@2"
    first = selectors.get_golden_set(name="tickets", revision=1)
    assert [example.expected for example in selectors.examples_of(golden_set_id=first.pk)] == ["billing"]


@pytest.mark.parametrize(("name", "revision"), [("nobody", None), ("nobody", 1)])
def test_get_golden_set__unknown__not_found(name: str, revision: int | None) -> None:
    with pytest.raises(NotFound, match="nobody"):
        selectors.get_golden_set(name=name, revision=revision)
