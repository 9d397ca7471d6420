"""`headgate policy`: gate policies as files that a pipeline checks and stores. The server reads the YAML."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from controlplane.cli.answers import CHECKED_POLICY, POLICY, STORED_POLICY
from controlplane.cli.client import Client
from controlplane.cli.commands import text_of
from controlplane.cli.output import Printer, Result

Options = argparse.Namespace


def show(client: Client, options: Options, printer: Printer) -> Result:
    """`policy show`: its YAML on standard output, ready to be edited and pushed."""
    found = client.get(f"/gate-policies/{quote(options.policy, safe='@')}", shape=POLICY)
    return Result(found["yaml"].splitlines(), {"policy": found})


def check(client: Client, options: Options, printer: Printer) -> Result:
    """`policy check`: what is wrong with a file, or what it would do. Stores nothing."""
    body = {"name": options.name, "text": text_of(options.file, "FILE"), "endpoint": options.endpoint}
    found = client.post("/gate-policies/check", body, shape=CHECKED_POLICY)
    return Result(_explained(found), {"check": found}, reason=_outcome(found))


def push(client: Client, options: Options, printer: Printer) -> Result:
    """`policy push`: stores a file as the next version."""
    body: dict[str, Any] = {
        "name": options.name,
        "text": text_of(options.file, "FILE"),
        "note": options.note,
    }
    if options.expected_version is not None:
        body["expected_version"] = options.expected_version
    made = client.post("/gate-policies", body, shape=STORED_POLICY, key=options.idempotency_key)
    reference = f"{made['name']}@{made['version']}"
    return Result([f"{reference} is what is stored, {made['digest']}."], {"policy": made}, reason=reference)


def _outcome(found: Mapping[str, Any]) -> str:
    if found["same"]:
        return f"{found['reference']} says the same."
    return f"It would be stored as {found['reference']}."


def _explained(found: Mapping[str, Any]) -> list[str]:
    told = found["explanation"]
    lines = [gate["sentence"] for gate in told["gates"]]
    lines += ["", *told["promises"]]
    lines += [f"Note: {note}" for note in told["notes"]]
    lines += ["", *told["basis"]]
    if found["changes"]:
        lines += ["", *(_change(change) for change in found["changes"])]
    return [*lines, "", _outcome(found)]


def _change(change: Mapping[str, str]) -> str:
    return f"{change['field']}: {change['before'] or 'nothing'} -> {change['after'] or 'nothing'}"
