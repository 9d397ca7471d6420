"""MLflow is kept true to what serves: for ever, whoever changed it, and beside the loop."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import Alias, AliasMove, Model, Version
from registry.ports import ModelStore, StoredModel
from registry.services.manifests import register_manifest
from registry.services.materialise import materialise_version
from registry.services.mirror import mirror_models
from rollouts.domain.lifecycle.effects import WriteBack
from rollouts.models import Effect, Endpoint, HistoryEvent
from rollouts.selectors import WRITE_BACKS
from rollouts.services.errands.write_backs import keep_mlflow_true
from rollouts.services.writing import add_effects
from tests import factories
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import RunningMlflow, Trainer
from tests.rollouts.memory_world import ERRORS, START, MemoryWorld

pytestmark = pytest.mark.django_db

FILES = {"model.safetensors": safetensors()}
ALIAS = "chat-production"


class House:
    """An endpoint `chat` that serves version 1 of a model of two versions, and the store they are in."""

    def __init__(self, store: ModelStore, model: str, *, now: datetime = START) -> None:
        self.store, self.model = store, model
        self.clock = ManualClock(now)
        self.look()
        self.row = Model.objects.get(name=model)
        self.endpoint = factories.endpoint("chat", of=self.row, now=now)
        self.variants = {1: self.endpoint.stable, 2: factories.variant(self.endpoint, 2, now=now)}
        Alias.objects.all().delete()

    def look(self) -> None:
        """The mirror reads the store."""
        mirror_models(store=self.store, clock=self.clock, only=[self.model])

    def keep(self, seconds: float = 5.0) -> None:
        """The pass, a moment later. The loop looks at every endpoint once a second."""
        self.clock.advance(seconds)
        Endpoint.objects.update(reconciled_at=self.clock.now())
        keep_mlflow_true(store=self.store, clock=self.clock)

    def decide(self, number: int) -> None:
        """A rollout made this version the stable one: what a decision writes."""
        endpoint = Endpoint.objects.get(pk=self.endpoint.pk)
        variant = self.variants[number]
        assert variant is not None
        endpoint.stable = variant
        endpoint.save(update_fields=["stable"])
        effects = (WriteBack(variant.name, variant.name, "promoted"),)
        add_effects(endpoint=endpoint, rollout=None, effects=effects, now=self.clock.now())

    def alias(self) -> int | None:
        """Where the alias points in the store itself."""
        found = next(m for m in self.store.models() if isinstance(m, StoredModel) and m.name == self.model)
        return found.aliases.get(ALIAS)

    def move_by_hand(self, number: int) -> None:
        self.store.set_alias(self.model, ALIAS, number)
        self.look()


@pytest.fixture
def store() -> MemoryModelStore:
    made = MemoryModelStore(start=START.timestamp() - 1000)
    made.add_model("llama")
    for _ in range(2):
        made.add_version("llama", FILES)
    return made


@pytest.fixture
def house(store: MemoryModelStore) -> House:
    made = House(store, "llama")
    made.decide(1)
    made.keep()
    return made


def told() -> list[str]:
    return list(HistoryEvent.objects.filter(kind="alias-put-back").values_list("title", flat=True))


def test_decision__alias_and_tags_are_written_and_the_effect_is_done(house: House) -> None:
    house.decide(2)
    house.keep()
    assert house.alias() == 2
    assert house.store.version("llama", 2).tags["headgate.decision"] == "serving"
    assert not Effect.objects.filter(state="pending").exists()


def test_loop__has_not_looked_for_longer__mlflow_is_told_nothing(house: House) -> None:
    """It may be a database that was put back from a copy: what serves is known once the loop has looked."""
    house.decide(2)
    house.clock.advance(3600)
    keep_mlflow_true(store=house.store, clock=house.clock)
    assert house.alias() == 1
    house.keep()
    assert house.alias() == 2


def test_nothing_differs__nothing_is_asked_and_queries_are_few(house: House) -> None:
    house.store = MemoryModelStore()  # it would answer that nothing is there
    house.clock.advance(5)
    with CaptureQueriesContext(connection) as queries:
        report = keep_mlflow_true(store=house.store, clock=house.clock)
    assert (report.done, report.failed) == (1, 0)
    assert len(queries) <= 9


def test_endpoint_that_never_served__no_alias(house: House) -> None:
    Endpoint.objects.update(desired_shares={})
    house.move_by_hand(2)
    house.keep()
    assert house.alias() == 2


def test_alias_moved_by_hand__put_back_and_told_once(house: House) -> None:
    moves = AliasMove.objects.count()
    audited = AuditEvent.objects.filter(action="alias.moved").count()
    house.move_by_hand(2)
    for _ in range(5):
        house.keep()
        house.look()
    assert house.alias() == 1
    assert told() == ["The alias chat-production pointed to v2 in MLflow and was put back"]
    assert AliasMove.objects.count() == moves + 2
    assert AuditEvent.objects.filter(action="alias.moved").count() == audited + 1


def test_alias_removed_by_hand__written_again(house: House, store: MemoryModelStore) -> None:
    store.delete_alias("llama", ALIAS)
    house.look()
    house.keep()
    assert house.alias() == 1


def test_tags_changed_by_hand__put_back(house: House, store: MemoryModelStore) -> None:
    store.set_version_tags("llama", 1, {"headgate.decision": "rolled-back", "owner": "ana"})
    house.look()
    house.keep()
    assert store.version("llama", 1).tags == {
        **store.version("llama", 1).tags,
        "headgate.decision": "serving",
        "owner": "ana",
    }


def test_store_down_for_two_days__ends_right_with_one_line_of_history(
    house: House, store: MemoryModelStore
) -> None:
    moves = AliasMove.objects.filter(moved_at__isnull=False).count()
    house.decide(2)
    store.down = True
    for _ in range(100):
        house.keep(1800)
    assert Effect.objects.filter(state="pending").count() == 1
    assert not ItemTrouble.objects.exists()
    store.down = False
    house.keep()
    assert house.alias() == 2
    assert AliasMove.objects.filter(moved_at__isnull=False).count() == moves + 1
    assert not AliasMove.objects.filter(moved_at=None).exists()


def test_given_up_by_an_earlier_release__mended(house: House) -> None:
    house.decide(2)
    Effect.objects.update(state="failed")
    house.keep()
    assert house.alias() == 2


def test_two_endpoints_with_one_alias__refused_at_both_and_nobody_fights(house: House) -> None:
    other = factories.endpoint("talk", of=house.row, now=START)
    Endpoint.objects.filter(pk=other.pk).update(alias=ALIAS, stable=house.variants[2])
    moves = AliasMove.objects.count()
    for _ in range(5):
        house.keep(60)
    errors = list(ItemTrouble.objects.filter(pass_name=WRITE_BACKS).values_list("error", flat=True))
    assert len(errors) == 2
    assert all("both keep the alias chat-production of llama" in error for error in errors)
    assert AliasMove.objects.count() == moves


def test_somebody_else_moves_it_again_and_again__put_back_ever_more_slowly(house: House) -> None:
    for _ in range(360):  # an hour, another machine every ten seconds
        house.move_by_hand(2)
        house.keep(10)
    assert 4 <= len(told()) <= 10
    assert "Somebody else moves the alias too" in ItemTrouble.objects.get(pass_name=WRITE_BACKS).error


def test_serving_version_deleted__nothing_fails_and_the_decision_says_so(
    house: House, store: MemoryModelStore
) -> None:
    house.decide(2)
    store.delete_version("llama", 2)
    house.look()
    house.keep()
    effect = Effect.objects.order_by("-pk")[0]
    assert (effect.state, effect.problem) == (
        "failed",
        "llama v2 was deleted in MLflow: no alias can point to it.",
    )
    assert not ItemTrouble.objects.exists()
    house.keep()


def test_model_renamed__alias_goes_on_under_the_new_name(house: House, store: MemoryModelStore) -> None:
    store.rename_model("llama", "llama-chat")
    house.model = "llama-chat"
    house.look()
    house.decide(2)
    house.keep()
    assert house.alias() == 2
    assert Endpoint.objects.get().model.name == "llama-chat"


@pytest.mark.story
def test_loop__a_whole_rollout__never_asks_the_store_to_write(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.behave(2)
    w.run_to("progressing")
    w.calls.names.clear()
    for _ in range(60):
        w.clock.advance(1)
        w.sync_engines()
        w.use()
        w.reconcile()
    assert w.rollout.phase == "succeeded"
    assert not [name for name in w.calls.names if name.startswith("store.")]


@pytest.mark.story
def test_baseline_deleted_in_mlflow__a_rollback_to_it_works_from_the_files(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.behave(2)
    w.run_to("progressing")
    w.store.delete_version("triage", 1)
    mirror_models(store=w.store, clock=w.clock)
    w.store.down = True
    w.roll_back()
    w.run_to("rolled-back", limit=20)
    assert w.shares() == {1: 10_000}
    assert Version.objects.get(number=1).gone_at is not None
    assert w.lost == 0


# --- the real MLflow ------------------------------------------------------------------------------------------------


@pytest.fixture
def real(mlflow_store: MlflowModelStore, trainer: Trainer) -> House:
    name = f"keep-{uuid.uuid4().hex[:8]}"
    trainer.add_model(name)
    for _ in range(2):
        trainer.add_version(name, FILES)
    house = House(mlflow_store, name)
    house.decide(1)
    house.keep()
    assert house.alias() == 1
    return house


@pytest.mark.needs("mlflow")
def test_real_mlflow__down_for_longer_than_any_retry__alias_ends_right(
    real: House,
    mlflow_server: RunningMlflow,
) -> None:
    doomed = mlflow_server.sibling()
    http = MlflowHttp(doomed.url)
    real.store = MlflowModelStore(http)
    try:
        real.decide(2)
        for _ in range(12):
            real.keep(600)  # two hours without an answer
        assert Effect.objects.filter(state="pending").count() == 1
        doomed.start()
        real.keep()
        assert real.alias() == 2
        assert real.store.version(real.model, 2).tags["headgate.decision"] == "serving"
    finally:
        doomed.kill()
        http.close()
    assert not Effect.objects.filter(state="pending").exists()


@pytest.mark.needs("mlflow")
def test_real_mlflow__alias_moved_by_hand__put_back_and_both_moves_in_the_history(
    real: House,
    trainer: Trainer,
) -> None:
    trainer.set_alias(real.model, ALIAS, 2)
    real.look()
    real.keep()
    assert real.alias() == 1
    real.look()
    moves = AliasMove.objects.filter(model=real.row).order_by("pk").values_list("by", "version__number")
    assert list(moves) == [("endpoint chat", 1), ("by hand in MLflow", 2), ("endpoint chat", 1)]
    assert len(told()) == 1


@pytest.mark.needs("mlflow")
def test_real_mlflow__renamed_between_two_decisions__goes_on(real: House, trainer: Trainer) -> None:
    trainer.rename_model(real.model, real.model + "-new")
    real.model += "-new"
    real.look()
    real.decide(2)
    real.keep()
    assert real.alias() == 2
    assert Endpoint.objects.get().model_id == real.row.pk


@pytest.mark.needs("mlflow")
def test_real_mlflow__serving_version_deleted__serves_on_from_its_files(
    real: House,
    trainer: Trainer,
    tmp_path: Path,
) -> None:
    serving = Version.objects.get(model=real.row, number=1)
    models = tmp_path / "models"
    register_manifest(version_id=serving.pk, store=real.store, models_dir=models, now=real.clock.now())
    trainer.delete_version(real.model, 1)
    real.clock.advance(10)
    real.look()
    real.keep()
    serving.refresh_from_db()
    assert serving.gone_at == real.clock.now() - timedelta(seconds=5)
    assert not ItemTrouble.objects.filter(pass_name=WRITE_BACKS).exists()
    folder, manifest = materialise_version(
        version_id=serving.pk, store=MemoryModelStore(), models_dir=models, now=real.clock.now()
    )
    assert [entry.path for entry in manifest.entries] == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == safetensors()
