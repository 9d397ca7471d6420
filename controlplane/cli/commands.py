"""What each command does: read options, call the API, say what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from controlplane.cli import answers, strategies
from controlplane.cli.client import Client
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import Printer, Result, table
from controlplane.cli.waiting import Patience, line_of, share_text, version_of, wait_for

Options = argparse.Namespace
MOST_PAGES = 1_000
LONGEST_NUMBER = 18  # digits of a rollout's number; the name of an endpoint may be longer
LARGEST_FILE = 32 << 20


def start(client: Client, options: Options, printer: Printer) -> Result:
    """`rollout start`"""
    body: dict[str, Any] = {
        "endpoint": options.endpoint,
        "plan": _json_file(options.plan, "--plan") if options.plan else strategies.plan_of(options),
    }
    if len(options.versions) == 1:
        body["version"] = options.versions[0]
    else:
        body["versions"] = options.versions
    body |= {
        name: value
        for name, value in (
            ("gate_policy", options.gate_policy),
            ("note", options.note),
            ("supersede", options.supersede),
        )
        if value
    }
    if options.own_policy:
        body["own_policy_text"] = text_of(options.own_policy, "--own-policy")
    if options.serving:
        body["serving"] = _json_file(options.serving, "--serving")
    if options.dry_run:
        return _preview(client.post("/rollouts", body | {"dry_run": True}, shape=answers.PREVIEW))
    rollout = client.post("/rollouts", body, shape=answers.ROLLOUT, key=options.idempotency_key)
    if options.wait:
        printer.progress(f"Started rollout #{rollout['id']}.")
        return _waited(client, rollout["id"], options, printer)
    return Result(
        [f"Started rollout #{rollout['id']} of {rollout['endpoint']}.", line_of(rollout)],
        {"rollout": rollout},
        reason=rollout["reason"],
    )


def wait(client: Client, options: Options, printer: Printer) -> Result:
    """`rollout wait`"""
    return _waited(client, number_of(client, options.rollout), options, printer)


def status(client: Client, options: Options, printer: Printer) -> Result:
    """`rollout status`"""
    rollout = client.get(f"/rollouts/{number_of(client, options.rollout)}", shape=answers.ROLLOUT)
    spoken = strategies.spoken(rollout)
    lines = [line_of(rollout), *([rollout["next_step"]] if rollout["next_step"] else [])]
    lines += [f"Cause: {rollout['cause_sentence']}"] if rollout["cause_sentence"] else []
    data: dict[str, Any] = {"rollout": rollout}
    try:
        verdict = client.get(f"/rollouts/{rollout['id']}/verdicts", shape=spoken.VERDICT)
    except Failure as failure:
        if failure.code is not Exit.UNAVAILABLE or strategies.is_known(rollout):
            raise
        # Its verdict may have a form that only a newer command reads; where it stands can be said all the same.
        lines += [
            "",
            f"This command does not know a {rollout['strategy']}: what its evidence says is not shown.",
        ]
    else:
        lines += spoken.status_lines(rollout, verdict)
        data |= spoken.verdict_data(verdict)
    return Result(lines, data, reason=rollout["reason"])


def act(client: Client, options: Options, printer: Printer) -> Result:
    """`rollout pause | resume | promote | rollback | cancel`"""
    body: dict[str, Any] = {"why": options.why}
    if options.expected_revision is not None:
        body["expected_revision"] = options.expected_revision
    if getattr(options, "arm", ""):
        body["arm"] = options.arm
    rollout_id = number_of(client, options.rollout)
    rollout = client.post(f"/rollouts/{rollout_id}/{options.action}", body, shape=answers.ROLLOUT)
    return Result([line_of(rollout)], {"rollout": rollout}, reason=rollout["reason"])


def rollouts(client: Client, options: Options, printer: Printer) -> Result:
    """`rollout list`"""
    page = client.get(
        "/rollouts",
        shape=answers.ROLLOUTS,
        endpoint=options.endpoint,
        active="true" if options.active else None,
        limit=options.limit,
    )
    rows = [
        [
            f"#{item['id']}",
            item["endpoint"],
            version_of(item),
            item["phase"],
            share_text(item),
            item["reason"],
        ]
        for item in page["items"]
    ]
    head = ["ROLLOUT", "ENDPOINT", "VERSION", "PHASE", "SHARE", "REASON"]
    return _listed(table(head, rows), "rollouts", page["items"], page.get("unreadable", []))


def endpoints(client: Client, options: Options, printer: Printer) -> Result:
    """`endpoint list`"""
    items: list[dict[str, Any]] = []
    unreadable: list[str] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = client.get("/endpoints", shape=answers.ENDPOINTS, limit=200, cursor=cursor)
        items += page["items"]
        unreadable += page.get("unreadable", [])
        cursor = _cursor_of(page["next"])
        if cursor is None:
            break
    else:
        raise Failure(Exit.UNAVAILABLE, f"The list of endpoints has not ended after {MOST_PAGES} pages.")
    rows = [
        [
            item["name"],
            item["model"],
            item["stable"]["name"] if item["stable"] else "-",
            item["environment"],
            ", ".join(f"#{rollout['id']} {rollout['phase']}" for rollout in item["rollouts"]) or "-",
        ]
        for item in items
    ]
    head = ["ENDPOINT", "MODEL", "STABLE", "ENVIRONMENT", "ROLLOUT"]
    return _listed(table(head, rows), "endpoints", items, unreadable)


def _listed(lines: list[str], what: str, items: list[Any], unreadable: list[str]) -> Result:
    """A list, and what is missing from it because the server cannot read it."""
    missing = {"unreadable": unreadable} if unreadable else {}
    shown = lines if items else [] if unreadable else [f"No {what}."]
    return Result([*shown, *unreadable], {what: items, **missing})


def upload_golden(client: Client, options: Options, printer: Printer) -> Result:
    """`golden upload`"""
    text = text_of(options.file, "FILE")
    kept = client.post("/golden-sets", {"name": options.name, "text": text}, shape=answers.GOLDEN_SET)
    return Result([f"{kept['label']} holds {kept['size']} examples."], {"golden_set": kept})


def restore(client: Client, options: Options, printer: Printer) -> Result:
    """`endpoint restore`"""
    body = {"choice": options.choice, "variant": options.variant, "why": options.why}
    path = f"/endpoints/{quote(options.endpoint, safe='')}/restored"
    endpoint = client.put(path, body, shape=answers.RESTORED)
    found = endpoint["restored"]
    if found is None:
        words = f"{endpoint['name']} is no longer held."
    elif options.choice == "keep":
        words = f"{endpoint['name']}: {found['choice']} is kept and becomes the stable variant."
    else:
        words = f"{endpoint['name']}: what the database says is made ready; traffic moves then."
    return Result([words], {"endpoint": endpoint}, reason=words)


def stop(client: Client, options: Options, printer: Printer) -> Result:
    """`stop on | off | status`"""
    if options.state == "status":
        state = client.get("/global-stop", shape=answers.GLOBAL_STOP)
    else:
        on = options.state == "on"
        state = client.put("/global-stop", {"on": on, "why": options.why}, shape=answers.GLOBAL_STOP)
        if state["on"] is not on:
            raise Failure(
                Exit.CONFLICT,
                f"The global stop is {'off' if on else 'on'} all the same: somebody else set it meanwhile.",
            )
    words = "The global stop is on: nothing moves forward." if state["on"] else "The global stop is off."
    return Result([f"{words} {state['why']}".rstrip()], {"global_stop": state}, reason=state["why"])


def whoami(client: Client, options: Options, printer: Printer) -> Result:
    """`whoami`"""
    me = client.get("/me", shape=answers.ME)
    return Result([f"{me['username']}, {me['role']}, scopes: {', '.join(me['scopes'] or [])}"], {"me": me})


def _waited(client: Client, rollout_id: int, options: Options, printer: Printer) -> Result:
    patience = Patience(interval=options.interval, timeout=options.timeout, silence=options.silence)
    code, rollout = wait_for(
        client, rollout_id, patience=patience, through_watch=options.through_watch, printer=printer
    )
    if not rollout:
        return Result([f"Rollout #{rollout_id} was never seen in time."], {"rollout": None}, code=code)
    reason = rollout["cause_sentence"] or rollout["reason"]
    if code is Exit.UNDECIDED:
        reason = rollout["reason"]
    words = {
        Exit.OK: "Promoted",
        Exit.ROLLED_BACK: "Rolled back",
        Exit.UNDECIDED: "Undecided, a person chooses",
        Exit.TIMED_OUT: f"Not decided within {options.timeout:g} s, the rollout goes on",
    }.get(code, f"Ended as {rollout['phase']}")
    # The sentence of a promotion says the word itself.
    line = reason if reason.startswith(words) else f"{words}. {reason}".rstrip()
    verdict = _last_verdict(client, rollout) if code is not Exit.TIMED_OUT else None
    told = strategies.spoken(rollout).end_lines(rollout, verdict) if verdict is not None else []
    if verdict is None or not told:
        return Result([line], {"rollout": rollout}, reason=reason, code=code)
    data = {"rollout": rollout, **strategies.spoken(rollout).verdict_data(verdict)}
    return Result([line, *told], data, reason=reason, code=code)


def _last_verdict(client: Client, rollout: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the evidence said at the end; None where its strategy does not say that, and when it cannot be read: how the
    rollout ended is known already, and a pipeline must learn that all the same.
    """
    spoken = strategies.spoken(rollout)
    if not spoken.ENDS_WITH_VERDICT:
        return None
    try:
        verdict: Mapping[str, Any] = client.get(f"/rollouts/{rollout['id']}/verdicts", shape=spoken.VERDICT)
    except Failure as failure:
        if failure.code is not Exit.UNAVAILABLE:
            raise
        return None
    return verdict


