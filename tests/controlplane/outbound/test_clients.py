"""By which certificates a server that is far away is known."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.outbound.clients import remote_client
from tests.kubernetes.certificates import Authority


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def url(authority: Authority) -> Iterator[str]:
    """A server that only this authority vouches for."""
    identity = authority.issue("server", addresses=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_remote_client__server_of_a_private_authority__is_refused_without_it(url: str) -> None:
    with remote_client(url) as client, pytest.raises(httpx.ConnectError, match="certificate"):
        client.get("/")


def test_remote_client__server_of_a_private_authority__answers_with_it(
    url: str, authority: Authority
) -> None:
    with remote_client(url, authorities=authority.certificate.read_text()) as client:
        assert client.get("/").text == "ok"


def test_remote_client__other_authority__is_still_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").certificate.read_text()
    with remote_client(url, authorities=other) as client, pytest.raises(httpx.ConnectError):
        client.get("/")


@pytest.mark.parametrize(
    "pem", ["nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "é"]
)
def test_remote_client__authorities_that_are_none__names_the_field(pem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        remote_client("https://models.example", authorities=pem)
    assert caught.value.field == "authorities"
