"""A model store in memory, with the behaviour of MLflow that the contract suite pins down.

It also plays the store that is down, and the person who changes things by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from controlplane.kernel.errors import NotFound, Rejected, Unavailable
from registry.domain.manifest import Progress, nothing
from registry.ports import StoredModel, StoredVersion


class MemoryModelStore:
    """A `ModelStore` for tests and for trying things out. Time is a counter of its own, in seconds."""

    def __init__(self, *, start: float = 1_700_000_000.0) -> None:
        self._models: dict[str, StoredModel] = {}
        self._versions: dict[str, dict[int, StoredVersion]] = {}
        self._files: dict[tuple[str, int], dict[str, bytes]] = {}
        self._last_number: dict[str, int] = {}
        self._time = start
        self.down = False

    # What a person or a training job does in the store.

    def add_model(self, name: str, *, description: str = "") -> None:
        """Registers a model, or edits the description of one."""
        old = self._models.get(name)
        when = self._tick()
        made = StoredModel(name, description, when, created_at=when)
        self._models[name] = replace(old, description=description, updated_at=when) if old else made
        self._versions.setdefault(name, {})
        self._last_number.setdefault(name, 0)

    def add_version(self, model: str, files: Mapping[str, bytes], **details: object) -> StoredVersion:
        """Registers the next version; `details` are fields of StoredVersion. Numbers are never used twice."""
        number = self._last_number[model] = self._last_number[model] + 1
        when = self._tick()
        plain = StoredVersion(model, number, f"memory:/{model}/{number}", "READY", when, when)
        version = replace(plain, **details)  # type: ignore[arg-type]
        self._versions[model][number] = version
        self._files[model, number] = dict(files)
        self._models[model] = replace(self._models[model], updated_at=when)
        return version

    def edit_version(self, model: str, number: int, **details: object) -> None:
        """Changes fields of a version; like MLflow, this does not move the model's own time."""
        self._versions[model][number] = replace(
            self._versions[model][number],
            updated_at=self._tick(),
            **details,  # type: ignore[arg-type]
        )

    def delete_version(self, model: str, number: int) -> None:
        """Deletes a version and, silently, the aliases that point to it."""
        del self._versions[model][number]
        del self._files[model, number]
        old = self._models[model]
        aliases = {alias: at for alias, at in old.aliases.items() if at != number}
        self._models[model] = replace(old, aliases=aliases, updated_at=self._tick())

    def delete_model(self, name: str) -> None:
        """Deletes a model with all its versions."""
        for number in self._versions.pop(name):
            del self._files[name, number]
        del self._models[name]
        del self._last_number[name]

    def rename_model(self, name: str, new_name: str) -> None:
        """Renames a model with all its versions; nothing else of them changes."""
        self._models[new_name] = replace(self._models.pop(name), name=new_name, updated_at=self._tick())
        self._last_number[new_name] = self._last_number.pop(name)
        self._versions[new_name] = {
            number: replace(version, model=new_name) for number, version in self._versions.pop(name).items()
        }
        for number in self._versions[new_name]:
            self._files[new_name, number] = self._files.pop((name, number))

    def overwrite_file(self, model: str, number: int, path: str, content: bytes) -> None:
        """Changes a file of a version that was registered before, as MLflow lets anyone do."""
        self._files[model, number][path] = content

    # The contract.

    def models(self) -> tuple[StoredModel, ...]:
        self._answer()
        return tuple(sorted(self._models.values(), key=lambda model: -model.updated_at))

    def versions(self, model: str) -> tuple[StoredVersion, ...]:
        self._answer()
        self._model(model)
        bare = (
            replace(version, run_name="", params={}, metrics={}, datasets=())
            for version in self._versions[model].values()
        )
        return tuple(sorted(bare, key=lambda version: -version.number))

    def version(self, model: str, number: int) -> StoredVersion:
        self._answer()
        found = self._versions.get(model, {}).get(number)
        if found is None:
            raise NotFound(f"Model Version (name={model}, version={number}) not found")
        return found

    def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        self._answer()
        self.version(version.model, version.number)
        files = self._files[version.model, version.number]
        if not files:
            raise NotFound(f"{version.model} version {version.number} has no files.")
        for path, content in files.items():
            progress(len(content))
            target = to / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def read_file(self, model: str, number: int, path: str, *, size: int, seconds: float) -> bytes:
        self.version(model, number)
        found = self._files[model, number].get(path)
        if found is None:
            raise NotFound(f"{model} version {number} has no file {path}.")
        if len(found) != size:
            raise Unavailable(f"{path} has {len(found)} bytes, and {size} were expected.")
        return found

    def set_alias(self, model: str, alias: str, number: int) -> None:
        self.version(model, number)
        if alias == "latest" or (alias[:1] == "v" and alias[1:].isdigit()):
            raise Rejected(f"Version alias name '{alias}' is reserved.")
        old = self._models[model]
        self._models[model] = replace(old, aliases={**old.aliases, alias: number})

    def alias_at(self, model: str, alias: str) -> int | None:
        self._answer()
        return self._model(model).aliases.get(alias)

    def delete_alias(self, model: str, alias: str) -> None:
        self._answer()
        old = self._model(model)
        rest = {name: number for name, number in old.aliases.items() if name != alias}
        self._models[model] = replace(old, aliases=rest)

    def set_version_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        old = self.version(model, number)
        self._versions[model][number] = replace(old, tags={**old.tags, **tags})

    def ping(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("The model store does not answer.", fix="Start it; nothing was changed here.")

    def _model(self, name: str) -> StoredModel:
        found = self._models.get(name)
        if found is None:
            raise NotFound(f"Registered Model with name={name} not found")
        return found

    def _tick(self) -> float:
        self._time += 1
        return self._time
