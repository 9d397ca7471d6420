"""Pages of models and golden sets."""

from __future__ import annotations

import re
from datetime import timedelta
from io import BytesIO

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from controlplane.passes.models import ItemTrouble
from registry.domain.formats import FileClass, FormatKind
from registry.domain.manifest import Manifest, ManifestEntry
from registry.models import AliasMove, GoldenSet, MirrorState
from registry.selectors import MANIFESTS, MODELS
from registry.ui import views
from registry.ui.model_page import ModelPage, build
from tests import factories

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}
NOW = factories.right_now()
LINE = '{"messages": [{"role": "user", "content": "My invoice is wrong"}], "expected": "billing", "scorer": "exact"}'


@pytest.fixture
def engineer(client: Client) -> Client:
    client.force_login(factories.person())
    return client


@pytest.fixture
def viewer() -> Client:
    client = Client()
    client.force_login(factories.person(Role.VIEWER))
    return client


def page(version: int | None = None, role: Role = Role.ENGINEER) -> ModelPage:
    return build(name="triage", version=version, before=None, user=factories.person(role), now=NOW)


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path, headers=HTMX).status_code == 200
    return len(captured)


# --- models -----------------------------------------------------------------------------------------------------


def test_models__none__says_where_they_come_from(engineer: Client) -> None:
    text = engineer.get("/models").content.decode()
    assert "No model yet: models are registered in MLflow and appear here within seconds." in text


def test_models__list__shows_versions_aliases_and_changed_files(engineer: Client) -> None:
    model = factories.model()
    version = model.versions.get(number=2)
    version.manifest_state = "changed"
    version.save()
    text = engineer.get("/models").content.decode()
    assert "production v1" in text
    assert "1 changed" in text


def trouble(pass_name: str, item: object, error: str) -> None:
    ItemTrouble.objects.create(
        pass_name=pass_name, item=str(item), label="x", attempts=3, error=error,
        first_failed_at=NOW - timedelta(hours=2), last_attempt_at=NOW, next_attempt_at=NOW + timedelta(hours=5),
    )  # fmt: skip


def test_model__version_cannot_be_read__says_why_since_when_and_the_next_try(engineer: Client) -> None:
    version = factories.model(now=NOW).versions.get(number=3)
    version.manifest_state = "pending"
    version.save()
    trouble(MANIFESTS, version.pk, "MLflow at http://mlflow failed (500): bucket gone")
    text = engineer.get("/models/triage").content.decode()
    assert "v3 cannot be read." in text
    assert "failed (500): bucket gone" in text
    assert f"Since {NOW - timedelta(hours=2):%Y-%m-%d %H:%M} UTC; it is tried again at" in text
    assert "Cannot be read" in text


def test_model__one_of_its_versions_is_odd__said_at_the_model(engineer: Client) -> None:
    factories.model(now=NOW)
    trouble(
        MODELS, "triage", "Version 7: creation_timestamp is 1e+30, which is no time between 1970 and 2100."
    )
    text = engineer.get("/models/triage").content.decode()
    assert "Not all of this model can be read." in text
    assert "Version 7: creation_timestamp is 1e+30" in text


def test_model__renamed_in_mlflow__says_what_it_was_called(engineer: Client) -> None:
    model = factories.model(now=NOW)
    model.former_name, model.renamed_at = "tickets", NOW
    model.save()
    assert "Called <b>tickets</b> until" in engineer.get("/models/triage").content.decode()


def test_models__more_of_them__cost_the_same(engineer: Client) -> None:
    factories.model("a")
    before = queries(engineer, "/models")
    for name in ("b", "c", "d"):
        factories.model(name)
    assert queries(engineer, "/models") == before <= 6


