"""Every client of ours, in a process whose environment names proxies that lead nowhere: it works as without them.

The variables are set before Python starts, because libraries read them when they are imported or when a client is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEAD = "http://127.0.0.1:9"
HOSTS = {
    "dead": {"HTTP_PROXY": DEAD, "HTTPS_PROXY": DEAD, "ALL_PROXY": DEAD, "NO_PROXY": "elsewhere.example"},
    "lower-case": {"http_proxy": DEAD, "https_proxy": DEAD, "all_proxy": DEAD},
    "socks": {"ALL_PROXY": "socks5://127.0.0.1:9", "all_proxy": "socks5://127.0.0.1:9"},
    "nonsense": {"All_Proxy": "foo://127.0.0.1:9", "Http_Proxy": "what?", "no_proxy": "[::1"},
}
METRICS = "\n".join(
    f"{name} 1"
    for name in (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:generation_tokens_total",
    )
)
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
}
ME = {"username": "rosa", "role": "viewer", "scopes": ["read"]}


class Server:
    """Answers as a gateway, an engine, MLflow and Headgate would; as a proxy, too. `seen` keeps the request lines."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                if self.path.endswith("/metrics"):
                    self._answer("text/plain", METRICS)
                elif self.path.endswith("/me"):
                    self._answer("application/json", json.dumps(ME))
                else:
                    self._answer("application/json", "{}")

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if "model" not in asked:
                    self._answer("application/json", "{}")
                elif asked.get("stream"):
                    events = 'data: {"choices": [{"delta": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'
                    self._answer("text/event-stream", events)
                else:
                    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"]}
                    self._answer("application/json", json.dumps(whole | COMPLETION))

            def _answer(self, kind: str, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("x-headgate-variant", "chat-v1")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


CLIENTS = {
    "prober": """
from rollouts.adapters.probers.openai import OpenAIProber
answer = OpenAIProber.by_path(url).ask(
    endpoint="chat", variant="chat-v1", messages=({"role": "user", "content": "q"},), max_tokens=2, timeout=5)
assert answer.text == "hi"
""",
    "gauges": """
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.adapters.backends import at_address
engines, broken = VllmMetrics().read([at_address("chat-v1", "127.0.0.1", int(url.rpartition(":")[2]))])
assert not broken and engines["chat-v1"].running == 1, broken
""",
    "engine probes": """
from controlplane.outbound.clients import local_client
from rollouts.adapters.clusters.engines import ENGINES
from rollouts.adapters.clusters.probe import Health, ask_health, ask_in_flight, warm_up
port = int(url.rpartition(":")[2])
with local_client() as http:
    assert ask_health(http, ENGINES["vllm"], port) is Health.GOOD
    assert ask_in_flight(http, ENGINES["vllm"], port) == 2
    assert warm_up(http, "chat-v1", "chat", port, is_ours=lambda: True).ok
""",
    "the cluster as it is wired": """
import os, tempfile
os.environ["HEADGATE_RUN_DIR"] = tempfile.mkdtemp()
os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.config.settings"
import django
django.setup()
from rollouts import wiring
from rollouts.domain.clusters import ClusterSpec
wiring._world({"local": ClusterSpec("local", "local")}, "local")
""",
    "MLflow": """
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
store = MlflowModelStore(MlflowHttp(url))
store.ping()
assert store.models() == ()
""",
    "the demo's users": """
from deploy.demo.traffic import Users
users = Users(gateway=url, api=url, token="hg_x", endpoint="chat",
              tickets=[{"messages": [{"role": "user", "content": "q"}], "max_tokens": 2, "expected": "hi"}])
assert users._whole(users.tickets[0])[0] == "hi"
users._rate("r", "chat-v1", up=True)
assert users.counts.rated == 1
""",
    "the demo's registration": """
from deploy.demo.models.register import use_proxy, wait_for_server
use_proxy("")
wait_for_server(url, "")
from mlflow import MlflowClient
assert MlflowClient(tracking_uri=url, registry_uri=url).search_registered_models() == []
""",
    "the command": """
from controlplane.cli.main import main
assert main(["whoami", "--url", url, "--token", "hg_abc"]) == 0
""",
}


def run(program: str, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"url = {url!r}\n{program}"],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


SLOW = {"the cluster as it is wired", "the demo's users", "the demo's registration"}  # seconds to import


@pytest.mark.parametrize(
    ("client", "host"),
    [
        (client, host)
        for client in CLIENTS
        for host in HOSTS
        if client not in SLOW or host in ("dead", "socks")
    ],
)
def test_client__host_names_proxies_that_lead_nowhere__works_all_the_same(
    client: str, host: str, server: Server
) -> None:
    ended = run(CLIENTS[client], server.url, **HOSTS[host])
    assert ended.returncode == 0, ended.stderr


def test_mlflow__proxy_by_setting__goes_through_it_whatever_the_host_says(server: Server) -> None:
    program = """
from controlplane.config.environment import ENVIRONMENT
from registry.adapters.model_stores.mlflow_http import MlflowHttp
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore
MlflowModelStore(MlflowHttp("http://mlflow.example:5000", proxy=ENVIRONMENT.mlflow_proxy)).ping()
"""
    ended = run(program, "", HEADGATE_MLFLOW_PROXY=server.url, **HOSTS["dead"], no_proxy="mlflow.example")
    assert ended.returncode == 0, ended.stderr
    assert server.seen[-1].startswith("http://mlflow.example:5000/api/2.0/mlflow/registered-models/search")


def test_mlflow__proxy_does_not_answer__names_both_settings() -> None:
    program = """
from controlplane.kernel.errors import Unavailable
from registry.adapters.model_stores.mlflow_http import MlflowHttp
try:
    MlflowHttp("https://mlflow.example", proxy="http://user:swordfish@127.0.0.1:9").get("x")
except Unavailable as error:
    print(error)
"""
    said = run(program, "").stdout
    assert "HEADGATE_MLFLOW_PROXY" in said
    assert "HEADGATE_MLFLOW_URL" in said
    assert "swordfish" not in said


def test_start__mlflow_proxy_that_cannot_work__ends_every_process_naming_it() -> None:
    ended = run(
        "import controlplane.config.settings", "", HEADGATE_MLFLOW_PROXY="foo://u:swordfish@proxy.example:1"
    )
    assert ended.returncode != 0
    assert "HEADGATE_MLFLOW_PROXY does not begin with the scheme of a proxy" in ended.stderr
    assert "swordfish" not in ended.stderr
