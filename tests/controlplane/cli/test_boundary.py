"""However the command ends, its exit code is true: faults, broken outputs, locales, Ctrl-C. Mostly real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli import commands
from controlplane.cli.exits import Exit
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import StandIn, rollout

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hg_swordfish-swordfish"
REASON = "Golden set: 0.31 → 0.24, naïve “β” \x1b[31m\udc9c"
ROLLED_BACK = rollout(phase="rolled-back", reason=REASON)
OUTCOMES = {int(Exit.OK), int(Exit.ROLLED_BACK)}


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """A control plane that knows one rollout, which was rolled back for a reason that no ASCII can hold."""

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/verdicts"):
            return 200, {"verdicts": []}
        return 200, ROLLED_BACK if "/rollouts/7" in path else rollout()

    running = StandIn(answer)
    running.start()
    yield running
    running.stop()


def headgate(
    server: StandIn, *arguments: str, environment: dict[str, str] | None = None, **streams: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command as a process of its own."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(
        [sys.executable, "-m", "controlplane.cli", *arguments],
        cwd=ROOT, env=surroundings(server, **(environment or {})), timeout=240, check=False, **given,
    )  # fmt: skip


def surroundings(server: StandIn, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"HEADGATE_URL": server.url, "HEADGATE_TOKEN": TOKEN} | more


def shell(server: StandIn, line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which `headgate` is the command; its exit status is that of the command."""
    return subprocess.run(
        ["bash", "-c", f'headgate() {{ "{sys.executable}" -m controlplane.cli "$@"; }}; {line}'],
        cwd=ROOT, env=surroundings(server), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


# --- faults -----------------------------------------------------------------------------------------------------


def broken(*_: object) -> Any:
    raise RuntimeError(f"no idea; the token is {TOKEN}\nand more")


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, serve: Any) -> None:
    """A command with a fault in it."""
    serve(lambda *_: (200, {}))
    monkeypatch.setenv("HEADGATE_TOKEN", TOKEN)
    monkeypatch.setattr(commands, "whoami", broken)


@pytest.mark.usefixtures("faulty")
def test_fault__of_our_own__is_70_in_one_sentence(run: Run) -> None:
    outcome = run("whoami")

    assert (outcome.code, outcome.out) == (70, "")
    assert "RuntimeError: no idea" in outcome.err
    assert "--debug" in outcome.err
    assert "Traceback" not in outcome.err
    assert TOKEN not in outcome.err


@pytest.mark.usefixtures("faulty")
def test_fault__json_asked__is_json_too(run: Run) -> None:
    outcome = run("whoami", "--json")

    assert outcome.code == 70
    assert (outcome.json["result"], outcome.json["exit_code"]) == ("internal", 70)
    assert TOKEN not in outcome.out + outcome.err


@pytest.mark.usefixtures("faulty")
def test_fault__debug__shows_where_without_the_secret(run: Run) -> None:
    outcome = run("whoami", "--debug")

    assert outcome.code == 70
    assert "Traceback" in outcome.err
    assert "in broken" in outcome.err
    assert TOKEN not in outcome.err


