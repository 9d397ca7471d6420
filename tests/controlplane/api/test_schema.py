from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from controlplane.access.services import Scope
from controlplane.api.permissions import need_of

STORES_NOTHING = {
    ("POST", "api/v1/gate-policies/check")
}  # asks with a body; a pipeline may check with `read`
SNAPSHOT = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return yaml.safe_load(SNAPSHOT.read_text())  # type: ignore[no-any-return]


def test_snapshot__compared_with_the_code__is_fresh() -> None:
    fresh = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=fresh)

    assert fresh.getvalue().strip() == SNAPSHOT.read_text().strip(), "stale: make openapi"


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_snapshot__every_call__has_a_summary_a_tag_and_the_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert operation.get("tags"), name
        assert "application/problem+json" in operation["responses"]["default"]["content"], name


def api_views(patterns: list[Any], below: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            found += api_views(pattern.url_patterns, below + str(pattern.pattern))
        elif isinstance(pattern, URLPattern) and below.startswith("api/v1/"):
            found.append((below + str(pattern.pattern), getattr(pattern.callback, "cls", None)))
    return found


def test_every_post__of_the_api__honours_the_idempotency_key() -> None:
    views = [(path, view) for path, view in api_views(get_resolver().url_patterns) if hasattr(view, "post")]

    for path, view in views:
        assert getattr(view.post, "is_idempotent", False), path


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_writing_method__of_the_api__says_what_it_needs(method: str) -> None:
    for path, view in api_views(get_resolver().url_patterns):
        if hasattr(view, method.lower()):
            reads = need_of(view(), method).scope is Scope.READ
            assert reads == ((method, path) in STORES_NOTHING), path


@pytest.mark.django_db
def test_schema__anybody__gets_it_as_yaml(client: Client) -> None:
    response = client.get("/api/v1/schema")

    assert response.status_code == 200
    assert yaml.safe_load(response.content)["info"]["title"] == "Headgate"


@pytest.mark.django_db
def test_docs__page__has_no_inline_script_or_style_and_a_policy_of_its_own(client: Client) -> None:
    response = client.get("/api/v1/docs")
    page = response.content.decode()

    assert response.status_code == 200
    assert "<style" not in page
    assert "<script>" not in page
    directives = {part.strip() for part in response["Content-Security-Policy"].split(";")}
    assert {"script-src 'self'", "style-src 'self'", "img-src 'self' data:"} <= directives


@pytest.mark.django_db
def test_policy__any_other_answer__stays_strict(client: Client) -> None:
    assert "data:" not in client.get("/api/v1/schema")["Content-Security-Policy"]
    assert "unsafe" not in client.get("/api/v1/docs")["Content-Security-Policy"]


FREE = {
    # The domain reads these and names what is wrong in them.
    "ServingFormRequest.engine",
    "ServingFormRequest.arguments",
    "ServingFormRequest.environment",
    "ServingFormRequest.resources",
}
BOUNDS = {
    "string": ("maxLength", "enum", "format"),
    "integer": ("maximum",),
    "number": ("maximum",),
    "array": ("maxItems",),
}


def unbounded(schema: dict[str, Any], name: str, components: dict[str, Any]) -> list[str]:
    """Names of the values inside that may be as long or as large as one likes, as far as the document says."""
    if "$ref" in schema:
        ref = schema["$ref"].rpartition("/")[2]
        return unbounded(components[ref], ref, components)
    if "allOf" in schema or "oneOf" in schema:
        return [
            found
            for one in (schema.get("allOf") or schema["oneOf"])
            for found in unbounded(one, name, components)
        ]
    kind = schema.get("type")
    found = (
        []
        if name in FREE
        or not kind
        or set(BOUNDS.get(kind, ())) & set(schema)
        or kind in ("boolean", "object")
        else [name]
    )
    for inner, value in schema.get("properties", {}).items():
        found += unbounded(value, f"{name}.{inner}", components)
    return found + (unbounded(schema["items"], f"{name}[]", components) if "items" in schema else [])


def test_snapshot__every_value_that_is_sent__has_the_bound_that_is_kept(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    found = set()
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "path":  # those are looked up, not kept; the edge bounds the whole path
                found |= set(unbounded(parameter["schema"], f"{name} {parameter['name']}", components))
        for body in operation.get("requestBody", {}).get("content", {}).values():
            found |= set(unbounded(body["schema"], name, components))
    assert found == set()
