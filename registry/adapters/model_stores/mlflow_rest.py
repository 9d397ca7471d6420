"""MLflow as the model store, through its REST API.

The `mlflow` package is never imported: it costs 200 MB and a second in every process, plain HTTP 27 MB and
80 ms. Facts about MLflow that shape this file (tried on 3.17.2):
- a registered model's `last_updated_timestamp` moves when a version is made or deleted, and when the model
  itself is edited; it does not move for aliases, tags or a version's description;
- `model-versions/search` returns no aliases; `registered-models/search` does;
- a version is READY at once, even while its LoggedModel is still being written: only the two together say
  READY;
- params and metrics live on the run and the LoggedModel, never on the version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, Unavailable
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.ports import (
    LEAVES_FOLDER,
    NOT_SERVED,
    ODD_ANSWER,
    StoredDataset,
    StoredModel,
    StoredVersion,
    Unreadable,
)

MODELS_A_PAGE = 500
VERSIONS_A_PAGE = 1000
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

    def models(self, *, updated_since: float | None = None) -> tuple[StoredModel | Unreadable, ...]:
        found: list[StoredModel | Unreadable] = []
        query = {"max_results": MODELS_A_PAGE, "order_by": NEWEST_CHANGE_FIRST}
        for raw in self._pages("registered-models/search", query, "registered_models"):
            model = _read(_model, raw, "name")
            old = (
                isinstance(model, StoredModel)
                and updated_since is not None
                and model.updated_at <= updated_since
            )
            if old:
                break  # Newest change first: the rest is older.
            found.append(model)
        return tuple(found)

    def versions(self, model: str) -> tuple[StoredVersion | Unreadable, ...]:
        query = {
            "filter": f"name={_quoted(model)}",
            "max_results": VERSIONS_A_PAGE,
            "order_by": "version_number DESC",
        }
        pages = self._pages("model-versions/search", query, "model_versions")
        found = tuple(_read(_version, raw, "version") for raw in pages)
        if not found:
            # The search says nothing for an unknown name; only this call tells "none yet" from "no such
            # model".
            self._http.get("registered-models/get", {"name": model})
        return found

    def version(self, model: str, number: int) -> StoredVersion:
        answer = self._http.get("model-versions/get", {"name": model, "version": str(number)})
        with _understood(f"version {number} of {model}"):
            version = _version(answer["model_version"])
        run = self._run(version.run_id)
        logged = self._logged_model(version.logged_model_id)
        with _understood(f"the run or the LoggedModel of version {number} of {model}"):
            return _with_details(version, run, logged)

    def download(self, version: StoredVersion, to: Path) -> None:
        root = self._artifact_root(version)
        if not self._download_folder(root, to):
            raise NotFound(
                f"{version.model} version {version.number} has no files at {version.source}.",
                fix="Log the model's files first, then register the version again.",
            )

    def set_alias(self, model: str, alias: str, number: int) -> None:
        self._http.send(
            "POST", "registered-models/alias", {"name": model, "alias": alias, "version": str(number)}
        )
        # MLflow has no compare-and-set on aliases: reading back is the only proof.
        seen = self._http.get("registered-models/alias", {"name": model, "alias": alias})
        now_at = int(seen["model_version"]["version"])
        if now_at != number:
            raise Unavailable(
                f"The alias {alias} of {model} points to version {now_at} after it was set to {number}.",
                fix="Somebody else moves this alias at the same time; it will be tried again.",
            )

    def delete_alias(self, model: str, alias: str) -> None:
        # MLflow answers the same whether or not the alias was there; an unknown model is NotFound.
        self._http.send("DELETE", "registered-models/alias", {"name": model, "alias": alias})

    def set_version_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            body = {"name": model, "version": str(number), "key": key, "value": value}
            self._http.send("POST", "model-versions/set-tag", body)
        raw = self._http.get("model-versions/get", {"name": model, "version": str(number)})["model_version"]
        seen = _pairs(raw.get("tags", []))
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

    def _pages(self, call: str, query: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._http.get(call, {**query, "page_token": token} if token else query)
            yield from page.get(key) or []
            after, token = token, page.get("next_page_token") or ""
            if not token or token == after:  # a page that names itself as the next one would be read for ever
                return

    def _run(self, run_id: str) -> dict[str, Any]:
        """The run, or nothing when it was deleted for good (the version outlives it)."""
        if not run_id:
            return {}
        try:
            return dict(self._http.get("runs/get", {"run_id": run_id})["run"])
        except NotFound:
            return {}

    def _logged_model(self, model_id: str) -> dict[str, Any]:
        if not model_id:
            return {}
        try:
            return dict(self._http.get(f"logged-models/{model_id}")["model"])
        except NotFound:
            return {}

    def _artifact_root(self, version: StoredVersion) -> PurePosixPath:
        """The folder inside the artifact store that holds the version's files."""
        query = {"name": version.model, "version": str(version.number)}
        uri = str(self._http.get("model-versions/get-download-uri", query)["artifact_uri"])
        if uri.startswith("runs:/"):
            run_id, _, below = uri.removeprefix("runs:/").partition("/")
            uri = self._http.get("runs/get", {"run_id": run_id})["run"]["info"]["artifact_uri"] + "/" + below
        elif uri.startswith("models:/m-"):
            model_id = uri.removeprefix("models:/")
            uri = self._http.get(f"logged-models/{model_id}")["model"]["info"]["artifact_uri"]
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts" or parts.netloc not in ("", self._http.authority):
            raise Rejected(
                f"{version.model} version {version.number} keeps its files at {uri}, which MLflow "
                "does not hand out itself.",
                fix="Log the files as a LoggedModel on a server with --serve-artifacts, and register that.",
                code=NOT_SERVED,
            )
        return PurePosixPath(parts.path.lstrip("/"))

    def _download_folder(self, folder: PurePosixPath, to: Path) -> int:
        """Brings everything below `folder`; returns how many files there were."""
        count = 0
        for raw in self._http.list_artifacts(str(folder)):
            name = str(raw["path"])
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise Rejected(
                    f"MLflow lists a file named {name!r} in {folder}, which leaves the folder.",
                    code=LEAVES_FOLDER,
                )
            if raw.get("is_dir"):
                (to / name).mkdir()
                count += self._download_folder(folder / name, to / name)
            else:
                size = raw.get("file_size")
                self._http.download(
                    str(folder / name), to / name, bytes_expected=None if size is None else int(size)
                )
                count += 1
        return count


