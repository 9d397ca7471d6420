from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import NotFound, Rejected, Unavailable
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import Alias, AliasMove, Version
from registry.ports import ModelStore, StoredModel
from registry.services.aliases import BY_HAND
from registry.services.mirror import mirror_models
from registry.services.write_back import decision_tags, point_alias, tag_version
from tests.factories.weights import safetensors
from tests.fixtures.mlflow_server import Trainer

pytestmark = pytest.mark.django_db

FILES = {"model.safetensors": safetensors()}
TICK = timedelta(seconds=10)
TAGS = decision_tags(rollout="126", decision="promoted", digest="sha256:00")


@pytest.fixture
def store(memory_store: MemoryModelStore, now: datetime) -> MemoryModelStore:
    """Model llama with v1 in production and v2."""
    memory_store.add_model("llama")
    for _ in range(2):
        memory_store.add_version("llama", FILES)
    memory_store.set_alias("llama", "chat-production", 1)
    mirror_models(store=memory_store, clock=ManualClock(now))
    return memory_store


def promote(store: ModelStore, now: datetime, *, model: str = "llama", number: int = 2) -> AliasMove | None:
    tag_version(store=store, model=model, version_number=number, tags=TAGS)
    return point_alias(
        store=store,
        model=model,
        alias="chat-production",
        version_number=number,
        by="rollout 126",
        why="Every gate passed.",
        now=now,
    )


def roll_back(store: ModelStore, now: datetime, *, model: str = "llama") -> AliasMove | None:
    move = point_alias(
        store=store,
        model=model,
        alias="chat-production",
        version_number=1,
        by="rollout 126",
        why="Quality fell.",
        now=now,
    )
    tags = decision_tags(rollout="126", decision="rolled back")
    tag_version(store=store, model=model, version_number=2, tags=tags)
    return move


def aliases(store: ModelStore, model: str = "llama") -> dict[str, int]:
    return next(dict(m.aliases) for m in store.models() if isinstance(m, StoredModel) and m.name == model)


def history(model: str | None = None) -> list[tuple[int | None, int | None, str]]:
    """With `model` of that one alone: a real MLflow holds those of other tests too."""
    found = AliasMove.objects.filter(moved_at__isnull=False).order_by("id")
    if model is not None:
        found = found.filter(model__name=model)
    return [
        (m.previous.number if m.previous else None, m.version.number if m.version else None, m.by)
        for m in found
    ]


def test_decision_tags__empty_values__left_out() -> None:
    assert decision_tags(rollout="7", decision="rolled back") == {
        "headgate.rollout": "7",
        "headgate.decision": "rolled back",
    }


def test_promotion__first_time__alias_tags_and_history(store: MemoryModelStore, now: datetime) -> None:
    move = promote(store, now + TICK)
    assert move is not None
    assert (move.by, move.why, move.moved_at) == ("rollout 126", "Every gate passed.", now + TICK)
    assert aliases(store) == {"chat-production": 2}
    assert dict(store.version("llama", 2).tags) == TAGS
    assert Alias.objects.get().version.number == 2
    assert Version.objects.get(number=2).tags == TAGS
    assert history()[-1] == (1, 2, "rollout 126")


def test_promotion__again__changes_nothing_and_adds_no_history(
    store: MemoryModelStore, now: datetime
) -> None:
    promote(store, now)
    assert promote(store, now + TICK) is None
    assert len(history()) == 2
    assert not AliasMove.objects.filter(moved_at=None).exists()


def test_promotion__mirror_right_after__takes_it_for_ours(store: MemoryModelStore, now: datetime) -> None:
    promote(store, now)
    assert mirror_models(store=store, clock=ManualClock(now + TICK)).alias_moves == 0


def test_promotion__mirror_sees_the_move_before_we_note_it__one_row_and_ours(now: datetime) -> None:
    class Watched(MemoryModelStore):
        """A store whose mirror runs just after the alias moved."""

        def set_alias(self, model: str, alias: str, number: int) -> None:
            super().set_alias(model, alias, number)
            mirror_models(store=self, clock=ManualClock(now + TICK))

    store = Watched()
    store.add_model("llama")
    for _ in range(2):
        store.add_version("llama", FILES)
    mirror_models(store=store, clock=ManualClock(now))
    move = promote(store, now + TICK)
    assert move is not None
    assert history() == [(None, 2, "rollout 126")]


def test_promotion__store_down__raised_and_retried_to_the_same_end(
    store: MemoryModelStore, now: datetime
) -> None:
    store.down = True
    with pytest.raises(Unavailable):
        promote(store, now)
    assert Alias.objects.get().version.number == 1
    store.down = False
    promote(store, now + TICK)
    assert history()[-1] == (1, 2, "rollout 126")
    assert len(history()) == 2


