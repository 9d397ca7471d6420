from __future__ import annotations

import importlib.util

import pytest

from controlplane.config.environment import Environment
from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.proxies import checked_proxy, without_proxies

SETTING = "HEADGATE_MLFLOW_PROXY"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://proxy.example:3128",
        "https://proxy.example",
        "http://user:pass@10.0.0.1:8080/",
        "HTTP://p:1",
    ],
)
def test_checked_proxy__can_work__is_given_back(address: str) -> None:
    assert checked_proxy(f" {address}\n", setting=SETTING) == address


@pytest.mark.parametrize(
    "address",
    [
        "proxy.example:3128",
        "ftp://proxy.example",
        "socks4://proxy.example:1080",
        "http://",
        "http://[::1",
        "http://proxy.example:99999",
        "http://proxy.example:0",
        "http://proxy.example:port",
        "http://proxy example:1",
        "http://proxy\x00.example:1",
        "http://proxy.example:1/path",
        "http://proxy.example:1?query",
    ],
)
def test_checked_proxy__cannot_work__is_refused_naming_the_setting(address: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_proxy(address, setting=SETTING)
    assert SETTING in str(refused.value)
    assert refused.value.fix


def test_checked_proxy__refused__never_shows_the_password() -> None:
    for address in ("ftp://user:swordfish@proxy.example", "http://user:swordfish@[::1", "u:swordfish@p"):
        with pytest.raises(InvalidInput) as refused:
            checked_proxy(address, setting=SETTING)
        assert "swordfish" not in str(refused.value) + repr(refused.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_checked_proxy__socks_without_its_library__names_the_library(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="socksio"):
        checked_proxy(f"{scheme}://127.0.0.1:1080", setting=SETTING)


def test_environment__proxy_that_cannot_work__stops_the_start_naming_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, "proxy.example:3128")
    with pytest.raises(ValueError, match=SETTING):
        Environment.read()


def test_environment__proxy__is_read_without_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, " http://proxy.example:3128 ")
    assert Environment.read().mlflow_proxy == "http://proxy.example:3128"


def test_without_proxies__any_letter_case__is_gone_and_the_rest_stays() -> None:
    given = {
        "HTTP_PROXY": "a",
        "https_proxy": "b",
        "All_Proxy": "c",
        "NO_PROXY": "d",
        "PATH": "e",
        SETTING: "f",
    }
    assert without_proxies(given) == {"PATH": "e", SETTING: "f"}
