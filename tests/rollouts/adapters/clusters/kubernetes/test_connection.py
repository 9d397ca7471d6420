"""The kubeconfig that an operator gives."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.connection import api_client, state_of

CLUSTER = {
    "server": "https://k8s.example:6443",
    "certificate-authority-data": base64.b64encode(b"PEM").decode(),
}


def kubeconfig(cluster: Any = CLUSTER, user: Any = None) -> str:
    return yaml.safe_dump(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "a token of sentinel"} if user is None else user}],
        }
    )


def test_client__token__goes_to_the_server_and_through_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    settings = api_client(kubeconfig(), tmp_path).configuration
    assert (settings.host, settings.proxy, settings.retries) == ("https://k8s.example:6443", None, False)
    assert settings.get_api_key_with_prefix("authorization") == "Bearer a token of sentinel"
    assert settings.verify_ssl


def test_client__token_as_a_block_of_text__has_no_end_of_line(tmp_path: Path) -> None:
    settings = api_client(kubeconfig(user={"token": "abc\n"}), tmp_path).configuration
    assert settings.get_api_key_with_prefix("authorization") == "Bearer abc"


def test_client__certificate__lies_in_files_of_our_own(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    settings = api_client(kubeconfig(user=user), tmp_path / "k").configuration
    key = Path(settings.key_file)
    assert key.read_bytes() == b"PEM"
    assert key.is_relative_to(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no object"),
        ("a: [", "no YAML"),
        ("x" * 200_001, "characters"),
        (kubeconfig(user={"exec": {"command": "sh"}}), "exec is not taken"),  # it would be run
        (kubeconfig(user={"auth-provider": {}}), "auth-provider is not taken"),
        (kubeconfig(user={"token": "a\nX-Other: sentinel"}), "token holds what no header can"),
        (kubeconfig(user={"token": "sentinel\u20ac"}), "token holds what no header can"),
        (kubeconfig(user={}), "neither a token nor a client certificate"),
        (kubeconfig({**CLUSTER, "insecure-skip-tls-verify": True}), "insecure-skip-tls-verify is not taken"),
        (kubeconfig({**CLUSTER, "proxy-url": "http://p"}), "proxy-url is not taken"),
        (kubeconfig({"server": "http://k8s.example"}), "no https address"),
        (kubeconfig({**CLUSTER, "certificate-authority-data": "?"}), "not Base64"),
        (yaml.safe_dump({"current-context": "c"}), "has no 'c'"),
    ],
)
def test_client__what_is_not_taken__is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        api_client(text, tmp_path)
    assert caught.value.field == "secret"
    assert "sentinel" not in str(caught.value)


def test_state__of_the_same_kubeconfig__is_the_same() -> None:
    assert state_of(kubeconfig()) == state_of(kubeconfig())


def test_state__of_another_token__is_another() -> None:
    assert state_of(kubeconfig()) != state_of(kubeconfig(user={"token": "another"}))


@pytest.mark.parametrize("field", ["certificate-authority", "client-certificate", "client-key"])
def test_state__file_that_it_names_was_replaced__is_another(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.pem"
    named = {field: str(path)}
    if field == "certificate-authority":
        text = kubeconfig({"server": "https://k8s.example:6443", **named})
    else:
        text = kubeconfig(user=named)
    found = []
    for content in ("one", "two"):
        path.write_text(content)
        found.append(state_of(text))
    path.unlink()
    found.append(state_of(text))
    assert len(set(found)) == 3


@pytest.mark.parametrize("text", ["", "[", "a: b"])
def test_state__of_no_kubeconfig__is_a_state_too(text: str) -> None:
    assert state_of(text)


def test_state__names_a_pipe__does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert state_of(kubeconfig(user={"client-key": str(tmp_path / "pipe")}))