@pytest.mark.parametrize(
    "error", [SystemExit(1), SystemExit(0), MemoryError(), RecursionError("deep"), KeyError(1)]
)
def test_fault__of_any_kind__is_70(
    error: BaseException, serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise error

    serve(lambda *_: (200, {}))
    monkeypatch.setattr(commands, "whoami", fail)

    assert run("whoami").code == 70


def test_fault__import_that_fails__is_70(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "controlplane.cli.command_line", None)

    outcome = run("rollout", "wait", "7", "--json")

    assert (outcome.code, outcome.json["result"]) == (70, "internal")


# --- standard output and error --------------------------------------------------------------------------------


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """The writing end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize(
    "arguments", [("rollout", "status", "7"), ("rollout", "wait", "7", "--json", "--quiet"), ("--help",)]
)
def test_output__reader_has_gone__is_141_and_quiet(
    arguments: tuple[str, ...], server: StandIn, closed_pipe: int
) -> None:
    ended = headgate(server, *arguments, stdout=closed_pipe)

    assert (ended.returncode, ended.stderr) == (141, b"")


def test_output__head__is_never_a_rollback(server: StandIn) -> None:
    ended = shell(server, "headgate rollout status 7 | head -1; exit ${PIPESTATUS[0]}")

    assert ended.returncode in (0, 141)  # by who is quicker; 0 is what this status means
    assert ended.stderr == ""
    assert ended.stdout.startswith("#7 chat v2")


def test_output__disk_full__is_74_and_says_so(server: StandIn) -> None:
    with Path("/dev/full").open("w") as full:
        ended = headgate(server, "rollout", "wait", "7", "--json", "--quiet", stdout=full)

    assert ended.returncode == 74
    assert ended.stderr == b"The answer could not be written: No space left on device.\n"


@pytest.mark.parametrize("stderr", ["full", "pipe"])
def test_standard_error__broken__changes_nothing(stderr: str, server: StandIn, closed_pipe: int) -> None:
    with Path("/dev/full").open("w") as full:
        ended = headgate(
            server, "rollout", "wait", "7", "--json", stderr=full if stderr == "full" else closed_pipe
        )

    assert ended.returncode == 1
    assert json.loads(ended.stdout)["result"] == "rolled-back"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams__closed_at_the_start__change_nothing(closed: str, server: StandIn) -> None:
    assert shell(server, f"headgate rollout wait 7 {closed}").returncode == 1
    assert shell(server, f"headgate rollout start chat latest {closed}").returncode == 2


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "undefined"},
        {"PYTHONIOENCODING": "utf-8"},
        {"PYTHONIOENCODING": "latin-1", "PYTHONWARNINGS": "error"},
        {"LC_ALL": "nonsense"},
    ],
    ids=str,
)
@pytest.mark.parametrize("as_json", [False, True])
def test_locale__any__tells_the_truth(locale: dict[str, str], as_json: bool, server: StandIn) -> None:
    ended = headgate(server, "rollout", "wait", "7", *(["--json"] if as_json else []), environment=locale)

    assert ended.returncode == 1, ended.stderr
    assert b"Golden set: 0.31 " in ended.stdout
    assert b"\x1b" not in ended.stdout + ended.stderr
    if as_json:
        assert json.loads(ended.stdout.decode(errors="backslashreplace"))["reason"] == REASON


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started hears SIGINT, also when the tests run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt__while_waiting__is_130_and_json(server: StandIn) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "controlplane.cli", "rollout", "wait", "8", "--json", "--interval", "30"],
        cwd=ROOT, env=surroundings(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # it waits now
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert json.loads(out)["result"] == "interrupted"
    assert "Traceback" not in err


# --- command line, address, token -----------------------------------------------------------------------------


def test_usage__json_asked__is_json_too(run: Run) -> None:
    outcome = run("rollout", "start", "chat", "latest", "--json")

    assert (outcome.code, outcome.json["result"]) == (2, "usage")
    assert "'latest' is no version number" in outcome.json["reason"]


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "ftp://headgate.example",
        "http://headgate example",
        "http://headgate.example\n/x",
        "",
        " ",
        "http://",
        "http://:8500",
        "http://h:99999",
        "http://h:0",
        "http://h:port",
        "http://☃.example",
        "http://a..b",
        "http://" + "a" * 64,
        "http://rosa:swordfish@headgate.example",
        "http://headgate.example?token=swordfish",
        "swordfish",
    ],
)
@pytest.mark.parametrize("setting", ["HEADGATE_URL", "--url"])
def test_url__unusable__is_a_usage_error_naming_the_setting(
    setting: str, url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", TOKEN)
    monkeypatch.setenv("HEADGATE_URL", url)

    outcome = run("whoami", "--json", *(["--url", url] if setting == "--url" else []))

    assert (outcome.code, outcome.json["result"]) == (2, "usage")
    assert setting in outcome.json["reason"]
    assert "swordfish" not in outcome.out + outcome.err


def test_url__white_space_around_it__is_dropped(
    serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(lambda *_: (200, {"username": "rosa", "role": "viewer", "scopes": None}))
    monkeypatch.setenv("HEADGATE_URL", f" {served.url}/\n")

    assert run("whoami").code == 0
    assert served.seen[0][1] == "/api/v1/me"


@pytest.mark.parametrize("around", ["{}\n", " {}", "\t{}\r\n"])
def test_token__white_space_around_it__is_dropped(
    around: str, serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(lambda *_: (200, {"username": "rosa", "role": "viewer", "scopes": None}))
    monkeypatch.setenv("HEADGATE_TOKEN", around.format(TOKEN))

    assert run("whoami").code == 0
    assert served.seen[0][3]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "token",
    [f"{TOKEN}\nmore-of-it", f"{TOKEN}\x1b[0m", f"{TOKEN}é", f"“{TOKEN}”", f"{TOKEN}\x7f", f"a {TOKEN}"],
)
@pytest.mark.parametrize("setting", ["HEADGATE_TOKEN", "--token"])
def test_token__with_what_no_token_has__is_refused_and_never_shown(
    setting: str, token: str, serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(lambda *_: (200, {}))
    monkeypatch.setenv("HEADGATE_TOKEN", token)

    outcome = run("whoami", "--json", "--debug", *(["--token", token] if setting == "--token" else []))

    assert (outcome.code, served.seen) == (2, [])
    assert setting in outcome.json["reason"]
    for piece in ("swordfish", "more-of-it"):
        assert piece not in outcome.out + outcome.err


@pytest.mark.parametrize(
    "argv",
    [
        ("--token", TOKEN, "whoami"),
        ("whoami", TOKEN),
        (TOKEN,),
        ("whoami", f"--token={TOKEN}", "--nonsense", TOKEN),
        ("whoami", "--tok", TOKEN, TOKEN),
    ],
)
def test_token__in_a_wrong_place__is_not_repeated(
    argv: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", TOKEN if argv[-1] == TOKEN else "")

    outcome = run(*argv)

    assert outcome.code == 2
    assert "swordfish" not in outcome.out + outcome.err


def test_token__said_by_the_server__is_hidden_in_text_and_json(
    serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda *_: (401, {"detail": f"{TOKEN} is unknown.", "extra": {TOKEN: [TOKEN]}}))
    monkeypatch.setenv("HEADGATE_TOKEN", TOKEN)

    outcome = run("whoami", "--json")

    assert outcome.code == 9
    assert outcome.json["reason"] == "[hidden] is unknown."
    assert "swordfish" not in outcome.out + outcome.err


def test_text__bytes_that_are_none__is_a_usage_error(server: StandIn) -> None:
    ended = headgate(
        server, *(["rollout", "pause", "7", "--why", b"\xff\xfe".decode(errors="surrogateescape")])
    )

    assert ended.returncode == 2
    assert b"why" in ended.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e300", "soon"])
@pytest.mark.parametrize("option", ["--timeout", "--interval", "--silence"])
def test_seconds__that_are_none__are_a_usage_error(option: str, seconds: str, serve: Any, run: Run) -> None:
    serve(lambda *_: (200, rollout()))

    assert run("rollout", "wait", "7", option, seconds).code == 2


@pytest.mark.parametrize("named", ["", " ", "#"])
def test_rollout__empty__is_a_usage_error_and_not_the_newest_of_any_endpoint(
    named: str, serve: Any, run: Run
) -> None:
    serve(lambda *_: (200, {"items": [ROLLED_BACK]}))

    assert run("rollout", "wait", named).code not in OUTCOMES


@pytest.mark.parametrize(
    ("content", "option"),
    [(b"\xff\xfe", "--plan"), (b"[" * 100_000, "--plan"), (b"{half", "--serving"), (b"", "--serving")],
)
def test_file__that_is_no_json__is_a_usage_error_naming_the_option(
    content: bytes, option: str, serve: Any, run: Run, tmp_path: Path
) -> None:
    served = serve(lambda *_: (200, rollout()))
    file = tmp_path / "given.json"
    file.write_bytes(content)

    outcome = run("rollout", "start", "chat", "2", option, str(file))

    assert (outcome.code, served.seen) == (2, [])
    assert option in outcome.err


def test_file__with_a_number_that_is_none__is_a_usage_error(serve: Any, run: Run, tmp_path: Path) -> None:
    serve(lambda *_: (200, rollout()))
    file = tmp_path / "plan.json"
    file.write_text('{"steps": NaN}')

    assert run("rollout", "start", "chat", "2", "--plan", str(file)).code == 2


@pytest.mark.parametrize("number", ["1e308", "inf", "nan", "-1e13"])
@pytest.mark.parametrize("option", ["--floor", "--burn-in", "--alpha"])
def test_bandit__number_beyond_all_limits__is_a_usage_error(
    option: str, number: str, serve: Any, run: Run
) -> None:
    served = serve(lambda *_: (200, rollout()))

    outcome = run("rollout", "start", "chat", "2", "--strategy", "bandit", f"{option}={number}")

    assert (outcome.code, served.seen) == (2, [])
    assert option in outcome.err


@pytest.mark.parametrize("key", ["build\n7", "build-é", "\x00"])
def test_idempotency_key__that_no_header_carries__is_a_usage_error(key: str, serve: Any, run: Run) -> None:
    served = serve(lambda *_: (200, rollout()))

    assert run("rollout", "start", "chat", "2", "--idempotency-key", key).code == 2
    assert served.seen == []
