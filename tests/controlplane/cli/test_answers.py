"""No exit code rests on an answer that nobody understood: what a server can say wrongly, one by one and at random."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.cli import client
from controlplane.cli.answers import BANDIT_VERDICT, ROLLOUT, Strange, check
from controlplane.cli.exits import Exit
from controlplane.cli.main import main
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Raw, bandit, bandit_verdict, rollout

PROMOTED = rollout(phase="succeeded", reason="Promoted.")
WAIT = ("rollout", "wait", "7", "--interval", "0.01", "--silence", "0.05", "--timeout", "0.2")
COMMANDS = (
    WAIT,
    ("rollout", "status", "7"),
    ("rollout", "start", "chat", "2"),
    ("rollout", "start", "chat", "2", "--dry-run"),
    ("rollout", "promote", "7"),
    ("rollout", "list"),
    ("endpoint", "list"),
    ("stop", "on"),
    ("stop", "status"),
    ("policy", "show", "strict"),
    ("policy", "push", "strict", "-"),
    ("policy", "check", "-"),
    ("golden", "upload", "tickets", "-"),
    ("replay", "7"),
    ("replay", "7", "--policy", "strict@2"),
    ("whoami",),
)


@pytest.fixture(autouse=True)
def _input(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    """Something on standard input."""
    file = tmp_path / "input"
    file.write_text("name: strict\n")
    with file.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (200, Raw(b"<html>Sign in</html>", "text/html")),
        (200, Raw(json.dumps(PROMOTED).encode(), "text/html; charset=utf-8")),
        (200, Raw(json.dumps(PROMOTED).encode(), "")),
        (200, Raw(json.dumps(PROMOTED).encode()[:40])),
        (200, Raw(json.dumps(PROMOTED).encode()[:40], length=5_000)),
        (200, Raw(b"")),
        (204, Raw(b"")),
        (200, Raw(b"\xff\xfe\x00")),
        (200, Raw(b"[" * 200_000)),
        (200, Raw(b"x" * (9 << 20))),
        (200, Raw(b"not gzip", more={"Content-Encoding": "gzip"})),
        (200, Raw(gzip.compress(b" " * (9 << 20)), more={"Content-Encoding": "gzip"})),
        (200, []),
        (200, [PROMOTED]),
        (200, "null"),
        (200, "1"),
        (200, '"succeeded"'),
        (200, {}),
        (200, {"phase": "succeeded"}),
        (200, PROMOTED | {"id": 8}),
        (200, PROMOTED | {"phase": ["succeeded"]}),
        (200, PROMOTED | {"watching": "no"}),
        (200, PROMOTED | {"arms": None}),
        (200, PROMOTED | {"reason": float("nan")}),
        (301, Raw(b"", more={"Location": "/api/v1/rollouts/7"})),
        (302, Raw(b"", "text/html", {"Location": "https://elsewhere.example/"})),
        (404, Raw(b"<html>nothing here</html>", "text/html")),
        (403, Raw(b"<html>blocked</html>", "text/html")),
        (400, []),
        (400, {"errors": "none"}),
        (500, Raw(b"<html>", "text/html")),
    ],
)
def test_wait__answer_that_is_not_headgates__is_unavailable(
    status: int, data: Any, serve: Any, run: Run
) -> None:
    serve(lambda *_: (status, data))

    outcome = run(*WAIT, "--json")

    assert (outcome.code, outcome.json["result"]) == (6, "unavailable")
    assert len(outcome.json["reason"]) < 400


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("data", ["<html>", {}, {"items": [{}], "state": "done", "on": 1}])
def test_command__answer_without_what_it_needs__is_unavailable(
    argv: tuple[str, ...], data: Any, serve: Any, run: Run
) -> None:
    serve(lambda *_: (200, data))

    outcome = run(*argv, "--json")

    assert (outcome.code, outcome.json["result"]) == (6, "unavailable")
    assert "HEADGATE_URL" in outcome.json["fix"] or argv[0] == "replay"


def test_redirect__somewhere_else__says_where_it_leads(serve: Any, run: Run) -> None:
    serve(lambda *_: (308, Raw(b"", more={"Location": "https://headgate.example/api/v1/me"})))

    outcome = run("whoami")

    assert outcome.code == 6
    assert "https://headgate.example/api/v1/me" in outcome.err


def test_problem__with_odd_members__is_told_all_the_same(serve: Any, run: Run) -> None:
    odd = {"detail": "No.", "fix": 7, "errors": [1, {"field": 3}, None], "extra": [], "code": {}}
    serve(lambda *_: (409, odd))

    outcome = run("rollout", "pause", "7")

    assert outcome.code == 5
    assert "No." in outcome.err


def test_answer__that_never_ends__is_given_up(serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", -1.0)
    serve(lambda *_: (200, PROMOTED))

    assert run("rollout", "status", "7").code == 6


def test_stop__set_back_meanwhile__is_a_conflict(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {"on": False, "why": "", "since": None}))

    assert run("stop", "on").code == 5
    assert run("stop", "off").code == 0


def test_replay__stands_still__ends(serve: Any, run: Run) -> None:
    serve(lambda *_: (202, {"state": "underway", "done": 3, "total": 9, "run": "abc", "report": None}))

    assert run("replay", "7").code == 6


@pytest.mark.parametrize("following", ["?cursor=again", "", "?limit=1"])
def test_endpoint_list__that_never_ends__is_given_up(
    following: str, serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.cli.commands.MOST_PAGES", 5)
    serve(lambda *_: (200, {"items": [], "next": f"http://inside/api/v1/endpoints{following}"}))

    assert run("endpoint", "list").code == 6


def test_rollout__newest_of_another_endpoint__is_not_taken(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {"items": [rollout(endpoint="another", phase="succeeded")]}))

    assert run("rollout", "wait", "chat").code == 6


# --- at random ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside JSON data."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def damaged(data: Any, path: tuple[Any, ...], put: Any, *, remove: bool) -> Any:
    if not path:
        return put
    data = copy.deepcopy(data)
    inside = data
    for key in path[:-1]:
        inside = inside[key]
    if remove:
        del inside[path[-1]]
    else:
        inside[path[-1]] = put
    return data


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("of", ["canary", "bandit"])
def test_wait__answer_damaged_anywhere__never_a_fault_and_never_another_outcome(
    of: str, data: st.DataObject, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = rollout(phase="cancelled") if of == "canary" else bandit(phase="cancelled")
    about = data.draw(st.sampled_from(["rollout", "verdict"]))
    found = sound if about == "rollout" else bandit_verdict()
    path = data.draw(st.sampled_from(list(places(found))))
    wrong = damaged(found, path, data.draw(JSON), remove=bool(path) and data.draw(st.booleans()))

    def answer(request: httpx.Request) -> httpx.Response:
        asked = "verdict" if request.url.path.endswith("/verdicts") else "rollout"
        right = sound if asked == "rollout" else bandit_verdict()
        told = json.dumps(wrong if about == asked else right)
        return httpx.Response(200, text=told, headers={"Content-Type": "application/json"})

    def in_memory(url: str, **_: Any) -> httpx.Client:
        return httpx.Client(base_url=url, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(client, "remote_client", in_memory)
    reach = ("--token", "hg_of-a-test", "--url", "http://headgate.example")
    waited = main(["rollout", "wait", "7", "--silence", "0", "--timeout", "0", *reach])
    assert waited in {Exit.UNAVAILABLE, Exit.ENDED_OTHERWISE, Exit.TIMED_OUT}
    assert main(["rollout", "status", "7", *reach]) in {Exit.UNAVAILABLE, Exit.OK}
    capfd.readouterr()


@given(shape=st.sampled_from([ROLLOUT, BANDIT_VERDICT]), data=JSON)
def test_check__anything__says_what_is_wrong_and_raises_nothing_else(shape: Any, data: Any) -> None:
    with pytest.raises(Strange):
        check(data, shape)


@pytest.mark.parametrize(
    ("data", "shape"), [(True, int), (1, bool), (1.0, int), (1 << 64, int), (float("inf"), float)]
)
def test_check__almost_of_the_kind__is_strange(data: Any, shape: type) -> None:
    with pytest.raises(Strange):
        check(data, shape)