# What reading an answer of another shape raises.
ODD = (KeyError, TypeError, ValueError, AttributeError, OverflowError)

Entry = TypeVar("Entry")


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turns an answer of another shape into InvalidInput: it is this one thing that is odd, not MLflow that is away."""
    try:
        yield
    except ODD as error:
        raise InvalidInput(
            f"What MLflow says of {what} cannot be understood ({type(error).__name__}: {error}).",
            fix="Look at it in MLflow.",
            code=ODD_ANSWER,
        ) from error


def _read(read: Callable[[Mapping[str, Any]], Entry], raw: Any, name: str) -> Entry | Unreadable:
    """One entry of a list, or what is wrong with it."""
    called = str(raw.get(name) or "without a name") if isinstance(raw, Mapping) else repr(raw)[:80]
    try:
        with _understood(called):
            return read(raw)
    except InvalidInput as error:
        return Unreadable(called, str(error))


def _seconds(milliseconds: Any) -> float:
    return int(milliseconds or 0) / 1000


def _pairs(raw: list[Mapping[str, Any]]) -> dict[str, str]:
    return {str(item["key"]): str(item.get("value", "")) for item in raw}


def _quoted(text: str) -> str:
    """A string of MLflow's filter language. It knows no escape, so the quote that the text lacks is taken."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise Rejected(
        f"MLflow cannot search for the name {text!r}: it holds both kinds of quotation marks.",
        fix="Rename the model in MLflow.",
    )


def _model(raw: Mapping[str, Any]) -> StoredModel:
    return StoredModel(
        name=str(raw["name"]),
        description=str(raw.get("description", "")),
        updated_at=_seconds(raw.get("last_updated_timestamp")),
        created_at=_seconds(raw.get("creation_timestamp")),
        aliases={str(item["alias"]): int(item["version"]) for item in raw.get("aliases", [])},
        tags=_pairs(raw.get("tags", [])),
    )


def _version(raw: Mapping[str, Any]) -> StoredVersion:
    source = str(raw.get("source", ""))
    status = str(raw.get("status", "READY"))
    return StoredVersion(
        model=str(raw["name"]),
        number=int(raw["version"]),
        source=source,
        status=VERSION_STATUS.get(status, status),
        created_at=_seconds(raw.get("creation_timestamp")),
        updated_at=_seconds(raw.get("last_updated_timestamp")),
        run_id=str(raw.get("run_id", "")),
        # `model_id` comes back empty: the source is where the LoggedModel is named.
        logged_model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else "",
        description=str(raw.get("description", "")),
        tags=_pairs(raw.get("tags", [])),
    )


def _with_details(version: StoredVersion, run: Mapping[str, Any], logged: Mapping[str, Any]) -> StoredVersion:
    run_data = run.get("data", {})
    logged_data = logged.get("data", {})
    status = version.status
    if logged:
        stored = str(logged.get("info", {}).get("status", ""))
        waits = LOGGED_MODEL_STATUS.get(stored, "PENDING")
        status = waits if status == "READY" else status
    return replace(
        version,
        status=status,
        run_name=str(run.get("info", {}).get("run_name", "")),
        params=_pairs(run_data.get("params", [])) | _pairs(logged_data.get("params", [])),
        # A run may have made several LoggedModels; its own metrics then mix all of them.
        metrics=_metrics(logged_data.get("metrics", []) or run_data.get("metrics", [])),
        datasets=_datasets(run.get("inputs", {}).get("dataset_inputs", []), logged_data.get("metrics", [])),
    )


def _metrics(raw: list[Mapping[str, Any]]) -> dict[str, float]:
    """The newest value of each name. Values that are not finite are left out: JSON cannot hold them."""
    newest: dict[str, tuple[tuple[int, int], float]] = {}
    for item in raw:
        value = float(item.get("value", "nan"))
        when = (int(item.get("timestamp", 0)), int(item.get("step", 0)))
        key = str(item["key"])
        if math.isfinite(value) and (key not in newest or newest[key][0] <= when):
            newest[key] = (when, value)
    return {key: value for key, (_, value) in sorted(newest.items())}


def _datasets(inputs: list[Mapping[str, Any]], metrics: list[Mapping[str, Any]]) -> tuple[StoredDataset, ...]:
    """What the run read, then what the LoggedModel was measured on."""
    found: dict[tuple[str, str], StoredDataset] = {}
    for item in inputs:
        dataset = item.get("dataset", {})
        context = _pairs(item.get("tags", [])).get("mlflow.data.context", "")
        entry = StoredDataset(str(dataset.get("name", "")), str(dataset.get("digest", "")), context)
        found.setdefault((entry.name, entry.digest), entry)
    for item in metrics:
        if item.get("dataset_name"):
            entry = StoredDataset(
                str(item["dataset_name"]), str(item.get("dataset_digest", "")), "evaluation"
            )
            found.setdefault((entry.name, entry.digest), entry)
    return tuple(found.values())
