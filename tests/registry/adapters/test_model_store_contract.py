"""The contract of ModelStore, on MLflow and on the store in memory alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from controlplane.kernel.errors import NotFound, Rejected, Unavailable
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.ports import ModelStore, StoredDataset, StoredModel, StoredVersion
from tests.fixtures.mlflow_server import Trainer

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 40, "tok en/vocab ü.json": b"[]"}


class Stage(Protocol):
    """A store, and the hands of the people who fill it."""

    store: ModelStore

    def add_model(self, name: str, description: str = "") -> None: ...
    def add_version(self, model: str, files: Mapping[str, bytes], **details: Any) -> int: ...
    def overwrite_file(self, model: str, number: int, path: str, content: bytes) -> None: ...
    def describe_version(self, model: str, number: int, description: str) -> None: ...
    def delete_version(self, model: str, number: int) -> None: ...
    def delete_model(self, name: str) -> None: ...
    def rename_model(self, name: str, new_name: str) -> None: ...


class MemoryStage:
    """The same hands for the store in memory."""

    def __init__(self) -> None:
        self.memory = MemoryModelStore()
        self.store: ModelStore = self.memory

    def add_model(self, name: str, description: str = "") -> None:
        self.memory.add_model(name, description=description)

    def add_version(self, model: str, files: Mapping[str, bytes], **details: Any) -> int:
        dataset = details.pop("dataset", None)
        finish = details.pop("finish", True)
        details.setdefault("run_name", "train")
        if dataset:
            details["datasets"] = (StoredDataset(dataset[0], dataset[1], "training"),)
        status = "READY" if finish else "PENDING"
        return self.memory.add_version(model, files, status=status, **details).number

    def overwrite_file(self, model: str, number: int, path: str, content: bytes) -> None:
        self.memory.overwrite_file(model, number, path, content)

    def describe_version(self, model: str, number: int, description: str) -> None:
        self.memory.edit_version(model, number, description=description)

    def delete_version(self, model: str, number: int) -> None:
        self.memory.delete_version(model, number)

    def delete_model(self, name: str) -> None:
        self.memory.delete_model(name)

    def rename_model(self, name: str, new_name: str) -> None:
        self.memory.rename_model(name, new_name)


class MlflowStage(Trainer):
    """The same hands for a real MLflow."""

    def __init__(self, url: str, store: ModelStore) -> None:
        super().__init__(url)
        self.store = store

    def add_version(self, model: str, files: Mapping[str, bytes], **details: Any) -> int:
        return super().add_version(model, files, **details)


@pytest.fixture(params=["memory", pytest.param("mlflow", marks=pytest.mark.needs("mlflow"))])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    server = request.getfixturevalue("mlflow_server")
    real = MlflowStage(server.url, request.getfixturevalue("mlflow_store"))
    yield real
    real.close()


@pytest.fixture
def name() -> str:
    return f"support-{uuid.uuid4().hex[:8]}"


def stored(stage: Stage, name: str) -> StoredModel:
    return next(m for m in stage.store.models() if isinstance(m, StoredModel) and m.name == name)


def versions(stage: Stage, name: str) -> list[StoredVersion]:
    """The versions, all of which could be read."""
    return [v for v in stage.store.versions(name) if isinstance(v, StoredVersion)]


def test_models__two_registered__newest_change_first(stage: Stage, name: str) -> None:
    stage.add_model(name + "-old", "first")
    stage.add_model(name + "-new", "second")
    stage.add_version(name + "-old", FILES)
    names = [model.name for model in stage.store.models() if model.name.startswith(name)]
    assert names == [name + "-old", name + "-new"]


def test_models__description__comes_along(stage: Stage, name: str) -> None:
    stage.add_model(name, "routes tickets")
    assert stored(stage, name).description == "routes tickets"


def test_models__alias_set__shown_without_a_change_of_time(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    before = stored(stage, name)
    stage.store.set_alias(name, "production", number)
    after = stored(stage, name)
    assert (dict(after.aliases), after.updated_at) == ({"production": number}, before.updated_at)


def test_models__version_deleted__its_alias_is_gone_too(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.store.set_alias(name, "production", number)
    stage.delete_version(name, number)
    assert dict(stored(stage, name).aliases) == {}


def test_models__renamed__all_but_its_name_and_time_of_change_stays(stage: Stage, name: str) -> None:
    stage.add_model(name, "routes tickets")
    number = stage.add_version(name, FILES)
    stage.store.set_alias(name, "production", number)
    before, version = stored(stage, name), versions(stage, name)[0]
    stage.rename_model(name, name + "-new")
    after, (moved,) = stored(stage, name + "-new"), versions(stage, name + "-new")
    assert before.created_at > 0
    assert (after.created_at, dict(after.aliases)) == (before.created_at, {"production": number})
    assert (moved.number, moved.created_at, moved.source, moved.run_id) == (
        version.number, version.created_at, version.source, version.run_id,
    )  # fmt: skip
    with pytest.raises(NotFound):
        stage.store.versions(name)


def test_versions__several__newest_first_without_details(stage: Stage, name: str) -> None:
    stage.add_model(name)
    for accuracy in (0.7, 0.8):
        stage.add_version(name, FILES, metrics={"accuracy": accuracy}, params={"lr": "1e-3"})
    found = versions(stage, name)
    assert [(v.number, dict(v.metrics), dict(v.params), v.run_name) for v in found] == [
        (2, {}, {}, ""),
        (1, {}, {}, ""),
    ]


def test_versions__one_deleted__the_others_stay_and_no_number_comes_twice(stage: Stage, name: str) -> None:
    stage.add_model(name)
    for _ in range(2):
        stage.add_version(name, FILES)
    stage.delete_version(name, 2)
    stage.add_version(name, FILES)
    assert [version.number for version in versions(stage, name)] == [3, 1]


def test_versions__model_without_any__none(stage: Stage, name: str) -> None:
    stage.add_model(name)
    assert stage.store.versions(name) == ()


def test_versions__unknown_model__not_found(stage: Stage, name: str) -> None:
    with pytest.raises(NotFound, match=name):
        stage.store.versions(name)


def test_versions__model_deleted__not_found(stage: Stage, name: str) -> None:
    stage.add_model(name)
    stage.add_version(name, FILES)
    stage.delete_model(name)
    with pytest.raises(NotFound, match=name):
        stage.store.versions(name)


def test_version__with_run_and_logged_model__whole(stage: Stage, name: str) -> None:
    stage.add_model(name)
    stage.add_version(
        name,
        FILES,
        params={"lr": "1e-3"},
        metrics={"accuracy": 0.84},
        dataset=("tickets", "77be10"),
        tags={"team": "support"},
        run_name="support-ft",
    )
    found = stage.store.version(name, 1)
    assert (dict(found.params), dict(found.metrics), dict(found.tags), found.run_name, found.status) == (
        {"lr": "1e-3"},
        {"accuracy": 0.84},
        {"team": "support"},
        "support-ft",
        "READY",
    )
    assert found.datasets == (StoredDataset("tickets", "77be10", "training"),)


def test_version__files_still_being_written__pending(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES, finish=False)
    assert stage.store.version(name, number).status == "PENDING"


def test_version__description_edited__comes_along_and_the_models_time_stays(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    before = stored(stage, name).updated_at
    stage.describe_version(name, number, "the better one")
    assert stage.store.version(name, number).description == "the better one"
    assert stored(stage, name).updated_at == before


def test_version__unknown_number__not_found(stage: Stage, name: str) -> None:
    stage.add_model(name)
    with pytest.raises(NotFound, match="version=7"):
        stage.store.version(name, 7)


def test_download__files_in_folders__all_arrive_as_they_were(stage: Stage, name: str, tmp_path: Path) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.store.download(stage.store.version(name, number), tmp_path)
    arrived = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert arrived == FILES


def test_download__file_overwritten__gives_what_the_store_holds_now(
    stage: Stage, name: str, tmp_path: Path
) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.overwrite_file(name, number, "model.safetensors", b"other")
    stage.store.download(stage.store.version(name, number), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"other"


def test_download__no_files__not_found(stage: Stage, name: str, tmp_path: Path) -> None:
    stage.add_model(name)
    number = stage.add_version(name, {})
    with pytest.raises(NotFound, match="no files"):
        stage.store.download(stage.store.version(name, number), tmp_path)


@pytest.mark.parametrize("path", ["config.json", "tok en/vocab ü.json"])
def test_read_file__one_of_several__comes_alone_as_it_was(stage: Stage, name: str, path: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    found = stage.store.read_file(name, number, path, size=2, seconds=20)
    assert found == FILES[path]


def test_read_file__overwritten_with_more__is_not_taken(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.overwrite_file(name, number, "config.json", b"{    }")
    with pytest.raises(Unavailable, match="bytes"):
        stage.store.read_file(name, number, "config.json", size=2, seconds=20)


def test_read_file__not_there__is_an_error(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    with pytest.raises((NotFound, Unavailable)):
        stage.store.read_file(name, number, "other.json", size=2, seconds=20)


def test_read_file__unknown_version__not_found(stage: Stage, name: str) -> None:
    stage.add_model(name)
    with pytest.raises(NotFound):
        stage.store.read_file(name, 7, "config.json", size=2, seconds=20)


def test_set_alias__twice__points_there(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.store.set_alias(name, "production", number)
    stage.store.set_alias(name, "production", number)
    assert dict(stored(stage, name).aliases) == {"production": number}


def test_set_alias__unknown_version__not_found_and_the_alias_stays(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.store.set_alias(name, "production", number)
    with pytest.raises(NotFound):
        stage.store.set_alias(name, "production", 9)
    assert dict(stored(stage, name).aliases) == {"production": number}


@pytest.mark.parametrize("alias", ["latest", "v3"])
def test_set_alias__reserved_name__rejected(stage: Stage, name: str, alias: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    with pytest.raises(Rejected, match="reserved"):
        stage.store.set_alias(name, alias, number)


def test_alias_at__set_moved_and_deleted__where_it_points_now(stage: Stage, name: str) -> None:
    stage.add_model(name)
    first, second = (stage.add_version(name, FILES) for _ in range(2))
    assert stage.store.alias_at(name, "production") is None
    for number in (first, second):
        stage.store.set_alias(name, "production", number)
        assert stage.store.alias_at(name, "production") == number
    stage.store.delete_alias(name, "production")
    assert stage.store.alias_at(name, "production") is None


def test_alias_at__unknown_model__not_found(stage: Stage, name: str) -> None:
    with pytest.raises(NotFound):
        stage.store.alias_at(name, "production")


def test_delete_alias__there_or_not__is_gone(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES)
    stage.store.set_alias(name, "production", number)
    stage.store.delete_alias(name, "production")
    stage.store.delete_alias(name, "production")
    assert dict(stored(stage, name).aliases) == {}


def test_delete_alias__unknown_model__not_found(stage: Stage, name: str) -> None:
    with pytest.raises(NotFound):
        stage.store.delete_alias(name, "production")


def test_set_version_tags__over_others__adds_and_replaces(stage: Stage, name: str) -> None:
    stage.add_model(name)
    number = stage.add_version(name, FILES, tags={"team": "support", "headgate.decision": "old"})
    stage.store.set_version_tags(name, number, {"headgate.decision": "promoted", "headgate.rollout": "7"})
    assert dict(stage.store.version(name, number).tags) == {
        "team": "support",
        "headgate.decision": "promoted",
        "headgate.rollout": "7",
    }


def test_set_version_tags__unknown_version__not_found(stage: Stage, name: str) -> None:
    stage.add_model(name)
    with pytest.raises(NotFound):
        stage.store.set_version_tags(name, 3, {"headgate.rollout": "7"})


def test_ping__store_is_up__returns(stage: Stage) -> None:
    stage.store.ping()
