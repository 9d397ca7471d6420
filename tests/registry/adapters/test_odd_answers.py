"""MLflow answers oddly: every reader of its REST API gives a right value or one of our errors, and nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import HeadgateError, InvalidInput, NotFound, Rejected, Unavailable
from registry.adapters.model_stores import mlflow_http
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MOST_PAGES, MlflowModelStore
from registry.domain.foreign import check_model, check_version
from registry.ports import LEAVES_FOLDER, StoredModel, StoredVersion, UnreadableEntry
from tests.standins.odd import DEEP, NUL, SURROGATE, odd_bodies, odd_values, outcome, written

few = settings(max_examples=50)
URL = "http://mlflow.example:5500"
STAMP = 1_700_000_000_000
MODEL = {
    "name": "llama",
    "description": "routes tickets",
    "creation_timestamp": STAMP,
    "last_updated_timestamp": str(STAMP + 1),
    "aliases": [{"alias": "production", "version": "3"}],
    "tags": [{"key": "owner", "value": "ana"}],
}
MODELS = {
    "registered_models": [{**MODEL, "name": "first"}, MODEL, {**MODEL, "name": "last"}],
    "next_page_token": "",
}
VERSION = {
    "name": "llama",
    "version": "3",
    "source": "models:/m-abc",
    "status": "READY",
    "run_id": "a1b2",
    "creation_timestamp": STAMP,
    "last_updated_timestamp": STAMP,
    "description": "better",
    "tags": [{"key": "owner", "value": "ana"}],
}
VERSIONS = {"model_versions": [{**VERSION, "version": "4"}, VERSION, {**VERSION, "version": "2"}]}
METRIC = {"key": "loss", "value": 0.5, "timestamp": STAMP, "step": "3"}
RUN = {
    "run": {
        "info": {"run_name": "ft", "artifact_uri": "mlflow-artifacts:/1/r/artifacts"},
        "data": {"metrics": [METRIC], "params": [{"key": "lr", "value": "1e-3"}]},
        "inputs": {
            "dataset_inputs": [
                {
                    "tags": [{"key": "mlflow.data.context", "value": "training"}],
                    "dataset": {"name": "tickets", "digest": "77be"},
                }
            ]
        },
    }
}
LOGGED = {
    "model": {
        "info": {
            "status": "LOGGED_MODEL_READY",
            "artifact_uri": "mlflow-artifacts:/1/models/m-abc/artifacts",
        },
        "data": {
            "metrics": [{**METRIC, "dataset_name": "tickets", "dataset_digest": "77be"}],
            "params": [{"key": "lr", "value": "1e-3"}],
        },
    }
}
FILES = {
    "files": [
        {"path": "config.json", "is_dir": False, "file_size": 2},
        {"path": "folder", "is_dir": True},
        {"path": "model.safetensors", "is_dir": False, "file_size": "2"},
    ]
}
PAGES = {
    "registered-models/search": MODELS,
    "model-versions/search": VERSIONS,
    "model-versions/get": {"model_version": VERSION},
    "model-versions/get-download-uri": {"artifact_uri": "models:/m-abc"},
    "registered-models/get": {"registered_model": MODEL},
    "registered-models/alias": {"model_version": VERSION},
    "model-versions/set-tag": {},
    "runs/get": RUN,
    "logged-models/m-abc": LOGGED,
}


def store_that_says(
    odd: str, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> MlflowModelStore:
    """MLflow, right in everything but in one call."""

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        if path.startswith("/api/2.0/mlflow-artifacts/artifacts"):
            listing = path == "/api/2.0/mlflow-artifacts/artifacts"
            if (odd == "files" and listing and "folder" not in str(request.url)) or (
                odd == "file" and not listing
            ):
                return httpx.Response(status, content=iter([body]), headers=headers)
            top = listing and "folder" not in str(request.url)
            return httpx.Response(200, content=written(FILES if top else {"files": []}) if listing else b"{}")
        if path == odd:
            return httpx.Response(status, content=iter([body]), headers=headers)
        return httpx.Response(200, content=written(PAGES[path]))

    return MlflowModelStore(
        MlflowHttp(URL, transport=httpx.MockTransport(handler), sleep=lambda seconds: None)
    )


def checked_models(store: MlflowModelStore) -> list[StoredModel | UnreadableEntry | HeadgateError]:
    """As the mirror reads them: an entry that the registry cannot keep is left out with its words."""
    found = store.models()
    return [m if isinstance(m, UnreadableEntry) else outcome(lambda m=m: check_model(m)) for m in found]  # type: ignore[misc]


def checked_versions(store: MlflowModelStore) -> list[StoredVersion | UnreadableEntry | HeadgateError]:
    found = store.versions("llama")
    return [v if isinstance(v, UnreadableEntry) else outcome(lambda v=v: check_version(v)) for v in found]  # type: ignore[misc]


@few
@given(odd_bodies(MODELS))
def test_models__odd_answer__a_model_an_odd_entry_or_our_error(body: bytes) -> None:
    outcome(lambda: checked_models(store_that_says("registered-models/search", body)))


@few
@given(odd_values(MODEL))
@example(7)
@example(None)
def test_models__one_odd_entry__the_others_are_read(entry: Any) -> None:
    assume(DEEP not in str(entry))  # nothing of such a page can be read
    page = written({"registered_models": [{**MODEL, "name": "first"}, entry, {**MODEL, "name": "last"}]})
    found = checked_models(store_that_says("registered-models/search", page))
    assert {m.name for m in found if isinstance(m, StoredModel)} >= {"first", "last"}


@few
@given(odd_bodies(VERSIONS))
def test_versions__odd_answer__a_version_an_odd_entry_or_our_error(body: bytes) -> None:
    outcome(lambda: checked_versions(store_that_says("model-versions/search", body)))


@pytest.mark.parametrize("call", ["model-versions/get", "runs/get", "logged-models/m-abc"])
@few
@given(data=st.data())
def test_version__odd_answer_of_one_call__a_version_or_our_error(call: str, data: st.DataObject) -> None:
    body = data.draw(odd_bodies(PAGES[call]))
    outcome(lambda: check_version(store_that_says(call, body).version("llama", 3)))


@pytest.mark.parametrize("call", ["model-versions/get-download-uri", "logged-models/m-abc", "files"])
@few
@given(data=st.data())
def test_download__odd_answer_of_one_call__files_or_our_error(
    call: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = data.draw(odd_bodies(PAGES.get(call, FILES)))
    version = StoredVersion("llama", 3, "models:/m-abc", "READY", 1.0, 1.0)
    to = tmp_path_factory.mktemp("download")
    outcome(lambda: store_that_says(call, body).download(version, to))
    assert all(to in path.resolve().parents for path in to.rglob("*"))


@pytest.mark.parametrize("call", ["registered-models/alias", "registered-models/get", "model-versions/get"])
@few
@given(data=st.data())
def test_write_back__odd_answer_on_reading_back__done_or_our_error(call: str, data: st.DataObject) -> None:
    store = store_that_says(call, data.draw(odd_bodies(PAGES[call])))
    outcome(lambda: store.set_alias("llama", "production", 3))
    outcome(lambda: store.alias_at("llama", "production"))
    outcome(lambda: store.set_version_tags("llama", 3, {"owner": "ana"}))


@few
@given(
    st.sampled_from([300, 302, 307, 400, 401, 403, 404, 418, 429, 500, 503, 599]),
    odd_bodies({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"}),
)
def test_any_call__odd_refusal__our_error_with_storable_words(status: int, body: bytes) -> None:
    store = store_that_says(
        "registered-models/search", body, status=status, headers={"Location": "http://elsewhere/"}
    )
    assert isinstance(outcome(store.models), HeadgateError)


# --- one way to be odd each -------------------------------------------------------------------------------------------


def test_versions__name_with_both_quotes__asked_by_like_and_kept_apart() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["filter"])
        name = 'it\'s "so"'
        mixed = [{**VERSION, "name": name}, {**VERSION, "name": "it_s _so_", "version": "9"}]
        return httpx.Response(200, content=written({"model_versions": mixed}))

    store = MlflowModelStore(MlflowHttp(URL, transport=httpx.MockTransport(handler)))
    found = store.versions('it\'s "so"')
    assert asked == ["name LIKE 'it_s _so_'"]
    assert [v.number for v in found if isinstance(v, StoredVersion)] == [3]


def endless(entries: list[Any]) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield written({"registered_models": entries, "next_page_token": str(number)})


@pytest.mark.parametrize("entries", [[], [MODEL]])
def test_models__pages_never_end__rejected_after_so_many(entries: list[Any]) -> None:
    pages = endless(entries)
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=next(pages))

    with pytest.raises(Rejected, match="more than 1,000 pages"):
        MlflowModelStore(MlflowHttp(URL, transport=httpx.MockTransport(handler))).models()
    assert len(asked) == MOST_PAGES


def test_models__pages_name_each_other__each_is_read_once() -> None:
    tokens = {"": "a", "a": "b", "b": "a"}
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("page_token", ""))
        return httpx.Response(
            200, content=written({"registered_models": [], "next_page_token": tokens[asked[-1]]})
        )

    MlflowModelStore(MlflowHttp(URL, transport=httpx.MockTransport(handler))).models()
    assert asked == ["", "a", "b"]


def test_models__page_larger_than_the_bound__asked_for_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_http, "MOST_BYTES", 5_000)
    asked: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(int(request.url.params["max_results"]))
        models = [{**MODEL, "name": f"m{n}", "description": "x" * 100} for n in range(min(asked[-1], 100))]
        return httpx.Response(200, content=written({"registered_models": models}))

    http = MlflowHttp(URL, transport=httpx.MockTransport(handler))
    assert len(MlflowModelStore(http).models()) == 7
    assert asked == [500, 62, 7]


def test_models__one_model_larger_than_the_bound__rejected_naming_it_as_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_http, "MOST_BYTES", 4_000)
    store = MlflowModelStore(
        MlflowHttp(
            URL,
            transport=httpx.MockTransport(lambda request: httpx.Response(200, content=b"[" + b" " * 5_000)),
        )
    )
    with pytest.raises(Rejected) as refused:
        store.models()
    assert refused.value.code == "too-large"


def test_any_call__answer_is_packed_though_nobody_asked__unavailable_and_never_unpacked() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    store = store_that_says("registered-models/search", bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(Unavailable, match="encoding 'gzip'"):
        store.models()


def test_any_call__redirect_with_a_right_body__not_followed_and_not_believed() -> None:
    store = store_that_says(
        "registered-models/search", written(MODELS), status=302, headers={"Location": "http://169.254.0.1/"}
    )
    with pytest.raises(Rejected, match="302"):
        store.models()


@pytest.mark.parametrize("said", ["models:/m-../../users", "models:/m-a?b", "models:/m-" + "x" * 100])
def test_version__id_that_would_lead_to_another_address__never_asked_for(said: str) -> None:
    store = store_that_says("model-versions/get", written({"model_version": {**VERSION, "source": said}}))
    with pytest.raises(InvalidInput, match="which is no id"):
        store.version("llama", 3)


@pytest.mark.parametrize("name", [SURROGATE, "x" * 70_000])
def test_versions__name_that_no_address_holds__invalid_input(name: str) -> None:
    with pytest.raises(InvalidInput):
        store_that_says("", b"").versions(name)


@pytest.mark.parametrize("name", ["..", "a/b", NUL, SURROGATE, "x" * 256, "config.json", "a\nb"])
def test_download__file_name_that_is_none__rejected_before_it_is_written(tmp_path: Path, name: str) -> None:
    files = {"files": [FILES["files"][0], {"path": name, "is_dir": False, "file_size": 2}]}
    version = StoredVersion("llama", 3, "models:/m-abc", "READY", 1.0, 1.0)
    with pytest.raises(Rejected) as refused:
        store_that_says("files", written(files)).download(version, tmp_path)
    assert refused.value.code == LEAVES_FOLDER
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_download__folder_that_holds_itself__rejected(tmp_path: Path) -> None:
    loop = written({"files": [{"path": "a", "is_dir": True}]})

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        return httpx.Response(200, content=written(PAGES[path]) if path in PAGES else loop)

    store = MlflowModelStore(MlflowHttp(URL, transport=httpx.MockTransport(handler)))
    with pytest.raises(Rejected, match="nested too deeply"):
        store.download(StoredVersion("llama", 3, "models:/m-abc", "READY", 1.0, 1.0), tmp_path)


def test_download__more_comes_than_was_said__unavailable_and_the_rest_is_not_kept(tmp_path: Path) -> None:
    version = StoredVersion("llama", 3, "models:/m-abc", "READY", 1.0, 1.0)
    with pytest.raises(Unavailable, match="more than the 2 bytes"):
        store_that_says("file", b"x" * 300_000).download(version, tmp_path)
    assert (tmp_path / "config.json").stat().st_size <= 2


def test_get__answer_never_comes_to_an_end__unavailable_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_http, "CALL_SECONDS", 0.2)

    def drip() -> Iterator[bytes]:
        while True:
            yield b" "

    http = MlflowHttp(
        URL,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=drip())),
    )
    with pytest.raises(Unavailable, match="took too long"):
        http.get("x")


def test_version__deleted_run_and_model__still_read() -> None:
    gone = written({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"})
    assert store_that_says("runs/get", gone, status=404).version("llama", 3).params == {"lr": "1e-3"}
    with pytest.raises(NotFound):
        store_that_says("model-versions/get", gone, status=404).version("llama", 3)
