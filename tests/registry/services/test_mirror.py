from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from controlplane.kernel.clock import ManualClock
from controlplane.passes.models import ItemTrouble
from controlplane.web.live import newest_id
from controlplane.web.models import LiveEvent
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import AliasMove, ManifestState, MirrorState, Model, Version
from registry.ports import StoredDataset, StoredModel, StoredVersion
from registry.selectors import MODELS, models_with_counts
from registry.services.aliases import BY_HAND
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import RunningMlflow, Trainer

pytestmark = pytest.mark.django_db

FILES = {"model.safetensors": safetensors()}
TICK = timedelta(seconds=10)


def synced(*, gone: bool = False) -> dict[str, datetime]:
    """When each model was last read, as pages and the API say it."""
    return {model.name: model.__dict__["synced_at"] for model in models_with_counts(include_gone=gone)}


@contextmanager
def rows_written() -> Iterator[list[int]]:
    """The number of rows that each statement changed which changed any."""
    counts: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            counts.append(context["cursor"].rowcount)
        return result

    with connection.execute_wrapper(count):
        yield counts


@pytest.fixture
def store(memory_store: MemoryModelStore) -> MemoryModelStore:
    memory_store.add_model("llama", description="routes tickets")
    memory_store.add_version("llama", FILES)
    memory_store.add_version("llama", FILES)
    return memory_store


def moves(name: str = "llama") -> list[tuple[str, int | None, int | None, str]]:
    found = AliasMove.objects.filter(model__name=name).order_by("id")
    return [
        (m.alias, m.previous.number if m.previous else None, m.version.number if m.version else None, m.by)
        for m in found
    ]


def test_mirror__empty_registry__models_and_versions_appear(store: MemoryModelStore, now: datetime) -> None:
    report = mirror_models(store=store, clock=ManualClock(now))
    model = models_with_counts().get()
    assert (model.name, model.description) == ("llama", "routes tickets")
    assert synced() == {"llama": now}
    assert [version.label for version in model.versions.all()] == ["v2", "v1"]
    assert (report.models, report.new_versions, report.details, report.error) == (1, 2, 2, "")


def test_mirror__run_and_logged_model__kept_as_details(store: MemoryModelStore, now: datetime) -> None:
    store.add_version(
        "llama",
        FILES,
        run_name="support-ft",
        params={"lr": "1e-3"},
        metrics={"accuracy": 0.84},
        datasets=(StoredDataset("tickets", "77be", "training"),),
    )
    mirror_models(store=store, clock=ManualClock(now))
    version = Version.objects.get(number=3)
    assert (version.run_name, version.params, version.metrics, version.datasets, version.details_at) == (
        "support-ft",
        {"lr": "1e-3"},
        {"accuracy": 0.84},
        [{"name": "tickets", "digest": "77be", "context": "training"}],
        now,
    )


def test_mirror__second_pass_without_changes__no_versions_are_asked_for(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.versions = lambda model: pytest.fail("asked although nothing changed")  # type: ignore[method-assign]
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).error == ""


def test_mirror__new_version__appears_on_the_next_pass(store: MemoryModelStore, now: datetime) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.add_version("llama", FILES)
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).new_versions == 1
    assert Version.objects.filter(number=3).exists()


def test_mirror__version_deleted__marked_gone_and_kept(store: MemoryModelStore, now: datetime) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.delete_version("llama", 1)
    report = mirror_models(store=store, clock=ManualClock(now + TICK))
    assert (report.gone_versions, Version.objects.get(number=1).gone_at) == (1, now + TICK)
    assert Version.objects.get(number=2).gone_at is None


def test_mirror__model_deleted__all_marked_gone_and_aliases_end(
    store: MemoryModelStore, now: datetime
) -> None:
    store.set_alias("llama", "production", 2)
    mirror_models(store=store, clock=ManualClock(now))
    store.delete_model("llama")
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert Model.objects.get().gone_at == now + TICK
    assert not Version.objects.filter(gone_at=None).exists()
    assert moves()[-1] == ("production", 2, None, BY_HAND)


