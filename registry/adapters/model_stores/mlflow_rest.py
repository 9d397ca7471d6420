"""MLflow as the model store, through its REST API.

The `mlflow` package is never imported: it costs 200 MB and a second in every process, plain HTTP 27 MB and
80 ms. Facts about MLflow that shape this file (tried on 3.17.2):
- a registered model's `last_updated_timestamp` moves when a version is made or deleted, and when the model
  itself is edited; it does not move for aliases, tags or a version's description;
- `model-versions/search` returns no aliases; `registered-models/search` does;
- a version is READY at once, even while its LoggedModel is still being written: only the two together say
  READY;
- params and metrics live on the run and the LoggedModel, never on the version;
- its filter language knows no escape for quotes, but LIKE and its `_`, which is any one character.

Whatever comes is read by `controlplane.kernel.foreign`: an odd entry of a list takes its own place only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, shown_value, words_of
from controlplane.outbound.deadlines import deadline
from registry.adapters.model_stores.mlflow_http import TOO_LARGE, MlflowHttp
from registry.domain.manifest import Progress, nothing
from registry.ports import (
    LEAVES_FOLDER,
    NOT_SERVED,
    ODD_ANSWER,
    StoredDataset,
    StoredModel,
    StoredVersion,
    UnreadableEntry,
)

MODELS_A_PAGE = 500
VERSIONS_A_PAGE = 1000
SMALLER = 8  # a page that is too large is asked for again, so many times smaller
MOST_PAGES = 1000
DEEPEST_FOLDER, MOST_FILES = 32, 100_000
LONGEST_FILE_NAME = 255  # bytes, as file systems have it
# An id becomes part of an address.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
LOGGED_MODEL_STATUS = {
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}
VERSION_STATUS = {"READY": "READY", "PENDING_REGISTRATION": "PENDING", "FAILED_REGISTRATION": "FAILED"}
NEWEST_CHANGE_FIRST = "last_updated_timestamp DESC"


class MlflowModelStore:
    """A `ModelStore` on one MLflow server (see `registry.ports` for the contract)."""

    def __init__(self, http: MlflowHttp) -> None:
        self._http = http

    def models(self) -> tuple[StoredModel | UnreadableEntry, ...]:
        query = {"max_results": MODELS_A_PAGE, "order_by": NEWEST_CHANGE_FIRST}
        pages = self._pages("registered-models/search", query, "registered_models", "its models")
        return tuple(_read(_model, raw, "name") for raw in pages)

    def versions(self, model: str) -> tuple[StoredVersion | UnreadableEntry, ...]:
        query = {
            "filter": _named(model),
            "max_results": VERSIONS_A_PAGE,
            "order_by": "version_number DESC",
        }
        pages = self._pages(
            "model-versions/search", query, "model_versions", f"the versions of {_short(model)}"
        )
        read = (_read(_version, raw, "version") for raw in pages)
        # The filter may find more than was asked for (see `_named`).
        found = tuple(v for v in read if isinstance(v, UnreadableEntry) or v.model == model)
        if not found:
            # The search says nothing for an unknown name; only this call tells "none yet" from "no such
            # model".
            self._http.get("registered-models/get", {"name": model})
        return found

    def version(self, model: str, number: int) -> StoredVersion:
        called = f"version {number} of {_short(model)}"
        query = {"name": model, "version": str(number)}
        version = _version(self._http.get("model-versions/get", query, said=called).needed("model_version"))
        if (version.model, version.number) != (model, number):
            raise _odd(called, f"it speaks of version {version.number} of {shown_value(version.model)}")
        run = self._run(version.run_id, called)
        logged = self._logged_model(version.logged_model_id, called)
        return _with_details(version, run, logged)

    def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        root = self._artifact_root(version.model, version.number)
        if not self._download_folder(root, to, progress):
            raise NotFound(
                f"{version.model} version {version.number} has no files at {version.source}.",
                fix="Log the model's files first, then register the version again.",
            )

    def read_file(self, model: str, number: int, path: str, *, size: int, seconds: float) -> bytes:
        with deadline(seconds):
            return self._http.read(str(self._artifact_root(model, number) / path), size=size)

    def set_alias(self, model: str, alias: str, number: int) -> None:
        self._http.send(
            "POST", "registered-models/alias", {"name": model, "alias": alias, "version": str(number)}
        )

    def alias_at(self, model: str, alias: str) -> int | None:
        # Of the model, not of the alias: for an alias that is not there MLflow has no answer but a refusal like others.
        called = f"the aliases of {_short(model)}"
        raw = self._http.get("registered-models/get", {"name": model}, said=called)
        for item in raw.needed("registered_model").parts("aliases"):
            if item.exact("alias") == alias:
                return item.whole("version")
        return None

    def delete_alias(self, model: str, alias: str) -> None:
        # MLflow answers the same whether or not the alias was there; an unknown model is NotFound.
        self._http.send("DELETE", "registered-models/alias", {"name": model, "alias": alias})

    def set_version_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            body = {"name": model, "version": str(number), "key": key, "value": value}
            self._http.send("POST", "model-versions/set-tag", body)
        query = {"name": model, "version": str(number)}
        raw = self._http.get("model-versions/get", query, said=f"version {number} of {_short(model)}")
        seen = _pairs(raw.needed("model_version").parts("tags"))
        for key, value in tags.items():
            if seen.get(key) != value:
                raise Unavailable(
                    f"The tag {key} of {model} version {number} reads {seen.get(key)!r} after it was "
                    f"set to {value!r}.",
                    fix="It will be tried again.",
                )

    def ping(self) -> None:
        self._http.get("registered-models/search", {"max_results": 1})

    def close(self) -> None:
        """Ends the kept-alive connections."""
        self._http.close()

    def _pages(self, call: str, query: Mapping[str, Any], key: str, said: str) -> Iterator[object]:
        """The entries of a list, of all its pages. One that never ends ends with an error."""
        token, seen, size = "", set[str](), int(query["max_results"])
        for _ in range(MOST_PAGES):
            asked = {**query, "page_token": token} if token else query
            page, size = self._page(call, asked, size, said)
            yield from page.entries(key)
            token = page.exact("next_page_token", "")
            if not token or token in seen:  # pages that name each other as the next would be read for ever
                return
            seen.add(token)
        raise Rejected(
            f"MLflow lists {said} on more than {MOST_PAGES:,} pages.",
            fix="Delete what is not needed in MLflow.",
        )

    def _page(self, call: str, query: Mapping[str, Any], size: int, said: str) -> tuple[Fields, int]:
        """One page, and the size that the next one should have: long tags make 500 models too much at a time."""
        while True:
            try:
                return self._http.get(call, {**query, "max_results": size}, said=said), size
            except Rejected as error:
                if error.code != TOO_LARGE or size == 1:
                    raise
                size = max(1, size // SMALLER)

    def _run(self, run_id: str, called: str) -> Fields:
        """The run, or an empty one when it was deleted for good (the version outlives it)."""
        said = f"the run of {called}"
        if run_id:
            try:
                return self._http.get("runs/get", {"run_id": run_id}, said=said).needed("run")
            except NotFound:
                pass
        return Fields({}, said)

    def _logged_model(self, model_id: str, called: str) -> Fields:
        said = f"the LoggedModel of {called}"
        if model_id:
            try:
                return self._http.get(f"logged-models/{_id(model_id, said)}", said=said).needed("model")
            except NotFound:
                pass
        return Fields({}, said)

    def _artifact_root(self, model: str, number: int) -> PurePosixPath:
        """The folder inside the artifact store that holds the version's files."""
        query = {"name": model, "version": str(number)}
        called = f"the files of version {number} of {_short(model)}"
        uri = self._http.get("model-versions/get-download-uri", query, said=called).exact("artifact_uri")
        if uri.startswith("runs:/"):
            run_id, _, below = uri.removeprefix("runs:/").partition("/")
            run = self._http.get("runs/get", {"run_id": run_id}, said=called).needed("run").needed("info")
            uri = run.exact("artifact_uri") + "/" + below
        elif uri.startswith("models:/m-"):
            model_id = _id(uri.removeprefix("models:/"), called)
            logged = self._http.get(f"logged-models/{model_id}", said=called).needed("model").needed("info")
            uri = logged.exact("artifact_uri")
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise _odd(called, f"artifact_uri is {shown_value(uri)}, which is no address") from error
        if parts.scheme != "mlflow-artifacts" or parts.netloc not in ("", self._http.authority):
            raise Rejected(
                f"{_short(model)} version {number} keeps its files at {_short(uri)}, which MLflow "
                "does not hand out itself.",
                fix="Log the files as a LoggedModel on a server with --serve-artifacts, and register that.",
                code=NOT_SERVED,
            )
        return PurePosixPath(parts.path.lstrip("/"))

    def _download_folder(
        self, folder: PurePosixPath, to: Path, progress: Progress, *, depth: int = 0, before: int = 0
    ) -> int:
        """Brings everything below `folder`; returns how many files there were. `before`: those that came already."""
        if depth > DEEPEST_FOLDER:
            raise Rejected(
                f"MLflow's folders are nested too deeply at {_short(str(folder))}.", code=LEAVES_FOLDER
            )
        count = before
        for raw in self._http.list_artifacts(str(folder)).parts("files"):
            name = raw.exact("path")
            if name in ("", ".", "..") or "/" in name or "\\" in name or not _is_file_name(name):
                raise Rejected(
                    f"MLflow lists a file named {shown_value(name)} in {_short(str(folder))}, which leaves the folder "
                    "or is no file's name.",
                    code=LEAVES_FOLDER,
                )
            if (to / name).exists():
                raise Rejected(
                    f"MLflow lists {shown_value(name)} twice in {_short(str(folder))}.", code=LEAVES_FOLDER
                )
            if raw.flag("is_dir", False):
                (to / name).mkdir()
                count = self._download_folder(
                    folder / name, to / name, progress, depth=depth + 1, before=count
                )
            else:
                size = raw.whole("file_size", least=0) if "file_size" in raw else None
                self._http.download(str(folder / name), to / name, bytes_expected=size, progress=progress)
                count += 1
            if count > MOST_FILES:
                raise Rejected(f"MLflow lists more than {MOST_FILES:,} files.", code=LEAVES_FOLDER)
        return count


