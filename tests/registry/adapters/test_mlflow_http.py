from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, Unavailable
from controlplane.outbound.asking import asking
from registry.adapters.model_stores import mlflow_http
from registry.adapters.model_stores.mlflow_http import ATTEMPTS, UNSAID_SECONDS, MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.ports import ODD_ANSWER, StoredModel, UnreadableEntry

URL = "http://mlflow.example:5500"
PIECE_BYTES = 1 << 16
NOT_THERE = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=x not found"}


class Server:
    """Answers at the edge of the client, in place of a network; notes what was asked and the waits."""

    def __init__(
        self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
    ) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def http(self, url: str = URL) -> MlflowHttp:
        return MlflowHttp(url, transport=httpx.MockTransport(self), sleep=self.pauses.append)


def answer(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_get__connection_closed_once__tried_again() -> None:
    server = Server(httpx.RemoteProtocolError("closed"), answer({"ok": 1}))
    assert server.http().get("x").whole("ok") == 1
    assert server.pauses == [0.05]


def test_get__never_answers__unavailable_after_a_few_tries_naming_the_address() -> None:
    server = Server(httpx.ConnectError("refused"))
    with pytest.raises(Unavailable, match=r"MLflow at http://mlflow\.example:5500 does not answer") as caught:
        server.http().get("x")
    assert not isinstance(caught.value, Rejected)
    assert (len(server.asked), server.pauses) == (ATTEMPTS, [0.05, 0.1, 0.2])


def test_get__too_slow__unavailable_saying_so() -> None:
    with pytest.raises(Unavailable, match="took too long"):
        Server(httpx.ReadTimeout("slow")).http().get("x")


def test_get__hangs__costs_one_time_out_and_not_four() -> None:
    server = Server(httpx.ReadTimeout("timed out"))
    with pytest.raises(Unavailable, match="took too long"):
        server.http().get("x")
    assert len(server.asked) == 1


def test_models__one_entry_is_odd__only_that_one_is_unreadable() -> None:
    good = {"name": "a", "last_updated_timestamp": 2000, "creation_timestamp": "1000"}
    odd = [{"last_updated_timestamp": 1}, {"name": "b", "last_updated_timestamp": "soon"}, "text", None]
    server = Server(answer({"registered_models": [good, *odd]}))
    found = MlflowModelStore(server.http()).models()
    assert [model.name for model in found if isinstance(model, StoredModel)] == ["a"]
    names = [model.name for model in found if isinstance(model, UnreadableEntry)]
    assert names == ["an entry without a name", "b", "'text'", "null"]


@pytest.mark.parametrize("aliases", [[{"alias": "x", "version": "seven"}], [{"version": "1"}], "x", [None]])
def test_models__odd_alias__costs_that_model_only(aliases: Any) -> None:
    server = Server(answer({"registered_models": [{"name": "a", "aliases": aliases}, {"name": "b"}]}))
    found = MlflowModelStore(server.http()).models()
    assert [type(model) for model in found] == [UnreadableEntry, StoredModel]


def test_models__page_names_itself_as_the_next__is_read_once() -> None:
    server = Server(answer({"registered_models": [{"name": "a"}], "next_page_token": "t"}))
    assert len(MlflowModelStore(server.http()).models()) == 2
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "run", [{"data": {"metrics": [{"key": "loss", "value": "much"}]}}, {"data": [1]}, {"data": 3}]
)
def test_version__odd_run__invalid_input_naming_the_version(run: Any) -> None:
    version = {"model_version": {"name": "a", "version": "1", "run_id": "r"}}
    server = Server(answer(version), answer({"run": run}))
    with pytest.raises(InvalidInput, match="version 1 of a cannot be understood") as refused:
        MlflowModelStore(server.http()).version("a", 1)
    assert refused.value.code == ODD_ANSWER


