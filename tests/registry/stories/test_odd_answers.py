"""MLflow answers oddly about one thing: it alone is kept out, with its words, and everything else is mirrored.

The real adapter on a stand-in at the edge of its client; on SQLite and on PostgreSQL, which takes less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import HeadgateError
from controlplane.passes.models import ItemTrouble
from controlplane.passes.selectors import troubles_by_pass
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
from registry.models import ManifestState, MirrorState, Model, Version
from registry.services.hooks import receive_delivery
from registry.services.manifests import register_pending_manifests
from registry.services.mirror import ask_again, mirror_models
from tests.factories.weights import safetensors
from tests.registry.domain.test_webhooks import sign
from tests.standins.odd import LONG_NUMBER, LONG_TEXT, NUL, SURROGATE, assert_storable, odd_bodies, written

pytestmark = pytest.mark.django_db

STAMP = 1_700_000_000_000
YEAR_50_000 = 1_515_710_000_000_000
INT64 = 2**63 - 1
TICK = timedelta(minutes=10)
DROP = "@@drop@@"
Place = tuple[str, ...]
WEIGHTS = safetensors()


@dataclass
class Mlflow:
    """Three models `a`, `b` and `c` with a version, a run, a LoggedModel and a file each; `odd` says what is changed
    about b: a value by its place (`model`, `version`, `run` or `logged`, then names and numbers), and `whole` answers
    instead of an answer about b by its call."""

    odd: dict[Place, Any] = field(default_factory=dict)
    whole: dict[str, httpx.Response] = field(default_factory=dict)
    files: list[Any] = field(
        default_factory=lambda: [{"path": "model.safetensors", "is_dir": False, "file_size": len(WEIGHTS)}]
    )

    def store(self) -> MlflowModelStore:
        http = MlflowHttp(
            "http://mlflow.example", transport=httpx.MockTransport(self._answer), sleep=lambda seconds: None
        )
        return MlflowModelStore(http)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        call = request.url.path.removeprefix("/api/2.0/mlflow/").removeprefix("/api/2.0/mlflow-artifacts/")
        asked = request.url.params
        who = self._who(str(request.url), asked.get("name", ""))
        kind = "logged" if call.startswith("logged-models/") else call
        if who == "b" and kind in self.whole:
            return self.whole[kind]
        if kind == "registered-models/search":
            found: Any = {"registered_models": [self._said("model", name) for name in "abc"]}
        elif kind == "registered-models/get":
            found = {"registered_model": self._said("model", who)}
        elif kind == "model-versions/search":
            found = {"model_versions": [self._said("version", who)]}
        elif kind == "model-versions/get":
            found = {"model_version": self._said("version", who)}
        elif kind == "model-versions/get-download-uri":
            found = {"artifact_uri": f"models:/m-{who}"}
        elif kind == "runs/get":
            found = {"run": self._said("run", who)}
        elif kind == "logged":
            found = {"model": self._said("logged", who)}
        elif asked.get("path"):
            found = {"files": self.files if who == "b" else Mlflow().files}
        else:
            return httpx.Response(200, content=WEIGHTS)
        return httpx.Response(200, content=written(found))

    @staticmethod
    def _who(url: str, name: str) -> str:
        if len(name) == 1:
            return name
        known = re.search(r"name%3D%27([abc])%27|(?:m-|r-|m%2F)([abc])", url)
        return next((letter for letter in (known.groups() if known else ()) if letter), "b")

    def _said(self, kind: str, who: str) -> Any:
        said: dict[str, Any] = {"it": RIGHT[kind](who)}
        for (first, *way), value in self.odd.items() if who == "b" else ():
            if first != kind:
                continue
            holder: Any = said
            for step in ("it", *way)[:-1]:
                holder = holder[int(step) if isinstance(holder, list) else step]
            last: Any = ("it", *way)[-1]
            if value == DROP:
                del holder[last]
            else:
                holder[int(last) if isinstance(holder, list) else last] = value
        return said["it"]


RIGHT: dict[str, Any] = {
    "model": lambda who: {
        "name": who,
        "description": "routes tickets",
        "creation_timestamp": STAMP,
        "last_updated_timestamp": STAMP,
        "aliases": [{"alias": "production", "version": "1"}],
        "tags": [{"key": "owner", "value": "ana"}],
    },
    "version": lambda who: {
        "name": who,
        "version": "1",
        "source": f"models:/m-{who}",
        "status": "READY",
        "run_id": f"r-{who}",
        "creation_timestamp": STAMP,
        "last_updated_timestamp": STAMP,
        "description": "",
        "tags": [{"key": "owner", "value": "ana"}],
    },
    "run": lambda who: {
        "info": {"run_name": "ft"},
        "data": {"params": [{"key": "lr", "value": "1e-3"}]},
        "inputs": {"dataset_inputs": [{"dataset": {"name": "tickets", "digest": "77be"}}]},
    },
    "logged": lambda who: {
        "info": {
            "status": "LOGGED_MODEL_READY",
            "artifact_uri": f"mlflow-artifacts:/1/models/m-{who}/artifacts",
        },
        "data": {"metrics": [{"key": "loss", "value": 0.5, "timestamp": STAMP, "step": 3}]},
    },
}

# What the registry cannot keep: it stays out.
REFUSED: dict[str, tuple[Place, Any]] = {
    "an entry that is null": (("model",), None),
    "an entry that is a list": (("model",), [1]),
    "a name that is missing": (("model", "name"), DROP),
    "a name that is a number": (("model", "name"), 7),
    "a name with NUL": (("model", "name"), NUL),
    "half a character in a name": (("model", "name"), SURROGATE),
    "a name that is an address": (("model", "name"), "a/b"),
    "a name of 300 characters": (("model", "name"), "x" * 300),
    "a name that turns text around": (("model", "name"), "a\u202eb"),
    "a description of a megabyte": (("model", "description"), LONG_TEXT),
    "a description that is a list": (("model", "description"), ["x"]),
    "tags that are null": (("model", "tags"), None),
    "tags that are text": (("model", "tags"), "owner"),
    "a tag without a name": (("model", "tags", "0", "key"), DROP),
    "a tag that is a number": (("model", "tags", "0", "value"), 7),
    "aliases that are null": (("model", "aliases"), None),
    "an alias to version seven": (("model", "aliases", "0", "version"), "seven"),
    "an alias to version 2^63": (("model", "aliases", "0", "version"), 2**63),
    "an alias with NUL": (("model", "aliases", "0", "alias"), NUL),
    "a time in the year 50,000": (("model", "creation_timestamp"), YEAR_50_000),
    "a time before 1970": (("model", "creation_timestamp"), -1),
    "the last time of 64 bits": (("model", "last_updated_timestamp"), INT64),
    "a time of 5,000 digits": (("model", "last_updated_timestamp"), LONG_NUMBER),
    "a time that is none": (("model", "creation_timestamp"), float("nan")),
    "a version that is text": (("version", "version"), "three"),
    "version 0": (("version", "version"), 0),
    "version 2^31": (("version", "version"), 2**31),
    "a version that is null": (("version", "version"), None),
    "a version's time in the year 50,000": (("version", "creation_timestamp"), YEAR_50_000),
    "a version's tags as an object": (("version", "tags"), {"owner": "ana"}),
    "a run id with half a character": (("version", "run_id"), SURROGATE),
    "a run id of 70 characters": (("version", "run_id"), "r" * 70),
    "a source that leads elsewhere": (("version", "source"), "models:/m-../../users"),
    "a status that is a number": (("version", "status"), 7),
    "a run that is null": (("run",), None),
    "a run's data that are null": (("run", "data"), None),
    "a parameter without a name": (("run", "data", "params", "0", "key"), DROP),
    "a metric that is text": (("logged", "data", "metrics", "0", "value"), "much"),
    "a metric at a time of 5,000 digits": (("logged", "data", "metrics", "0", "timestamp"), LONG_NUMBER),
    "a LoggedModel's status that is a list": (("logged", "info", "status"), []),
    "a LoggedModel that is text": (("logged",), "gone"),
}
# What can be made storable, or says nothing that is needed: it is taken.
TAKEN: dict[str, tuple[Place, Any]] = {
    "a description with NUL": (("model", "description"), NUL),
    "a description with half a character": (("model", "description"), SURROGATE),
    "a description that is null": (("model", "description"), None),
    "a tag with NUL": (("model", "tags", "0"), {"key": NUL, "value": NUL}),
    "a tag without a value": (("model", "tags", "0", "value"), DROP),
    "no aliases": (("model", "aliases"), DROP),
    "an alias to a version that is missing": (("model", "aliases", "0", "version"), "99"),
    "a time as text": (("model", "creation_timestamp"), str(STAMP)),
    "a version as a number": (("version", "version"), 1),
    "a version's description with NUL": (("version", "description"), NUL),
    "a source that is null": (("version", "source"), None),
    "a run without data": (("run", "data"), DROP),
    "a run's name with NUL": (("run", "info", "run_name"), NUL),
    "a run's name of 300,000 bytes less one third": (("run", "info", "run_name"), "x" * 150_000),
    "a parameter with half a character": (("run", "data", "params", "0", "value"), SURROGATE),
    "a metric that is not a number": (("logged", "data", "metrics", "0", "value"), "NaN"),
    "a metric that is endless": (("logged", "data", "metrics", "0", "value"), float("inf")),
    "a metric with NUL": (("logged", "data", "metrics", "0", "key"), NUL),
    "a metric at the last step of 64 bits": (("logged", "data", "metrics", "0", "step"), INT64),
    "a data set that is null": (("run", "inputs", "dataset_inputs", "0", "dataset", "name"), None),
}
HTML = b"<html>\x00 It works </html>"
WHOLE: dict[str, httpx.Response] = {
    "an error with NUL in its words": httpx.Response(500, content=b'{"message": "no \\u0000 disk"}'),
    "an error that is no JSON": httpx.Response(500, content=HTML),
    "a page of something else": httpx.Response(200, content=HTML),
    "a redirect": httpx.Response(302, content=b"{}", headers={"Location": "http://elsewhere/"}),
    "a list": httpx.Response(200, content=b"[1]"),
    "nothing": httpx.Response(200, content=b""),
    "an answer that is nested without end": httpx.Response(200, content=b'{"a":' * 100_000),
    "no such thing, with NUL": httpx.Response(
        404, content=b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "b \\u0000 is gone"}'
    ),
}
NAME_OF_AN_EXCEPTION = re.compile(r"^\w*(Error|Exception|Overflow)\b")


def mirror(mlflow: Mlflow, now: datetime) -> str:
    """One pass; returns what the store itself is blamed for."""
    return mirror_models(store=mlflow.store(), clock=ManualClock(now)).error


def whole_versions() -> set[str]:
    """Versions whose model and details were read."""
    return {
        str(version) for version in Version.objects.exclude(details_at=None).exclude(gone_at__isnull=False)
    }


def troubles() -> list[str]:
    found = [trouble.error for trouble in ItemTrouble.objects.all()]
    for words in found:
        assert_storable(words)
        assert not NAME_OF_AN_EXCEPTION.search(words), words
    return found


@pytest.mark.parametrize("what", REFUSED)
def test_mirror__what_cannot_be_kept__stays_out_with_its_words_and_the_others_are_whole(
    what: str, now: datetime
) -> None:
    place, value = REFUSED[what]
    assert mirror(Mlflow(odd={place: value}), now) == ""
    assert {"a v1", "c v1"} <= whole_versions()
    assert "b v1" not in whole_versions()
    assert troubles()
    assert not MirrorState.objects.get().is_down


@pytest.mark.parametrize("what", TAKEN)
def test_mirror__what_can_be_made_storable__is_taken(what: str, now: datetime) -> None:
    place, value = TAKEN[what]
    assert mirror(Mlflow(odd={place: value}), now) == ""
    assert whole_versions() == {"a v1", "b v1", "c v1"}
    assert troubles() == []


@pytest.mark.parametrize("call", ["model-versions/search", "model-versions/get", "runs/get", "logged"])
@pytest.mark.parametrize("what", WHOLE)
def test_mirror__whole_answer_about_one_model_is_odd__the_others_are_whole(
    what: str, call: str, now: datetime
) -> None:
    assert mirror(Mlflow(whole={call: WHOLE[what]}), now) == ""
    assert {"a v1", "c v1"} <= whole_versions()
    troubles()
    assert not MirrorState.objects.get().is_down


@pytest.mark.parametrize("what", WHOLE)
def test_mirror__list_of_models_itself_is_odd__said_in_storable_words_and_nothing_is_lost(
    what: str, now: datetime
) -> None:
    assert mirror(Mlflow(), now) == ""

    def everything(request: httpx.Request) -> httpx.Response:
        return WHOLE[what]

    http = MlflowHttp(
        "http://mlflow.example", transport=httpx.MockTransport(everything), sleep=lambda s: None
    )
    report = mirror_models(store=MlflowModelStore(http), clock=ManualClock(now + TICK))
    state = MirrorState.objects.get()
    assert report.error
    assert state.last_error == report.error
    assert not NAME_OF_AN_EXCEPTION.search(report.error)
    assert_storable(report.error)
    assert list(Model.objects.filter(gone_at=None).values_list("name", flat=True)) == ["a", "b", "c"]


def test_mirror__odd_once_and_right_again__the_words_are_shown_and_then_gone(now: datetime) -> None:
    mirror_models(store=Mlflow(odd={("model", "tags"): None}).store(), clock=ManualClock(now))
    (shown,) = troubles_by_pass()
    assert shown.sentence == (
        "entry 2 (b): What MLflow says of b cannot be understood: tags is null, which is no list."
    )
    mirror_models(store=Mlflow().store(), clock=ManualClock(now + TICK))
    assert troubles_by_pass() == ()
    assert whole_versions() == {"a v1", "b v1", "c v1"}


def test_mirror__aliases_are_null_for_once__what_is_known_of_them_stays(now: datetime) -> None:
    mirror(Mlflow(), now)
    mirror(Mlflow(odd={("model", "aliases"): None}), now + TICK)
    assert list(Model.objects.get(name="b").aliases.values_list("name", flat=True)) == ["production"]


FILES: dict[str, list[Any]] = {
    "an entry that is null": [None],
    "a name with NUL": [{"path": NUL, "is_dir": False, "file_size": len(WEIGHTS)}],
    "a name with half a character": [{"path": SURROGATE, "is_dir": False, "file_size": len(WEIGHTS)}],
    "a name of 300 characters": [{"path": "x" * 300, "is_dir": False, "file_size": len(WEIGHTS)}],
    "a name twice": [{"path": "x", "is_dir": False, "file_size": len(WEIGHTS)}] * 2,
    "a size that is text": [{"path": "x", "is_dir": False, "file_size": "much"}],
    "a size below nothing": [{"path": "x", "is_dir": False, "file_size": -1}],
    "a folder that holds itself": [{"path": "x", "is_dir": True}],
}


@pytest.mark.parametrize("what", FILES)
def test_manifests__odd_list_of_files__that_version_is_not_served_and_the_others_are(
    what: str, now: datetime, models_dir: Path
) -> None:
    mlflow = Mlflow(files=FILES[what])
    mirror(mlflow, now)
    clock = ManualClock(now)
    report = register_pending_manifests(store=mlflow.store(), models_dir=models_dir, clock=clock)
    states = {str(v): (v.manifest_state, v.manifest_problem) for v in Version.objects.all()}
    assert (states["a v1"][0], states["c v1"][0]) == (ManifestState.VERIFIED, ManifestState.VERIFIED)
    assert states["b v1"][0] != ManifestState.VERIFIED
    assert (len(troubles()) == 1) != bool(states["b v1"][1])
    assert_storable(states["b v1"][1])
    assert report.source == ""


EVENT = {"entity": "model_version", "action": "created", "data": {"name": "b", "version": "1"}}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=odd_bodies(EVENT), delivery=st.uuids())
def test_webhook__odd_body_that_is_signed__a_hint_that_the_database_takes_or_our_error(
    body: bytes, delivery: UUID, now: datetime
) -> None:
    stamp = str(int(now.timestamp()))
    try:
        name = receive_delivery(
            secret="s3cret",
            delivery_id=str(delivery),
            timestamp=stamp,
            signature=sign("s3cret", str(delivery), stamp, body),
            body=body,
            now=now,
        )
    except HeadgateError as error:
        assert_storable(str(error))
        return
    ask_again(models=[name] if name else [])