def test_mirror__row_hidden_by_a_shifting_page__is_not_taken_for_deleted(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    whole = store.versions("llama")
    store.add_model("llama", description="edited")
    store.versions = lambda model: whole[:1]  # type: ignore[method-assign]
    report = mirror_models(store=store, clock=ManualClock(now + TICK))
    assert (report.gone_versions, Version.objects.filter(gone_at=None).count()) == (0, 2)


def test_mirror__model_hidden_by_a_shifting_page__is_not_taken_for_deleted(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.models = lambda: ()  # type: ignore[method-assign]
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert Model.objects.get().gone_at is None


def test_mirror__model_made_again_under_its_name__known_number_is_changed(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    Version.objects.filter(number=1).update(manifest=[], manifest_state=ManifestState.VERIFIED)
    store.delete_model("llama")
    store.add_model("llama")
    store.add_version("llama", {"model.safetensors": safetensors(b"others")})
    mirror_models(store=store, clock=ManualClock(now + TICK))
    version = Version.objects.get(number=1)
    assert version.manifest_state == ManifestState.CHANGED
    assert "another version under this number" in version.manifest_problem


def test_mirror__alias_found_at_first_sight__history_begins_there(
    store: MemoryModelStore, now: datetime
) -> None:
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    assert moves() == [("production", None, 1, BY_HAND)]


def test_mirror__alias_moved_by_hand__history_has_both_versions(
    store: MemoryModelStore, now: datetime
) -> None:
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    store.set_alias("llama", "production", 2)
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert moves()[-1] == ("production", 1, 2, BY_HAND)
    assert AliasMove.objects.latest("id").moved_at == now + TICK


def test_mirror__alias_unmoved__no_history_row(store: MemoryModelStore, now: datetime) -> None:
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert len(moves()) == 1


def test_mirror__alias_to_a_version_of_the_last_second__waits_for_the_next_pass(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    stale = store.versions("llama")
    store.add_version("llama", FILES)
    store.set_alias("llama", "production", 3)
    fresh = store.versions
    store.versions = lambda model: stale  # type: ignore[method-assign]
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).alias_moves == 0
    store.versions = fresh  # type: ignore[method-assign]
    store.add_model("llama", description="edited")
    assert mirror_models(store=store, clock=ManualClock(now + 2 * TICK)).alias_moves == 1


def test_mirror__description_of_a_version_edited__seen_within_five_minutes(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.edit_version("llama", 1, description="the better one")
    mirror_models(store=store, clock=ManualClock(now + timedelta(minutes=5)))
    assert Version.objects.get(number=1).description == "the better one"


def test_mirror__description_edited_and_named_by_a_hint__seen_at_once(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.edit_version("llama", 1, description="the better one")
    mirror_models(store=store, clock=ManualClock(now + TICK), only=["llama"])
    assert Version.objects.get(number=1).description == "the better one"


def test_mirror__metrics_logged_later__seen_within_five_minutes(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.edit_version("llama", 1, metrics={"accuracy": 0.9})
    mirror_models(store=store, clock=ManualClock(now + timedelta(minutes=5)))
    assert Version.objects.get(number=1).metrics == {"accuracy": 0.9}


def test_mirror__logged_model_pending__status_stays_pending_after_a_plain_read(
    store: MemoryModelStore, now: datetime
) -> None:
    class Plain(MemoryModelStore):
        """Like MLflow: only the whole version knows that its files are still being written."""

        def version(self, model: str, number: int) -> StoredVersion:
            found = super().version(model, number)
            return StoredVersion(model, number, found.source, "PENDING", found.created_at, found.updated_at)

    plain = Plain()
    plain.add_model("llama")
    plain.add_version("llama", FILES)
    mirror_models(store=plain, clock=ManualClock(now))
    mirror_models(store=plain, clock=ManualClock(now + TICK), only=["llama"])
    assert Version.objects.get().status == "PENDING"


def test_mirror__store_down__reason_kept_and_nothing_else_changes(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    before = list(Model.objects.values()) + list(Version.objects.values())
    store.down = True
    report = mirror_models(store=store, clock=ManualClock(now + TICK))
    state = MirrorState.objects.get()
    assert "does not answer" in report.error
    assert (state.is_down, state.last_success_at, state.last_error_at) == (True, now, now + TICK)
    assert list(Model.objects.values()) + list(Version.objects.values()) == before


def test_mirror__store_up_again__error_is_cleared(store: MemoryModelStore, now: datetime) -> None:
    store.down = True
    mirror_models(store=store, clock=ManualClock(now))
    store.down = False
    mirror_models(store=store, clock=ManualClock(now + TICK))
    state = MirrorState.objects.get()
    assert (state.is_down, state.last_error, state.last_success_at) == (False, "", now + TICK)


def test_mirror__store_dies_between_two_models__whole_models_stay(now: datetime) -> None:
    class Dying(MemoryModelStore):
        def versions(self, model: str) -> tuple[StoredVersion, ...]:
            self.down = model == "first"  # newest change first: "second" was read before
            return super().versions(model)

    store = Dying()
    for name in ("first", "second"):
        store.add_model(name)
        store.add_version(name, FILES)
    assert mirror_models(store=store, clock=ManualClock(now)).error
    assert [str(version) for version in Version.objects.all()] == ["second v1"]
    assert list(Model.objects.values_list("name", flat=True)) == ["second"]


def test_mirror__store_dies_between_two_details__the_first_are_kept(now: datetime) -> None:
    class Dying(MemoryModelStore):
        def version(self, model: str, number: int) -> StoredVersion:
            self.down = number == 1  # the newest version is read first
            return super().version(model, number)

    store = Dying()
    store.add_model("llama")
    for _ in range(2):
        store.add_version("llama", FILES, run_name="ft")
    assert mirror_models(store=store, clock=ManualClock(now)).error
    assert list(Version.objects.values_list("number", "run_name", "details_at")) == [
        (2, "ft", now),
        (1, "", None),
    ]


def test_mirror__older_read_of_an_alias_that_we_moved_meanwhile__not_applied(
    store: MemoryModelStore, now: datetime
) -> None:
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))

    class Slow(MemoryModelStore):
        """Between its answer and the mirror's writing, somebody else's move is written down."""

        def models(self) -> tuple[StoredModel, ...]:
            answer = store.models()
            store.set_alias("llama", "production", 2)
            mirror_models(store=store, clock=ManualClock(now + TICK))
            return answer

        def version(self, model: str, number: int) -> StoredVersion:
            return store.version(model, number)

    mirror_models(store=Slow(), clock=ManualClock(now + TICK))
    assert moves() == [("production", None, 1, BY_HAND), ("production", 1, 2, BY_HAND)]


@pytest.mark.django_db(transaction=True)  # one transaction says a topic once
def test_mirror__news_or_none__open_pages_hear_of_news_only(store: MemoryModelStore, now: datetime) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    heard = newest_id()
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert newest_id() == heard
    store.add_version("llama", FILES)
    mirror_models(store=store, clock=ManualClock(now + 2 * TICK))
    assert set(LiveEvent.objects.filter(id__gt=heard).values_list("topic", flat=True)) == {"models"}


def test_mirror__many_models_without_news__queries_do_not_grow(
    store: MemoryModelStore, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        store.add_model(f"model-{number}")
        store.add_version(f"model-{number}", FILES)
        store.set_alias(f"model-{number}", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    with django_assert_max_num_queries(10):
        assert mirror_models(store=store, clock=ManualClock(now + TICK)).models == 31


@pytest.mark.parametrize("models", [1, 50])
def test_mirror__quiet_pass__writes_as_many_rows_for_fifty_models_as_for_one(
    memory_store: MemoryModelStore, now: datetime, models: int
) -> None:
    for number in range(models):
        memory_store.add_model(f"model-{number}")
        memory_store.add_version(f"model-{number}", FILES)
    for ticks in (0, 1):
        mirror_models(store=memory_store, clock=ManualClock(now + ticks * TICK))
    with rows_written() as counts:
        mirror_models(store=memory_store, clock=ManualClock(now + 2 * TICK))
    assert counts == [1, 1]  # when the models were read, and that the pass came to its end
    assert set(synced().values()) == {now + 2 * TICK}


def test_mirror__many_new_versions__written_together(
    store: MemoryModelStore, now: datetime, django_assert_max_num_queries: Any
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    for _ in range(40):
        store.add_version("llama", FILES)
    with django_assert_max_num_queries(30):
        assert mirror_models(store=store, clock=ManualClock(now + TICK)).new_versions == 40


def test_mirror__one_version_is_odd__the_others_of_its_model_arrive_and_the_model_says_so(
    store: MemoryModelStore, now: datetime
) -> None:
    store.add_version("llama", FILES, created_at=1e30)
    store.add_version("llama", FILES)
    assert mirror_models(store=store, clock=ManualClock(now)).failed == 1
    assert set(Version.objects.values_list("number", flat=True)) == {1, 2, 4}
    assert ItemTrouble.objects.get(pass_name=MODELS, item="llama").error.startswith(
        "Version 3: creation_timestamp"
    )
    assert not MirrorState.objects.get().is_down


def test_mirror__model_cannot_be_read__it_was_not_seen_and_the_others_were(
    store: MemoryModelStore, now: datetime
) -> None:
    store.add_model("bert")
    mirror_models(store=store, clock=ManualClock(now))
    store.add_version("bert", FILES, status="")
    mirror_models(store=store, clock=ManualClock(now + TICK))
    assert synced() == {"llama": now + TICK, "bert": now}


def test_mirror__store_goes_away_midway__models_it_came_to_are_newer_than_the_others(now: datetime) -> None:
    class Dying(MemoryModelStore):
        dies = False

        def versions(self, model: str) -> tuple[StoredVersion, ...]:
            self.down = self.dies and model == "bert"
            return super().versions(model)

    store = Dying()
    for name in ("bert", "llama"):  # the newest change is read first
        store.add_model(name)
        store.add_version(name, FILES)
    mirror_models(store=store, clock=ManualClock(now))
    store.dies = True
    for name in ("bert", "llama"):
        store.add_version(name, FILES)
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).error
    assert synced() == {"llama": now + TICK, "bert": now}
    assert mirror_models(store=store, clock=ManualClock(now + 2 * TICK)).error
    assert synced() == {"llama": now + TICK, "bert": now}
    store.dies = store.down = False
    mirror_models(store=store, clock=ManualClock(now + 3 * TICK))
    assert synced() == dict.fromkeys(("llama", "bert"), now + 3 * TICK)


def test_mirror__model_deleted__was_last_read_before_that(store: MemoryModelStore, now: datetime) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    store.delete_model("llama")
    for ticks in (1, 2):
        mirror_models(store=store, clock=ManualClock(now + ticks * TICK))
    assert synced(gone=True) == {"llama": now}


def test_mirror__list_of_models_is_no_list__said_and_nothing_is_lost(
    store: MemoryModelStore, now: datetime
) -> None:
    mirror_models(store=store, clock=ManualClock(now))
    answer: dict[str, Any] = {}
    store.models = lambda: answer["models"]  # type: ignore[method-assign]
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).error == "KeyError: 'models'"
    assert MirrorState.objects.get().is_down
    assert Model.objects.get().gone_at is None


@pytest.fixture
def name() -> str:
    return f"mirror-{uuid.uuid4().hex[:8]}"


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow__version_alias_and_lineage_arrive(
    mlflow_store: MlflowModelStore, trainer: Trainer, name: str, now: datetime
) -> None:
    trainer.add_model(name, "routes tickets")
    trainer.add_version(
        name,
        FILES,
        params={"lr": "1e-3"},
        metrics={"accuracy": 0.84},
        dataset=("tickets", "77be"),
        run_name="ft",
    )
    trainer.set_alias(name, "production", 1)
    assert mirror_models(store=mlflow_store, clock=ManualClock(now)).error == ""
    version = Version.objects.get(model__name=name)
    assert (version.run_name, version.params, version.metrics, version.status) == (
        "ft",
        {"lr": "1e-3"},
        {"accuracy": 0.84},
        "READY",
    )
    assert version.logged_model_id == trainer.logged_model_of(name, 1)
    assert moves(name) == [("production", None, 1, BY_HAND)]


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow_alias_moved_and_version_deleted__seen_on_the_next_pass(
    mlflow_store: MlflowModelStore, trainer: Trainer, name: str, now: datetime
) -> None:
    trainer.add_model(name)
    for _ in range(3):
        trainer.add_version(name, FILES)
    trainer.set_alias(name, "production", 1)
    mirror_models(store=mlflow_store, clock=ManualClock(now))
    trainer.set_alias(name, "production", 2)
    trainer.delete_version(name, 3)
    mirror_models(store=mlflow_store, clock=ManualClock(now + TICK))
    gone = Version.objects.filter(model__name=name, gone_at=now + TICK).values_list("number", flat=True)
    assert (list(gone), moves(name)[-1]) == ([3], ("production", 1, 2, BY_HAND))


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow_with_odd_names_and_values__what_can_be_kept_is_and_the_rest_says_why(
    mlflow_store: MlflowModelStore, trainer: Trainer, name: str, now: datetime
) -> None:
    """All of this is what MLflow itself accepts."""
    kept = [
        name + end
        for end in (
            *(
                " it's",
                ' "so"',
                ' it\'s "so"',
                " q'--\"",
                " 100% _x_",
                " back\\slash",
                " end\\",
                "; -- x",
                " модель 😀",
            ),
            "x" * (256 - len(name)),
        )
    ]
    refused = [name + end for end in ("\x00nul", "\u202eturned", "\nline", "y" * (300 - len(name)))]
    for model in (*kept, *refused):
        trainer.add_model(model, "zero \x00 byte")
        trainer.register(model, "s3://bucket/weights")
    metrics = {"endless": "Infinity", "fine": 0.5}
    trainer.add_model(name)
    trainer.add_version(name, FILES, metrics=metrics, run_name="n\x00ame")  # type: ignore[arg-type]
    try:
        mirror_models(store=mlflow_store, clock=ManualClock(now))
    finally:
        for model in (*kept, *refused):
            trainer.delete_model(model)
    versions = Version.objects.filter(model__name__startswith=name).exclude(details_at=None)
    assert set(versions.values_list("model__name", flat=True)) == {*kept, name}
    assert set(versions.values_list("model__description", flat=True)) == {"zero \ufffd byte", ""}
    plain = versions.get(model__name=name)
    assert (plain.run_name, plain.metrics["fine"]) == ("n\ufffdame", 0.5)
    words = [trouble.error for trouble in ItemTrouble.objects.filter(label__startswith=name)]
    assert len(words) == len(refused)
    assert all("name" in said and "Rename it in MLflow." in said for said in words)
    assert not MirrorState.objects.get().is_down


@pytest.mark.needs("mlflow")
def test_mirror__real_mlflow_killed__clear_message_and_nothing_changes(
    mlflow_server: RunningMlflow, trainer: Trainer, name: str, now: datetime
) -> None:
    trainer.add_model(name)
    trainer.add_version(name, FILES)
    doomed = mlflow_server.sibling()
    http = MlflowHttp(doomed.url)
    try:
        doomed.start()
        store = MlflowModelStore(http)
        assert mirror_models(store=store, clock=ManualClock(now)).error == ""
        before = list(Model.objects.values()) + list(Version.objects.values())
        doomed.kill()
        report = mirror_models(store=store, clock=ManualClock(now + TICK))
    finally:
        doomed.kill()
        http.close()
    assert f"MLflow at {doomed.url} does not answer" in report.error
    assert "HEADGATE_MLFLOW_URL" in report.error
    assert list(Model.objects.values()) + list(Version.objects.values()) == before
    assert MirrorState.objects.get().last_success_at == now