def test_promotion__answer_lost_after_the_alias_moved__retry_notes_one_move(now: datetime) -> None:
    class Lossy(MemoryModelStore):
        lost = False

        def set_alias(self, model: str, alias: str, number: int) -> None:
            super().set_alias(model, alias, number)
            if not self.lost:
                self.lost = True
                raise Unavailable("The answer was lost.")

    store = Lossy()
    store.add_model("llama")
    for _ in range(2):
        store.add_version("llama", FILES)
    mirror_models(store=store, clock=ManualClock(now))
    with pytest.raises(Unavailable):
        promote(store, now)
    promote(store, now + TICK)
    assert history() == [(None, 2, "rollout 126")]


def test_promotion__refused_by_the_store__no_intent_is_left(store: MemoryModelStore, now: datetime) -> None:
    with pytest.raises(Rejected):
        point_alias(store=store, model="llama", alias="v2", version_number=2, by="x", why="", now=now)
    assert not AliasMove.objects.filter(moved_at=None).exists()


def test_promotion__never_seen_in_the_store__a_later_move_by_hand_is_not_ours(
    store: MemoryModelStore, now: datetime
) -> None:
    store.down = True
    with pytest.raises(Unavailable):
        promote(store, now)  # the tags fail first, so nothing was asked
    store.down = False
    store.set_alias("llama", "chat-production", 2)
    mirror_models(store=store, clock=ManualClock(now + timedelta(hours=1)))
    assert history()[-1] == (1, 2, BY_HAND)


@pytest.mark.parametrize(("model", "number"), [("nobody", 1), ("llama", 9)])
def test_promotion__unknown_model_or_version__not_found(
    store: MemoryModelStore, now: datetime, model: str, number: int
) -> None:
    with pytest.raises(NotFound):
        promote(store, now, model=model, number=number)


def test_rollback__after_promotion__alias_back_and_rejected_version_tagged(
    store: MemoryModelStore, now: datetime
) -> None:
    promote(store, now)
    roll_back(store, now + TICK)
    assert aliases(store) == {"chat-production": 1}
    assert store.version("llama", 2).tags["headgate.decision"] == "rolled back"
    assert history()[-1] == (2, 1, "rollout 126")


def test_rollback__alias_never_moved__only_tags(store: MemoryModelStore, now: datetime) -> None:
    assert roll_back(store, now) is None
    assert (aliases(store), len(history())) == ({"chat-production": 1}, 1)
    assert store.version("llama", 2).tags["headgate.decision"] == "rolled back"


def test_rollback__rejected_version_deleted_meanwhile__alias_still_moves(
    store: MemoryModelStore, now: datetime
) -> None:
    store.delete_version("llama", 2)
    store.delete_alias("llama", "chat-production")
    roll_back(store, now)
    assert aliases(store) == {"chat-production": 1}


def test_promotion__store_down_for_days__one_intent_is_left(store: MemoryModelStore, now: datetime) -> None:
    store.set_version_tags("llama", 2, TAGS)
    store.down = True
    for hour in range(48):
        with pytest.raises(Unavailable):
            point_alias(
                store=store, model="llama", alias="chat-production", version_number=2, by="rollout 126", why="",
                now=now + timedelta(hours=hour),
            )  # fmt: skip
    assert AliasMove.objects.filter(moved_at=None).count() == 1


def test_tag_version__deleted_in_the_store__says_so(store: MemoryModelStore) -> None:
    store.delete_version("llama", 2)
    assert tag_version(store=store, model="llama", version_number=2, tags=TAGS) is False


@pytest.mark.needs("mlflow")
def test_write_back__real_mlflow_promoted_twice_and_rolled_back__alias_tags_and_history_true(
    mlflow_store: MlflowModelStore, trainer: Trainer, now: datetime
) -> None:
    name = f"write-{uuid.uuid4().hex[:8]}"
    trainer.add_model(name)
    for _ in range(2):
        trainer.add_version(name, FILES)
    trainer.set_alias(name, "chat-production", 1)
    mirror_models(store=mlflow_store, clock=ManualClock(now))

    for _ in range(2):
        promote(mlflow_store, now, model=name)
    assert aliases(mlflow_store, name) == {"chat-production": 2}
    assert dict(mlflow_store.version(name, 2).tags) == TAGS
    assert history(name) == [(None, 1, BY_HAND), (1, 2, "rollout 126")]

    for _ in range(2):
        roll_back(mlflow_store, now + TICK, model=name)
    assert aliases(mlflow_store, name) == {"chat-production": 1}
    assert mlflow_store.version(name, 2).tags["headgate.decision"] == "rolled back"
    mirror_models(store=mlflow_store, clock=ManualClock(now + 2 * TICK))
    assert history(name)[1:] == [(1, 2, "rollout 126"), (2, 1, "rollout 126")]