def test_get__address_with_a_password__never_shown_but_sent() -> None:
    server = Server(answer({}), httpx.ConnectError("refused"))
    http = server.http("http://ana:hunter2@mlflow.example:5500")
    http.get("x")
    assert server.asked[0].headers["Authorization"].startswith("Basic ")
    with pytest.raises(Unavailable) as caught:
        http.get("x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_get__not_now__tried_again(status: int) -> None:
    assert Server(answer({}, status), answer({"ok": 1})).http().get("x").whole("ok") == 1


def test_send__alias_collides_inside_mlflow__tried_again() -> None:
    collision = answer(
        {"error_code": "BAD_REQUEST", "message": "(sqlite3.IntegrityError) UNIQUE constraint"}, 400
    )
    server = Server(collision, answer({}))
    server.http().send("POST", "registered-models/alias", {"name": "x"})
    assert len(server.asked) == 2


def test_send__refused__rejected_at_once_with_mlflows_words() -> None:
    server = Server(
        answer({"error_code": "INVALID_PARAMETER_VALUE", "message": "alias 'v3' is reserved"}, 400)
    )
    with pytest.raises(Rejected, match="alias 'v3' is reserved"):
        server.http().send("POST", "registered-models/alias", {})
    assert len(server.asked) == 1


def test_get__does_not_exist__not_found() -> None:
    with pytest.raises(NotFound, match="name=x not found"):
        Server(answer(NOT_THERE, 404)).http().get("x")


def test_get__server_error__unavailable_with_its_message() -> None:
    with pytest.raises(Unavailable, match="disk I/O error") as caught:
        Server(answer({"error_code": "INTERNAL_ERROR", "message": "disk I/O error"}, 500)).http().get("x")
    assert not isinstance(caught.value, Rejected)


def test_get__host_not_allowed__rejected_with_a_hint() -> None:
    with pytest.raises(Rejected, match="allowed-hosts"):
        Server(httpx.Response(403, text="Invalid Host header")).http().get("x")


@pytest.mark.parametrize("response", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])])
def test_get__something_else_on_that_port__rejected_saying_it_is_not_mlflow(response: httpx.Response) -> None:
    with pytest.raises(Rejected, match="is not MLflow"):
        Server(response).http().get("x")


def test_download__ends_too_early__unavailable_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="3 of the 7 bytes"):
        Server(httpx.Response(200, content=b"abc")).http().download("a/b", tmp_path / "b", bytes_expected=7)


