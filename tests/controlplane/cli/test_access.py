"""How the command reaches the control plane: the usual variables for proxies, and what they never do."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.cli.access import access_of, proxy_of
from controlplane.cli.failure import Failure
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import StandIn

AWAY = "http://headgate.example:8080/below"
PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("address", "environment", "variable"),
    [
        (AWAY, {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        (AWAY, {"http_proxy": PROXY}, "http_proxy"),
        (AWAY, {"Http_Proxy": PROXY}, "Http_Proxy"),
        (AWAY, {"HTTP_PROXY": "http://other:1", "http_proxy": PROXY}, "http_proxy"),
        (AWAY, {"HTTPS_PROXY": PROXY}, ""),
        ("https://headgate.example", {"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://other:1"}, "HTTPS_PROXY"),
        ("https://headgate.example", {"all_proxy": PROXY}, "all_proxy"),
        (AWAY, {"ALL_PROXY": "proxy.example:3128"}, "ALL_PROXY"),
        (AWAY, {"ALL_PROXY": ""}, ""),
        (AWAY, {}, ""),
    ],
)
def test_proxy__usual_variables__name_it(address: str, environment: dict[str, str], variable: str) -> None:
    assert proxy_of(address, environment) == (PROXY if variable else "", variable)


@pytest.mark.parametrize(
    "exceptions",
    [
        "*",
        "headgate.example",
        ".headgate.example",
        "*.example",
        "example",
        "HEADGATE.EXAMPLE",
        "other, headgate.example:8080",
        "a,,headgate.example,",
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy", "No_Proxy"])
def test_proxy__host_excepted__is_none(name: str, exceptions: str) -> None:
    assert proxy_of(AWAY, {"HTTP_PROXY": PROXY, name: exceptions}) == ("", "")


@pytest.mark.parametrize(
    "exceptions", ["headgate", "gate.example", "headgate.example:80", "10.0.0.0/8", "[::1", "/", "."]
)
def test_proxy__another_host_excepted__is_used(exceptions: str) -> None:
    assert proxy_of(AWAY, {"HTTP_PROXY": PROXY, "NO_PROXY": exceptions}) == (PROXY, "HTTP_PROXY")


def test_proxy__network_excepted__is_none_for_addresses_inside() -> None:
    environment = {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8,2001:db8::/32"}
    assert proxy_of("http://10.1.2.3:8500", environment) == ("", "")
    assert proxy_of("http://[2001:db8::7]:8500", environment) == ("", "")
    assert proxy_of("http://11.1.2.3:8500", environment) == (PROXY, "HTTP_PROXY")


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8500",
        "http://127.0.0.1",
        "http://127.9.9.9:1",
        "http://[::1]:8500",
        "http://x.localhost",
    ],
)
def test_proxy__this_machine__is_asked_directly(address: str) -> None:
    assert proxy_of(address, {"HTTP_PROXY": PROXY, "ALL_PROXY": "foo://bar"}) == ("", "")


@pytest.mark.parametrize("named", ["foo://127.0.0.1:9", "http://", "http://p:99999", "socks5://127.0.0.1:9"])
def test_proxy__that_cannot_work__is_a_usage_error_naming_the_variable(
    named: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("All_Proxy", named)

    outcome = run("whoami", "--url", "https://headgate.example", "--token", "hg_of-a-test")

    assert outcome.code == 2
    assert "All_Proxy" in outcome.err
    assert "NO_PROXY=headgate.example" in outcome.err


@pytest.fixture
def proxy() -> Iterator[StandIn]:
    """A proxy: it is asked for whole addresses, and answers as the control plane would."""
    running = StandIn(lambda *_: (200, {"username": "rosa", "role": "viewer", "scopes": None}))
    running.start()
    yield running
    running.stop()


def test_proxy__named_by_the_environment__carries_the_call(
    proxy: StandIn, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)

    assert run("whoami", "--url", AWAY, "--token", "hg_of-a-test").code == 0
    assert proxy.seen[0][1] == f"{AWAY}/api/v1/me"


def test_proxy__does_not_answer__is_unavailable_naming_its_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, serve: Any
) -> None:
    serve(lambda *_: (200, {}))
    monkeypatch.setenv("http_proxy", "http://rosa:swordfish@127.0.0.1:9")

    outcome = run("whoami", "--url", AWAY)

    assert outcome.code == 6
    assert "http_proxy" in outcome.err
    assert "swordfish" not in outcome.err


def test_certificates__that_cannot_be_read__are_a_usage_error_naming_the_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")

    outcome = run("whoami", "--url", "https://127.0.0.1:9", "--token", "hg_of-a-test")

    assert outcome.code == 2
    assert "SSL_CERT_FILE" in outcome.err


def test_access__repr__holds_no_secret() -> None:
    found = access_of(
        url=AWAY, token="hg_swordfish", environment={"HTTP_PROXY": "http://rosa:marlin@proxy.example:1"}
    )
    assert "swordfish" not in repr(found)
    assert "marlin" not in repr(found)


def test_access__nothing_given__says_that_there_is_no_token() -> None:
    with pytest.raises(Failure, match="HEADGATE_TOKEN"):
        access_of(url=None, token=None, environment={})