def _preview(preview: Mapping[str, Any]) -> Result:
    refused = [check for check in preview["checks"] if check["state"] == "refused"]
    lines = [
        " ".join(
            part
            for part in (f"{check['state']:8}", f"{check['title']}.", check["detail"], check["fix"])
            if part
        )
        for check in preview["checks"]
    ]
    lines += [gate["sentence"] for gate in preview["gates"]]
    lines += strategies.spoken(preview).preview_lines(preview)
    can = bool(preview["can_start"])
    lines.append("The rollout can start." if can else "The rollout can not start.")
    reason = "" if can else " ".join(f"{check['title']}." for check in refused)
    return Result(lines, {"preview": preview}, reason=reason, code=Exit.OK if can else Exit.REFUSED)


def number_of(client: Client, named: str) -> int:
    """The number of a rollout: `7`, `#7`, or the name of an endpoint for its newest rollout."""
    number = named.removeprefix("#")
    if number.isdecimal() and len(number) <= LONGEST_NUMBER:
        return int(number)
    if not named.strip():  # an empty filter would find the newest rollout of whatever endpoint
        raise Failure(Exit.USAGE, "ROLLOUT is empty.", fix="Give its number, or the name of an endpoint.")
    page = client.get("/rollouts", shape=answers.ROLLOUTS, endpoint=named, limit=1)
    items = page["items"]
    if page.get("unreadable"):
        raise Failure(Exit.UNAVAILABLE, page["unreadable"][0], fix="Give the number of the rollout.")
    if not items:
        raise Failure(Exit.NOT_FOUND, f"The endpoint {named!r} has had no rollout.")
    if items[0]["endpoint"] != named:
        raise Failure(
            Exit.UNAVAILABLE,
            f"The newest rollout of {named!r} was asked for, and one of {items[0]['endpoint']!r} came.",
        )
    return int(items[0]["id"])


