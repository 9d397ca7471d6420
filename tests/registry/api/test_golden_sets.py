from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.access.services import Scope
from registry.models import GoldenSet
from tests.registry.api.conftest import ClientOf

pytestmark = pytest.mark.django_db

PATH = "/api/v1/golden-sets"
EXAMPLES: list[dict[str, Any]] = [
    {"prompt": "Refund?", "expected": "billing"},
    {"prompt": "Parcel?", "expected": "shipping", "scorer": "contains"},
]
TEXT = "\n".join(json.dumps(example) for example in EXAMPLES)


def test_upload__json_lines__created(client_of: ClientOf) -> None:
    answer = client_of().post(PATH, {"name": "tickets", "text": TEXT}, format="json")
    body = answer.json()
    assert (answer.status_code, body["label"], body["size"], body["created_by"]) == (
        201,
        "tickets@1",
        2,
        "a-engineer",
    )


def test_upload__array_of_the_same__the_same_revision(client_of: ClientOf) -> None:
    client = client_of()
    first = client.post(PATH, {"name": "tickets", "text": TEXT}, format="json")
    second = client.post(PATH, {"name": "tickets", "examples": EXAMPLES}, format="json")
    assert (second.status_code, second.json()) == (200, first.json())


def test_upload__faulty_lines__each_named_and_nothing_kept(client_of: ClientOf) -> None:
    text = TEXT + '\n{"prompt": "x"}\n{'
    answer = client_of().post(PATH, {"name": "tickets", "text": text}, format="json")
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "golden-set-lines")
    assert [(error["line"], error["field"]) for error in body["extra"]["errors"]] == [
        (3, "expected"),
        (4, ""),
    ]
    assert not GoldenSet.objects.exists()


def test_upload__array_element_of_a_wrong_kind__its_place_is_named(client_of: ClientOf) -> None:
    answer = client_of().post(PATH, {"name": "tickets", "examples": [EXAMPLES[0], 5]}, format="json")
    assert answer.status_code == 422
    assert answer.json()["extra"]["errors"][0]["line"] == 2


@pytest.mark.parametrize(
    "body", [{"name": "t"}, {"name": "t", "text": TEXT, "examples": EXAMPLES}, {"text": TEXT}]
)
def test_upload__wrong_form__bad_request(client_of: ClientOf, body: dict[str, Any]) -> None:
    answer = client_of().post(PATH, body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-input")


def test_upload__name_not_a_slug__refused_naming_the_field(client_of: ClientOf) -> None:
    answer = client_of().post(PATH, {"name": "My Tickets", "text": TEXT}, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "name")


def test_upload__several_megabytes__taken(client_of: ClientOf) -> None:
    examples = [{"prompt": f"{number} " + "x" * 30_000, "expected": "y"} for number in range(120)]
    answer = client_of().post(PATH, {"name": "long", "examples": examples}, format="json")
    assert (answer.status_code, answer.json()["size"]) == (201, 120)


def test_upload__larger_than_the_server_takes__problem_that_says_so(client_of: ClientOf) -> None:
    answer = client_of().post(PATH, {"name": "long", "text": "x" * 11_000_000}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_upload__token_without_the_scope__forbidden_naming_it(client_of: ClientOf) -> None:
    answer = client_of(scopes=(Scope.READ,)).post(PATH, {"name": "tickets", "text": TEXT}, format="json")
    assert (answer.status_code, answer.json()["extra"]["needs"]) == (403, "registry:write")


def test_upload__viewer__forbidden(client_of: ClientOf) -> None:
    assert client_of("viewer").post(PATH, {"name": "t", "text": TEXT}, format="json").status_code == 403


def test_list__two_revisions__the_newest(client_of: ClientOf) -> None:
    client = client_of()
    for examples in (EXAMPLES, EXAMPLES[:1]):
        client.post(PATH, {"name": "tickets", "examples": examples}, format="json")
    assert [item["label"] for item in client.get(PATH).json()["items"]] == ["tickets@2"]
    revisions = client.get(f"{PATH}/tickets").json()["items"]
    assert [item["revision"] for item in revisions] == [2, 1]


def test_examples__of_a_revision__in_their_order(client_of: ClientOf) -> None:
    client = client_of()
    client.post(PATH, {"name": "tickets", "text": TEXT}, format="json")
    items = client.get(f"{PATH}/tickets/1/examples").json()["items"]
    assert [(item["position"], item["expected"], item["scorer"]) for item in items] == [
        (0, "billing", "exact"),
        (1, "shipping", "contains"),
    ]
    assert items[0]["messages"] == [{"role": "user", "content": "Refund?"}]


@pytest.mark.parametrize("path", [f"{PATH}/nobody", f"{PATH}/nobody/1/examples"])
def test_read__unknown_set__not_found(client_of: ClientOf, path: str) -> None:
    assert client_of().get(path).status_code == 404
