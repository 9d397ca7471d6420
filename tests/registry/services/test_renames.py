"""A renamed model keeps its row; where it would be a guess, nothing is guessed and it is said."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import Alias, AliasMove, Model, Version
from registry.ports import StoredVersion
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import Trainer

pytestmark = pytest.mark.django_db

FILES = {"model.safetensors": safetensors()}
TICK = timedelta(seconds=10)


class Store(MemoryModelStore):
    """One whose versions of some models cannot be read for a while."""

    unreadable: frozenset[str] = frozenset()

    def versions(self, model: str) -> tuple[StoredVersion, ...]:
        if model in self.unreadable:
            raise Unavailable("MLflow failed (500).")
        return super().versions(model)

    def copy_model(self, name: str, new_name: str) -> None:
        """What a database that was restored beside itself has: all the same under two names."""
        self._models[new_name] = replace(self._models[name], name=new_name)
        self._versions[new_name] = {n: replace(v, model=new_name) for n, v in self._versions[name].items()}
        self._last_number[new_name] = self._last_number[name]
        for number in self._versions[name]:
            self._files[new_name, number] = self._files[name, number]


@pytest.fixture
def store(now: datetime) -> Store:
    """Model llama with two versions, the second in production, mirrored."""
    made = Store()
    made.add_model("llama")
    for number in (1, 2):
        made.add_version("llama", FILES, run_id=f"run-{number}")
    made.set_alias("llama", "production", 2)
    mirror_models(store=made, clock=ManualClock(now))
    return made


@pytest.fixture
def row(store: Store) -> Model:
    return Model.objects.get()


def look(store: Store, now: datetime) -> None:
    assert mirror_models(store=store, clock=ManualClock(now)).error == ""


def test_renamed__versions_aliases_and_history_stay_with_the_row(
    store: Store, row: Model, now: datetime
) -> None:
    before = list(Version.objects.values_list("pk", flat=True))
    store.rename_model("llama", "llama-chat")
    look(store, now + TICK)
    found = Model.objects.get()
    assert (found.pk, found.name, found.former_name, found.renamed_at) == (
        row.pk,
        "llama-chat",
        "llama",
        now + TICK,
    )
    assert found.gone_at is None
    assert list(Version.objects.filter(gone_at=None).values_list("pk", flat=True)) == before
    assert Alias.objects.get().version.number == 2
    assert AliasMove.objects.count() == 1


def test_renamed__audited_once(store: Store, row: Model, now: datetime) -> None:
    store.rename_model("llama", "llama-chat")
    for pause in range(1, 4):
        look(store, now + pause * TICK)
    event = AuditEvent.objects.get(action="model.renamed")
    assert (event.before, event.after) == ({"name": "llama"}, {"name": "llama-chat"})


def test_renamed__and_a_new_version_at_once__is_still_the_same_model(
    store: Store, row: Model, now: datetime
) -> None:
    store.rename_model("llama", "llama-chat")
    store.add_version("llama-chat", FILES)
    store.delete_version("llama-chat", 1)
    look(store, now + TICK)
    assert Model.objects.get().pk == row.pk
    assert list(Version.objects.filter(gone_at=None).values_list("number", flat=True)) == [3, 2]


def test_renamed__old_name_taken_by_another_model__both_are_right(
    store: Store, row: Model, now: datetime
) -> None:
    store.rename_model("llama", "llama-chat")
    store.add_model("llama")
    store.add_version("llama", FILES)
    look(store, now + TICK)
    assert Model.objects.get(name="llama-chat").pk == row.pk
    assert Model.objects.get(name="llama").pk != row.pk
    assert Version.objects.filter(model=row, gone_at=None).count() == 2


def test_renamed__two_models_swap_their_names__each_keeps_its_row(
    store: Store, row: Model, now: datetime
) -> None:
    store.add_model("bert")
    store.add_version("bert", FILES)
    look(store, now + TICK)
    bert = Model.objects.get(name="bert")
    store.rename_model("llama", "tmp")
    store.rename_model("bert", "llama")
    store.rename_model("tmp", "bert")
    look(store, now + 2 * TICK)
    assert dict(Model.objects.values_list("pk", "name")) == {row.pk: "bert", bert.pk: "llama"}
    assert Model.objects.filter(gone_at=None).count() == 2


def test_renamed__back_again__is_the_same_row(store: Store, row: Model, now: datetime) -> None:
    store.rename_model("llama", "llama-chat")
    look(store, now + TICK)
    store.rename_model("llama-chat", "llama")
    look(store, now + 2 * TICK)
    assert (Model.objects.get().pk, Model.objects.get().name) == (row.pk, "llama")


def test_renamed__row_from_before_the_time_of_creation_was_kept__judged_by_its_versions(
    store: Store, row: Model, now: datetime
) -> None:
    Model.objects.update(stored_created_at=None)
    store.rename_model("llama", "llama-chat")
    look(store, now + TICK)
    assert Model.objects.get().pk == row.pk


def test_renamed__new_name_cannot_be_read_yet__not_taken_for_deleted(
    store: Store, row: Model, now: datetime
) -> None:
    store.rename_model("llama", "llama-chat")
    store.unreadable = frozenset({"llama-chat"})
    look(store, now + TICK)
    assert Model.objects.get().gone_at is None
    assert ItemTrouble.objects.get().item == "llama-chat"
    store.unreadable = frozenset()
    look(store, now + 3 * TICK)
    assert (Model.objects.get().pk, Model.objects.get().name) == (row.pk, "llama-chat")
    assert not ItemTrouble.objects.exists()


def test_renamed__two_models_fit__nothing_is_guessed_and_it_says_so(
    store: Store, row: Model, now: datetime
) -> None:
    store.rename_model("llama", "llama-a")
    store.copy_model("llama-a", "llama-b")
    look(store, now + TICK)
    old = Model.objects.get(pk=row.pk)
    assert (old.name, old.gone_at) == ("llama", now + TICK)
    assert "MLflow's 'llama-a' and 'llama-b' fit 'llama', and nothing tells which is which" in old.gone_why
    assert Model.objects.filter(name__in=("llama-a", "llama-b"), gone_at=None).count() == 2
    look(store, now + 2 * TICK)
    assert Model.objects.get(pk=row.pk).gone_why == old.gone_why


@pytest.mark.parametrize(
    "change", [{"source": "s3://other"}, {"run_id": "another"}, {"created_at": 1_700_000_999.0}]
)
def test_other_model__one_common_version_differs__is_another_model(
    store: Store, row: Model, now: datetime, change: dict[str, object]
) -> None:
    store.rename_model("llama", "llama-chat")
    store.edit_version("llama-chat", 1, **change)
    look(store, now + TICK)
    assert Model.objects.get(pk=row.pk).gone_at == now + TICK
    assert Model.objects.get(name="llama-chat").pk != row.pk


def test_deleted_and_made_again_under_another_name__is_another_model(
    store: Store, row: Model, now: datetime
) -> None:
    store.delete_model("llama")
    store.add_model("llama-chat")
    store.add_version("llama-chat", FILES, run_id="run-1")
    look(store, now + TICK)
    assert Model.objects.get(pk=row.pk).gone_at == now + TICK
    assert Model.objects.get(name="llama-chat").pk != row.pk


@pytest.mark.needs("mlflow")
def test_renamed__real_mlflow__same_row_with_its_versions_and_alias(
    mlflow_store: MlflowModelStore, trainer: Trainer, now: datetime
) -> None:
    name = f"rename-{uuid.uuid4().hex[:8]}"
    trainer.add_model(name)
    for _ in range(2):
        trainer.add_version(name, FILES)
    trainer.set_alias(name, "production", 2)
    mirror_models(store=mlflow_store, clock=ManualClock(now))
    row = Model.objects.get(name=name)
    trainer.rename_model(name, name + "-new")
    report = mirror_models(store=mlflow_store, clock=ManualClock(now + TICK))
    found = Model.objects.get(name=name + "-new")
    assert (report.error, report.failed, found.pk, found.former_name, found.gone_at) == (
        "",
        0,
        row.pk,
        name,
        None,
    )
    assert list(found.versions.filter(gone_at=None).values_list("number", flat=True)) == [2, 1]
    assert Alias.objects.get(model=found).version.number == 2
    assert not Model.objects.filter(name=name).exists()