def test_download__connection_breaks__unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        Server(httpx.ReadError("reset")).http().download("a/b", tmp_path / "b", bytes_expected=7)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The seconds that the download measures its pace with."""
    made = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(mlflow_http, "time", SimpleNamespace(monotonic=lambda: made.seconds))
    return made


def dripping(steady: SimpleNamespace, *, pieces: int, size: int, seconds: float) -> Server:
    """Sends a file in pieces, each after so many seconds."""

    def body() -> Iterator[bytes]:
        for _ in range(pieces):
            steady.seconds += seconds
            yield b"x" * size

    return Server(lambda request: httpx.Response(200, content=body()))


@pytest.mark.parametrize("said", [None, 1 << 40])
def test_download__comes_too_slowly__given_up_after_minutes_whatever_its_size(
    tmp_path: Path, steady: SimpleNamespace, said: int | None
) -> None:
    server = dripping(steady, pieces=1000, size=PIECE_BYTES, seconds=10.0)
    with pytest.raises(Unavailable, match="took too long"):
        server.http().download("a/b", tmp_path / "b", bytes_expected=said)
    assert 300 < steady.seconds < 400


def test_download__slow_but_steady__comes_whole(tmp_path: Path, steady: SimpleNamespace) -> None:
    server = dripping(steady, pieces=2000, size=PIECE_BYTES, seconds=1.0)
    server.http().download("a/b", tmp_path / "b", bytes_expected=2000 * PIECE_BYTES)
    assert steady.seconds == 2000


def test_download__size_is_not_said__ends_within_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def noted(*arguments: Any, seconds: float, **others: Any) -> Any:
        limits.append(seconds)
        return asking(*arguments, seconds=seconds, **others)

    monkeypatch.setattr(mlflow_http, "asking", noted)
    Server(httpx.Response(200, content=b"abc")).http().download("a/b", tmp_path / "b", bytes_expected=None)
    assert limits == [UNSAID_SECONDS]
    assert UNSAID_SECONDS <= 24 * 3600


def test_download__several_pieces__progress_is_told_with_each(tmp_path: Path) -> None:
    told: list[int] = []
    server = Server(httpx.Response(200, content=iter([b"x" * PIECE_BYTES] * 3)))
    server.http().download("a/b", tmp_path / "b", bytes_expected=3 * PIECE_BYTES, progress=told.append)
    assert told == [PIECE_BYTES] * 3


def test_models__several_pages__all_of_them() -> None:
    first = {"registered_models": [{"name": "a", "last_updated_timestamp": 2000}], "next_page_token": "t"}
    second = {"registered_models": [{"name": "b", "last_updated_timestamp": 1000}]}
    server = Server(answer(first), answer(second))
    store = MlflowModelStore(server.http())
    models = [model for model in store.models() if isinstance(model, StoredModel)]
    assert [(model.name, model.updated_at) for model in models] == [("a", 2.0), ("b", 1.0)]
    assert server.asked[1].url.params["page_token"] == "t"


def test_versions__name_with_a_quote__quoted_the_other_way() -> None:
    server = Server(answer({"model_versions": [{"name": "it's", "version": "1"}]}))
    MlflowModelStore(server.http()).versions("it's")
    assert server.asked[0].url.params["filter"] == 'name="it\'s"'


def test_version__metrics_not_finite_or_older__left_out() -> None:
    metrics = [
        {"key": "loss", "value": "NaN", "timestamp": 9},
        {"key": "accuracy", "value": 0.9, "timestamp": 2, "step": 1},
        {"key": "accuracy", "value": 0.8, "timestamp": 1, "step": 0},
    ]
    version = {"name": "a", "version": "1", "source": "models:/m-1", "status": "READY"}
    server = Server(
        answer({"model_version": version}),
        answer({"model": {"info": {"status": "LOGGED_MODEL_READY"}, "data": {"metrics": metrics}}}),
    )
    assert dict(MlflowModelStore(server.http()).version("a", 1).metrics) == {"accuracy": 0.9}


def test_version__its_run_was_deleted_for_good__still_read() -> None:
    version = {"name": "a", "version": "1", "source": "s3://b/c", "status": "READY", "run_id": "r"}
    server = Server(answer({"model_version": version}), answer(NOT_THERE, 404))
    assert MlflowModelStore(server.http()).version("a", 1).run_name == ""


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", ""])
def test_download__listed_name_leaves_the_folder__rejected(tmp_path: Path, name: str) -> None:
    version = {"name": "a", "version": "1", "source": "models:/m-1", "status": "READY"}
    server = Server(
        answer({"model_version": version}),
        answer({"model": {"info": {"status": "LOGGED_MODEL_READY"}}}),
        answer({"artifact_uri": "mlflow-artifacts:/1/models/m-1/artifacts"}),
        answer({"files": [{"path": name, "is_dir": False, "file_size": 1}]}),
    )
    store = MlflowModelStore(server.http())
    with pytest.raises(Rejected, match="leaves the folder"):
        store.download(store.version("a", 1), tmp_path)


def test_alias_at__one_of_several__the_version_of_that_one() -> None:
    aliases = [{"alias": "other", "version": "3"}, {"alias": "production", "version": "7"}]
    server = Server(answer({"registered_model": {"name": "a", "aliases": aliases}}))
    assert MlflowModelStore(server.http()).alias_at("a", "production") == 7