def _json_file(path: str, option: str) -> Any:
    try:
        return json.loads(text_of(path, option))
    except RecursionError:
        raise Failure(Exit.USAGE, f"{option}: {path} is nested too deeply.") from None
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{option}: {path} is no JSON: {error}.") from None


def text_of(path: str, option: str) -> str:
    """The text of a file in UTF-8, whatever the locale; `-` is standard input. Raises Failure (usage)."""
    try:
        if path != "-":
            with Path(path).open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        elif sys.stdin is None:
            raise Failure(Exit.USAGE, f"{option}: standard input is closed.")
        else:
            content = sys.stdin.buffer.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise Failure(Exit.USAGE, f"{option}: {path} has more than {LARGEST_FILE >> 20} MB.")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise Failure(Exit.USAGE, f"{option}: {path} cannot be read: {error}.") from None


def _cursor_of(url: str | None) -> str | None:
    """The cursor in the next page's address, to be asked of the address that we were given; None at the end.

    Raises Failure when the address holds none: the list would begin anew.
    """
    if not url:
        return None
    cursor = dict(parse_qsl(url.partition("?")[2])).get("cursor")
    if not cursor:
        raise Failure(Exit.UNAVAILABLE, "The list of endpoints goes on, and does not say where.")
    return cursor
