"""Whatever a call of the REST API is sent, it is answered or refused: no answer is a fault of ours."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
import yaml
from django.conf import settings as django
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.fuzz import odd
from tests.fuzz.bodies import BODIES
from tests.fuzz.calls import MORE, QUIET, check, undone
from tests.fuzz.world import World
from tests.standins.odd import one_of_long

pytestmark = [pytest.mark.django_db, pytest.mark.story]

DOCUMENT = yaml.safe_load((Path(django.BASE_DIR) / "docs" / "openapi.yaml").read_text())
FOUND: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
OPERATIONS = [found.ok() for found in FOUND]
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)


@every_operation
def test_call__generated_from_the_document__is_no_fault_of_ours(operation: Any, world: World) -> None:
    generated = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @settings(max_examples=5 * MORE, **QUIET)
    @given(case=generated, data=st.data())
    def call(case: Any, data: st.DataObject) -> None:
        body = None if isinstance(case.body, schemathesis.core.NotSet) else case.body
        ask(world, operation, data, query=dict(case.query or {}), body=body)

    call()


@every_operation
def test_call__right_but_for_a_value__is_no_fault_of_ours(operation: Any, world: World) -> None:
    known = BODIES.get(operation.definition.raw["operationId"])
    assert (known is None) == (operation.method in ("get", "head")), (
        "bodies.py has a right body for each call"
    )

    @settings(max_examples=(25 if known else 8) * MORE, **QUIET)
    @given(data=st.data())
    def call(data: st.DataObject) -> None:
        names = [one.name for one in operation.query]
        query = {name: data.draw(odd.texts) for name in names if data.draw(st.booleans())}
        body = mutated(data, data.draw(st.sampled_from(known))) if known else None
        ask(world, operation, data, query=query, body=body)

    call()


def mutated(data: st.DataObject, right: dict[str, Any]) -> Any:
    """The body with up to two of its values, at any depth, replaced by odd ones; now and then it is odd itself."""
    if not data.draw(st.integers(0, 15)):
        return data.draw(odd.json_values)
    body = copy.deepcopy(right)
    for _ in range(data.draw(st.sampled_from((0, 1, 1, 1, 2)))):
        places = _places(body)
        holder, key = data.draw(st.sampled_from(places))
        holder[key] = data.draw(odd.json_values)
        if isinstance(holder, dict) and not data.draw(st.integers(0, 9)):
            holder[data.draw(odd.texts)] = 1
    return body


def _places(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in list(items):
        found.append((value, key))
        found += _places(inner)[:40]
    return found


def ask(world: World, operation: Any, data: st.DataObject, *, query: dict[str, Any], body: Any) -> None:
    """One call, undone afterwards; most of what its path names is there."""
    parts: list[str] = []
    for part in operation.path.split("/"):
        if part.startswith("{"):
            usual = data.draw(st.integers(0, 9))
            known = world.values.get(parts[-1], ("1", "2")) if parts else ()
            part = quote(data.draw(st.sampled_from(known) if usual else odd.paths), safe="")
        parts.append(part)
    headers = {"Authorization": f"Bearer {world.secret}"}
    if not data.draw(st.integers(0, 3)):
        name, value = data.draw(one_of_long(odd.HEADERS))
        headers[name] = value
    sent = json.dumps(body, default=repr).encode()
    if not data.draw(st.integers(0, 15)):
        sent = data.draw(one_of_long(odd.RAW_BODIES))
    with undone():
        answer = Client(raise_request_exception=False).generic(
            operation.method.upper(),
            "/".join(parts) + ("?" + urlencode(query, doseq=True, errors="replace") if query else ""),
            data=sent if operation.method != "get" else b"",
            content_type=headers.pop("Content-Type", "application/json"),
            headers=headers,
        )
    check(answer, operation.label, "/".join(parts), query, headers, sent)