Entry = TypeVar("Entry")


def _odd(called: str, what: str) -> InvalidInput:
    """It is this one thing that is odd, not MLflow that is away."""
    return InvalidInput(
        f"What MLflow says of {called} cannot be understood: {what}.",
        fix="Look at it in MLflow.",
        code=ODD_ANSWER,
    )


def _read(read: Callable[[Fields], Entry], raw: object, name: str) -> Entry | UnreadableEntry:
    """One entry of a list, or what is wrong with it."""
    called = _called(raw, name)
    try:
        return read(Fields(raw, f"What MLflow says of {called}"))
    except InvalidInput as error:
        return UnreadableEntry(called, error.message)


def _called(raw: object, name: str) -> str:
    if not isinstance(raw, Mapping):
        return shown_value(raw)
    said = raw.get(name)
    return _short(said) if isinstance(said, str) and said.strip() else "an entry without a name"


def _short(text: str) -> str:
    return words_of(text, 100)


def _is_file_name(name: str) -> bool:
    """Whether the file systems of this machine take it, and a manifest can say it."""
    try:
        return len(name.encode()) <= LONGEST_FILE_NAME and name.isprintable()
    except UnicodeEncodeError:
        return False


def _id(value: str, called: str) -> str:
    if not _ID.fullmatch(value):
        raise _odd(called, f"it names {shown_value(value)}, which is no id")
    return value


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _pairs(raw: Iterable[Fields]) -> dict[str, str]:
    return {item.text("key"): item.text("value", "") for item in raw}


