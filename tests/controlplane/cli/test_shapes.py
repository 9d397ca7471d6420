"""What the command demands of an answer is what the API promises: checked against docs/openapi.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.cli import answers
from controlplane.cli.answers import Each, OrNull, Perhaps

ROOT = Path(__file__).resolve().parents[3]
KINDS = {str: "string", int: "integer", float: "number", bool: "boolean"}
PROMISED = {
    "ROLLOUT": "RolloutOutput",
    "ROLLOUTS": "PaginatedRolloutOutputList",
    "VERDICTS": "VerdictsOutput",
    "BANDIT_VERDICT": "BanditVerdictsOutput",
    "PREVIEW": "PreviewOutput",
    "ENDPOINTS": "PaginatedEndpointOutputList",
    "RESTORED": "EndpointOutput",
    "GOLDEN_SET": "GoldenSetOutput",
    "GLOBAL_STOP": "GlobalStopOutput",
    "ME": "CallerOutput",
    "POLICY": "OneGatePolicyOutput",
    "STORED_POLICY": "GatePolicyOutput",
    "CHECKED_POLICY": "PolicyCheckOutput",
    "REPLAY_PART": "ReplayOutput",
    "AS_RECORDED": "ReplayReportOutput",
    "WHAT_IF": "ReplayReportOutput",
}
# One component stands for both kinds of a report; what a kind always has is not said there.
OF_ONE_KIND = ("WHAT_IF.recorded", "WHAT_IF.replayed", "WHAT_IF.first.", "AS_RECORDED.first")
# The server fills these in where nothing was measured yet.
FILLED = ("VERDICTS.", "BANDIT_VERDICT.")


@cache
def components() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())["components"][
        "schemas"
    ]
    return found


def whole(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with what it refers to."""
    for part in (schema, *schema.get("allOf", ()), *schema.get("oneOf", ())):
        if "$ref" in part:
            return {**components()[part["$ref"].rpartition("/")[2]], **schema}
    return dict(schema)


def broken_promises(shape: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    """Where the shape demands what the schema does not promise."""
    schema = whole(schema)
    if isinstance(shape, OrNull):
        shape = shape.shape
    elif schema.get("nullable") and not at.startswith(OF_ONE_KIND):
        yield f"{at} may be null"
    if isinstance(shape, Mapping):
        for name, wanted in shape.items():
            inside = schema.get("properties", {}).get(name)
            told = f"{at}.{name}"
            if inside is None:
                if not told.startswith(OF_ONE_KIND):
                    yield f"{told} is not there"
                continue
            given = name in schema.get("required", ()) or told.startswith((*OF_ONE_KIND, *FILLED))
            if not given and not isinstance(wanted, Perhaps):
                yield f"{told} may be missing"
            yield from broken_promises(wanted.shape if isinstance(wanted, Perhaps) else wanted, inside, told)
    elif isinstance(shape, Each):
        yield from broken_promises(shape.shape, schema["additionalProperties"], f"{at}.*")
    elif isinstance(shape, list):
        yield from broken_promises(shape[0], schema["items"], f"{at}[]")
    elif schema.get("type") not in (KINDS[shape], *(["integer"] if shape is float else [])):
        yield f"{at} is {schema.get('type')}"


@pytest.mark.parametrize("name", PROMISED)
def test_shape__demands__only_what_the_api_promises(name: str) -> None:
    shape = getattr(answers, name)
    assert list(broken_promises(shape, components()[PROMISED[name]], name)) == []


def test_broken_promises__member_that_is_another__is_found() -> None:
    found = broken_promises(
        {"id": str, "reason": OrNull(str), "colour": str}, components()["RolloutOutput"], "it"
    )
    assert list(found) == ["it.id is integer", "it.colour is not there"]
