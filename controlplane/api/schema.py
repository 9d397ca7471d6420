"""What the OpenAPI document says about every call: how errors look, which calls take an idempotency key."""

from __future__ import annotations

from typing import Any

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance", "request_id", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "example": "urn:headgate:problem:conflict"},
        "title": {"type": "string"},
        "status": {"type": "integer", "example": 409},
        "detail": {"type": "string", "description": "what happened, for people"},
        "instance": {"type": "string", "description": "the path that was asked for"},
        "request_id": {"type": "string", "description": "the id of the request in the server's log"},
        "code": {"type": "string", "description": "stable, machine-readable", "example": "conflict"},
        "fix": {"type": "string", "description": "what to do about it"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail", "code"],
                "properties": {
                    "field": {"type": "string", "description": "dotted name of the value"},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
        "extra": {"type": "object", "additionalProperties": True},
    },
}
IDEMPOTENCY_PARAMETER: dict[str, Any] = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "maxLength": 200},
    "description": "A unique string of yours: the call is done once, however often it is sent within a day.",
}
METHODS = ("get", "post", "put", "patch", "delete")


def describe_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Post-processing hook of drf-spectacular: a `Problem` for every call, the header for every POST."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    problem = {
        "description": "The call failed; `code` and `detail` say why, `fix` what to do.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for method in METHODS:
            if method not in operations:
                continue
            operation = operations[method]
            operation["responses"].setdefault("default", problem)
            if method == "post":
                operation.setdefault("parameters", []).append(IDEMPOTENCY_PARAMETER)
    return result