def _named(model: str) -> str:
    """A filter that finds the versions of the model. It knows no escape: of the two kinds of quotes the one is taken
    that the name lacks. A name with both is asked for with `_`, any one character, in the place of what would end the
    text; then others may be found too."""
    if "'" not in model:
        return f"name='{model}'"
    if '"' not in model:
        return f'name="{model}"'
    pattern = "".join("_" if character in "'\"\\%" else character for character in model)
    return f"name LIKE '{pattern}'"


def _model(raw: Fields) -> StoredModel:
    return StoredModel(
        name=raw.exact("name"),
        description=raw.text("description", ""),
        updated_at=_seconds(raw.whole("last_updated_timestamp", 0)),
        created_at=_seconds(raw.whole("creation_timestamp", 0)),
        aliases={item.exact("alias"): item.whole("version") for item in raw.parts("aliases")},
        tags=_pairs(raw.parts("tags")),
    )


def _version(raw: Fields) -> StoredVersion:
    source = raw.text("source", "")
    status = raw.exact("status", "READY")
    return StoredVersion(
        model=raw.exact("name"),
        number=raw.whole("version"),
        source=source,
        status=VERSION_STATUS.get(status, status),
        created_at=_seconds(raw.whole("creation_timestamp", 0)),
        updated_at=_seconds(raw.whole("last_updated_timestamp", 0)),
        run_id=raw.exact("run_id", ""),
        # `model_id` comes back empty: the source is where the LoggedModel is named.
        logged_model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else "",
        description=raw.text("description", ""),
        tags=_pairs(raw.parts("tags")),
    )