def test_model__newest_version__is_traced_unless_another_is_chosen() -> None:
    factories.model(now=NOW)
    assert page().chosen.label == "v3"  # type: ignore[union-attr]
    chosen = page(version=1)
    assert chosen.chosen.label == "v1"  # type: ignore[union-attr]
    assert [line.chosen for line in chosen.versions] == [False, False, True]
    assert [file.entry.path for file in chosen.chosen_files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_model__scores__are_those_of_the_versions() -> None:
    factories.model(now=NOW)
    built = page()
    assert built.scores == (("v1", 0.72), ("v2", 0.97), ("v3", 0.41))
    assert [(measure.name, measure.now) for measure in built.measures] == [
        ("accuracy", "0.41"),
        ("loss", "0.99"),
    ]
    assert built.versions[1].score_percent == 100


def test_model__changed_version__is_refused_with_the_file_named(engineer: Client) -> None:
    version = factories.model().versions.get(number=3)
    version.manifest_state = "changed"
    version.manifest_problem = "The file model.safetensors differs from the manifest."
    version.save()
    text = engineer.get("/models/triage").content.decode()
    assert "v3 is no longer what was registered." in text
    assert "refused: The file model.safetensors differs" in text
    assert 'href="/rollouts/new?version=3"' not in text
    assert 'href="/rollouts/new?version=2"' in text


def test_model__files__shown_with_their_kind_and_what_is_to_be_known(engineer: Client) -> None:
    version = factories.model().versions.get(number=3)
    version.file_classes = [
        FileClass("config.json", FormatKind.CONFIGURATION, finding="asks for <code> of its own").to_json(),
        FileClass("model.safetensors", FormatKind.PICKLE, why="is a pickle").to_json(),
    ]
    version.save()
    text = engineer.get("/models/triage").content.decode()
    assert "config.json asks for &lt;code&gt; of its own." in text
    assert "model.safetensors is a pickle. It may be served because the operator allowed it." in text
    kinds = [line.kind for line in page().chosen_files]
    assert kinds == ["pickle", "configuration", "not checked yet"]
    assert "pickle, not data" in text


def test_model__mlflow_down__says_so_and_keeps_what_is_known(engineer: Client) -> None:
    factories.model()
    MirrorState.objects.filter(id=1).update(
        last_error="connection refused", last_error_at=NOW + timedelta(hours=1)
    )
    text = engineer.get("/models/triage").content.decode()
    assert "does not answer" in text
    assert "connection refused" in text
    assert "v3" in text


def test_model__viewer__sees_why_no_rollout_can_be_started(viewer: Client) -> None:
    factories.model()
    text = viewer.get("/models/triage").content.decode()
    assert "New rollout: Needs engineer." in text
    assert "/rollouts/new" not in text


def test_model__more_versions__cost_the_same(engineer: Client) -> None:
    model = factories.model(versions=3)
    before = queries(engineer, "/models/triage")
    for number in range(4, 9):
        factories.version(model, number)
    assert queries(engineer, "/models/triage") == before <= 15


def test_model__more_than_its_lists_show__is_counted_and_said_where(engineer: Client) -> None:
    model = factories.model()
    version = model.versions.get(number=3)
    version.params = {f"p{number:02}": "1" for number in range(15)}
    version.metrics = {f"m{number:02}": 0.5 for number in range(9)}
    version.datasets = [{"name": f"d{number}", "digest": "77be"} for number in range(5)]
    files = [ManifestEntry(f"part-{number:02}.safetensors", 10, "0" * 64) for number in range(45)]
    version.manifest = Manifest.of(files).to_json()
    version.file_classes = [FileClass("part-44.safetensors", FormatKind.PICKLE, why="is a pickle").to_json()]
    version.save()
    move = AliasMove.objects.get()
    for _ in range(24):
        move.pk = None
        move.save()
    text = engineer.get("/models/triage").content.decode()
    where = '<span class="mono">/api/v1/models/triage'
    assert f"5 more files: all are in {where}/versions/3</span>" in text
    assert f"3 more: all are in {where}/versions/3</span>" in text
    assert f"and 3 more, in {where}/versions/3</span>" in text
    assert f"5 older: all are in {where}/alias-moves</span>" in text
    assert f"more measures: all are in {where}/versions</span>" in text
    assert page().chosen_files[0].entry.path == "part-44.safetensors"


def test_model__more_versions_with_problems_than_are_told__says_how_many(engineer: Client) -> None:
    model = factories.model(versions=28)
    model.versions.update(manifest_state="changed", manifest_problem="The file config.json differs.")
    text = engineer.get("/models/triage").content.decode()
    assert text.count("is no longer what was registered.") == 25
    assert "3 older versions need attention too." in text


def test_model__newest_page_of_versions_refused__still_offers_the_newest_that_may_be_launched() -> None:
    model = factories.model(versions=28, now=NOW)
    model.versions.filter(number__gt=2).update(manifest_state="failed", manifest_problem="A pickle.")
    assert page().newest_launchable == 2


@pytest.mark.parametrize("path", ["/models/nobody", "/models/triage?version=9"])
def test_model__unknown__is_not_found(engineer: Client, path: str) -> None:
    factories.model()
    assert engineer.get(path).status_code == 404


def test_model__without_versions__says_so(engineer: Client) -> None:
    factories.model(versions=1).versions.all().delete()
    text = engineer.get("/models/triage").content.decode()
    assert "No version yet" in text
    assert "There is no version to trace yet." in text


# --- golden sets ------------------------------------------------------------------------------------------------


def test_golden_sets__upload_file__makes_the_first_revision(engineer: Client) -> None:
    file = BytesIO(f"{LINE}\n".encode())
    file.name = "tickets.jsonl"
    response = engineer.post("/golden-sets", {"name": "tickets", "file": file})
    assert response.status_code == 303
    assert response.headers["Location"] == "/golden-sets/tickets"
    made = GoldenSet.objects.get()
    assert (made.label, made.size) == ("tickets@1", 1)
    assert "My invoice is wrong" in engineer.get("/golden-sets/tickets").content.decode()


def test_golden_sets__pasted_lines__make_the_next_revision(engineer: Client) -> None:
    factories.golden_set()
    engineer.post("/golden-sets", {"name": "tickets", "text": LINE})
    assert GoldenSet.objects.order_by("-revision")[0].label == "tickets@2"
    assert "@1" in engineer.get("/golden-sets/tickets").content.decode()


def test_golden_sets__wrong_line__is_named_and_nothing_kept(engineer: Client) -> None:
    response = engineer.post("/golden-sets", {"name": "tickets", "text": f'{LINE}\n{{"expected": 1}}'})
    text = response.content.decode()
    assert response.status_code == 400
    assert "Not kept." in text
    assert "Line 2" in text
    assert "My invoice is wrong" in text
    assert not GoldenSet.objects.exists()


def test_golden_sets__file_is_not_utf8__says_where(engineer: Client) -> None:
    file = BytesIO(b"\xff\xfe")
    file.name = "bad.jsonl"
    response = engineer.post("/golden-sets", {"name": "tickets", "file": file})
    assert response.status_code == 400
    assert "bad.jsonl is not UTF-8 (byte 0)." in response.content.decode()


def test_golden_sets__file_too_large__is_refused(engineer: Client) -> None:
    file = BytesIO(b"x" * (5 * 1024 * 1024 + 1))
    file.name = "big.jsonl"
    response = engineer.post("/golden-sets", {"name": "tickets", "file": file})
    assert response.status_code == 400
    assert "big.jsonl is larger than 5 MiB." in response.content.decode()


def test_golden_sets__viewer__may_look_but_not_upload(viewer: Client) -> None:
    factories.golden_set()
    text = viewer.get("/golden-sets").content.decode()
    assert "tickets" in text
    assert "Needs engineer." in text
    assert viewer.post("/golden-sets", {"name": "tickets", "text": LINE}).status_code == 403
    assert GoldenSet.objects.count() == 1


def test_golden_sets__more_than_a_page__every_one_is_met(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "SETS_A_PAGE", 2)
    for name in ("d", "b", "a", "c", "e"):
        factories.golden_set(name)
    seen = walk(engineer, "/golden-sets", link=r'href="(\?after=[^"]+)"', row=r'href="/golden-sets/([a-z]+)"')
    assert seen == [["a", "b"], ["c", "d"], ["e"]]


def test_golden_set__more_prompts_than_a_page__every_one_is_met_with_its_number(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "EXAMPLES_A_PAGE", 5)
    factories.golden_set(size=12)
    assert "1 to 5 of 12" in engineer.get("/golden-sets/tickets").content.decode()
    seen = walk(
        engineer,
        "/golden-sets/tickets",
        link=r'href="(\?revision=1&amp;after=[^"]+)"',
        row=r'scope="row" class="num">(\d+)<',
    )
    assert seen == [[str(n) for n in page] for page in (range(1, 6), range(6, 11), range(11, 13))]


def test_golden_set__more_revisions_than_a_page__every_one_is_met(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "REVISIONS_A_PAGE", 2)
    for number in range(5):
        line = LINE.replace("billing", f"billing-{number}")
        engineer.post("/golden-sets", {"name": "tickets", "text": line})
    seen = walk(
        engineer,
        "/golden-sets/tickets",
        link=r'href="(\?revision=5&amp;before=[^"]+)"',
        row=r'href="\?revision=(\d)[^"]*">@',
    )
    assert seen == [["5", "4"], ["3", "2"], ["1"]]


@pytest.mark.parametrize("path", ["/golden-sets", "/golden-sets/tickets"])
def test_golden_sets__more_of_them__cost_the_same(engineer: Client, path: str) -> None:
    factories.golden_set(size=3)
    before = queries(engineer, path)
    for name in ("b", "c", "d"):
        factories.golden_set(name)
    engineer.post("/golden-sets", {"name": "tickets", "text": LINE})
    assert queries(engineer, path) == before <= 6


def walk(client: Client, path: str, *, link: str, row: str) -> list[list[str]]:
    """What the pages from `path` on show, one after another, as a person turns them."""
    seen, query = [], ""
    while True:
        text = client.get(f"{path}{query}").content.decode()
        seen.append(re.findall(row, text))
        onward = re.findall(link, text)
        if not onward:
            return seen
        query = onward[0].replace("&amp;", "&")


def test_golden_set__unknown__is_not_found(engineer: Client) -> None:
    assert engineer.get("/golden-sets/nobody").status_code == 404
    factories.golden_set()
    assert engineer.get("/golden-sets/tickets?revision=7").status_code == 404
