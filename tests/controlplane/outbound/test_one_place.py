"""No source makes an HTTP client of its own: it would obey the host's proxy variables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("controlplane", "registry", "rollouts", "deploy", "benchmarks")
THE_PLACE = ROOT / "controlplane" / "outbound"
MAKERS = {
    *("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"),
    *("get", "post", "put", "patch", "delete", "head", "options", "request", "stream"),
}
LIBRARIES = {"requests", "urllib3", "aiohttp", "httpcore", "httpx2", "websockets", "pycurl"}
# It speaks to a unix socket, which no variable redirects.
UNIX_SOCKETS = {"rollouts/adapters/clusters/supervisord.py"}
# They run in containers, where nothing of ours is. One asks the engine beside it, and `http.client` reads no variable;
# the other one asks Headgate by an opener that is told to have no proxies.
WARM_UP = "rollouts/adapters/clusters/kubernetes/warm_up.py"
FILL_VOLUME = "rollouts/adapters/clusters/kubernetes/filling/fill_volume.py"


def findings(source: str, where: str) -> Iterator[str]:
    """Every place in `source` that makes an HTTP client, or imports what makes one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func)] if _is_maker(node) else []
        else:
            continue
        made = isinstance(node, ast.Call)
        yield from (f"{where}:{node.lineno} {name}" for name in names if made or _imports_maker(name, where))


def _imports_maker(name: str, where: str) -> bool:
    room, _, rest = name.partition(".")
    if name.startswith("http.client"):
        return where not in UNIX_SOCKETS | {WARM_UP, FILL_VOLUME}
    if name.startswith("urllib.request"):
        return where != FILL_VOLUME
    return room in LIBRARIES or (room == "httpx" and rest in MAKERS)


def _is_maker(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    room, _, rest = name.rpartition(".")
    if rest in ("OpenAI", "AsyncOpenAI"):
        return not any(given.arg == "http_client" for given in call.keywords)
    if rest == "DefaultHttpxClient":
        return "trust_env=False" not in [ast.unparse(given) for given in call.keywords]
    return room == "httpx" and rest in MAKERS


def test_sources__all__leave_the_making_of_clients_to_one_place() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if THE_PLACE not in path.parents]
    assert len(files) > 200
    found = [line for path in files for line in findings(path.read_text(), str(path.relative_to(ROOT)))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import httpx\nclient = httpx.Client(trust_env=False)",
        "import httpx\nhttpx.get('http://127.0.0.1')",
        "from httpx import Client",
        "import requests",
        "from requests.sessions import Session",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import urllib.request",
        "import http.client",
        "from openai import OpenAI\nOpenAI(api_key='x')",
        "import openai\nopenai.OpenAI(http_client=openai.DefaultHttpxClient())",
    ],
)
def test_findings__a_client_made_elsewhere__is_found(source: str) -> None:
    assert list(findings(source, "rollouts/services/somewhere.py"))


@pytest.mark.parametrize(
    "source",
    [
        "import httpx\ndef ask(http: httpx.Client) -> httpx.Response: ...",
        "from urllib.parse import quote",
        "response.request.method",
    ],
)
def test_findings__a_client_that_is_only_named__is_none(source: str) -> None:
    assert list(findings(source, "rollouts/services/somewhere.py")) == []