def _with_details(version: StoredVersion, run: Fields, logged: Fields) -> StoredVersion:
    run_data, logged_data = run.part("data"), logged.part("data")
    status = version.status
    if logged:
        waits = LOGGED_MODEL_STATUS.get(logged.part("info").exact("status", ""), "PENDING")
        status = waits if status == "READY" else status
    of_logged = list(logged_data.parts("metrics"))
    return replace(
        version,
        status=status,
        run_name=run.part("info").text("run_name", ""),
        params=_pairs(run_data.parts("params")) | _pairs(logged_data.parts("params")),
        # A run may have made several LoggedModels; its own metrics then mix all of them.
        metrics=_metrics(of_logged or run_data.parts("metrics")),
        datasets=_datasets(run.part("inputs").parts("dataset_inputs"), of_logged),
    )


def _metrics(raw: Iterable[Fields]) -> dict[str, float]:
    """The newest value of each name. Values that are not finite are left out: JSON cannot hold them."""
    newest: dict[str, tuple[tuple[int, int], float]] = {}
    for item in raw:
        value = item.number("value", math.nan, finite=False)
        when = (item.whole("timestamp", 0), item.whole("step", 0))
        key = item.text("key")
        if math.isfinite(value) and (key not in newest or newest[key][0] <= when):
            newest[key] = (when, value)
    return {key: value for key, (_, value) in sorted(newest.items())}


def _datasets(inputs: Iterable[Fields], metrics: Iterable[Fields]) -> tuple[StoredDataset, ...]:
    """What the run read, then what the LoggedModel was measured on."""
    found: dict[tuple[str, str], StoredDataset] = {}
    for item in inputs:
        dataset = item.part("dataset")
        context = _pairs(item.parts("tags")).get("mlflow.data.context", "")
        entry = StoredDataset(dataset.text("name", ""), dataset.text("digest", ""), context)
        found.setdefault((entry.name, entry.digest), entry)
    for item in metrics:
        if name := item.text("dataset_name", ""):
            entry = StoredDataset(name, item.text("dataset_digest", ""), "evaluation")
            found.setdefault((entry.name, entry.digest), entry)
    return tuple(found.values())
