"""The client's contract is the endpoint: OpenAI's own client and other habits against the real Envoy.

Two echo engines tell what reached them. The endpoint's traffic is split in half, so that what differs between arms
would be seen.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest

from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.ports import EngineApi, Route
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, ENVOY, EnvoyPlane
from tests.rollouts.adapters.readings import only_target, read_one
from tests.standins.echo import Echo, echoing
from tests.standins.running import RunningEngine

pytestmark = pytest.mark.needs("envoy")

OFTEN = 24  # both arms of a split in half are drawn, but once in 8 million runs
Engines = dict[str, Echo]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with echoing(BASELINE) as one, echoing(CANDIDATE) as other:
        yield {BASELINE: one, CANDIDATE: other}


@pytest.fixture
def halves(envoy: EnvoyPlane, engines: Engines, endpoint: str) -> Route:
    """An endpoint whose traffic is split in half between the echoes."""
    for echo in engines.values():
        echo.seen.clear()
    backends = tuple(at_address(variant, "127.0.0.1", echo.port) for variant, echo in engines.items())
    route = Route(endpoint, {BASELINE: 5000, CANDIDATE: 5000}, backends, BASELINE)
    envoy.router.apply(route, token=1)
    return route


@pytest.fixture
def http(envoy: EnvoyPlane, halves: Route) -> Iterator[httpx.Client]:
    """Asks below the endpoint: `http.get("/v1/models")`."""
    with httpx.Client(base_url=f"{envoy.url}/{halves.endpoint}", timeout=30, trust_env=False) as client:
        yield client


def client_of(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=30)


def seen(engines: Engines) -> set[str]:
    return {call for echo in engines.values() for call in echo.seen}


# --- OpenAI's client --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["/v1", "/v1/"])
def test_openai_client__model_of_the_list__answers_by_the_name_that_was_asked(
    envoy: EnvoyPlane, halves: Route, end: str
) -> None:
    name = halves.endpoint
    with client_of(f"{envoy.url}/{name}{end}") as client:
        assert [model.id for model in client.models.list()] == [name]
        model = client.models.list().data[0].id
        assert client.models.retrieve(model).id == name
        who = set()
        for _ in range(OFTEN):
            raw = client.chat.completions.with_raw_response.create(
                model=model, messages=[{"role": "user", "content": "Hello"}]
            )
            answer = raw.parse()
            assert answer.model == name
            assert answer.system_fingerprint == raw.headers["x-headgate-variant"]
            who.add(answer.system_fingerprint)
    assert who == {BASELINE, CANDIDATE}


def test_openai_client__other_inferences__reach_the_engines(
    envoy: EnvoyPlane, halves: Route, engines: Engines
) -> None:
    with client_of(f"{envoy.url}/{halves.endpoint}/v1") as client:
        assert client.completions.create(model=halves.endpoint, prompt="x").choices[0].text == "Hi"
        vectors = client.embeddings.create(model=halves.endpoint, input="x", encoding_format="float")
        assert vectors.data[0].embedding == [0.5]
        assert client.responses.create(model=halves.endpoint, input="x").output_text == "Hi"
    assert seen(engines) == {"POST /v1/completions", "POST /v1/embeddings", "POST /v1/responses"}


def test_openai_client__unknown_model_is_retrieved__is_not_found(envoy: EnvoyPlane, halves: Route) -> None:
    with (
        client_of(f"{envoy.url}/{halves.endpoint}/v1") as client,
        pytest.raises(openai.NotFoundError, match=f"by its own name: {halves.endpoint}") as error,
    ):
        client.models.retrieve(CANDIDATE)
    assert error.value.code == "model_not_found"


def test_openai_client__base_url_without_v1__is_told_the_right_one(envoy: EnvoyPlane, halves: Route) -> None:
    with (
        client_of(f"{envoy.url}/{halves.endpoint}") as client,
        pytest.raises(openai.NotFoundError, match=f"http://HOST/{halves.endpoint}/v1: /v1 is missing"),
    ):
        client.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_model__name_of_a_variant__gets_the_same_answer_from_every_arm(
    envoy: EnvoyPlane, endpoint: str, stream: bool
) -> None:
    engines = {name: RunningEngine(name, "--served-model-name", endpoint) for name in (BASELINE, CANDIDATE)}
    try:
        for engine in engines.values():
            engine.start()
        backends = tuple(at_address(name, "127.0.0.1", engine.port) for name, engine in engines.items())
        envoy.router.apply(Route(endpoint, {BASELINE: 5000, CANDIDATE: 5000}, backends, BASELINE), token=1)
        body = {"model": CANDIDATE, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        url = f"{envoy.url}/{endpoint}/v1/chat/completions"
        answers = [httpx.post(url, json=body) for _ in range(OFTEN)]
        good = httpx.post(url, json={**body, "model": endpoint, "stream": False}).json()
    finally:
        for engine in engines.values():
            engine.kill()
    assert {answer.headers["x-headgate-assigned"] for answer in answers} == {BASELINE, CANDIDATE}
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert f"The model `{CANDIDATE}` does not exist" in answers[0].json()["error"]["message"]
    assert good["model"] == endpoint


# --- the model list -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/", "//v1//models", "/v1/./models", "/v1/models?x=1"]
)
def test_models__however_it_is_written__has_the_endpoint_only_and_asks_no_engine(
    http: httpx.Client, halves: Route, engines: Engines, path: str
) -> None:
    url = f"http://127.0.0.1:{http.base_url.port}/{halves.endpoint}{path}"
    answers = [http.get(url) for _ in range(5)]
    assert {answer.content for answer in answers} == {
        json.dumps(
            {
                "object": "list",
                "data": [{"id": halves.endpoint, "object": "model", "created": 0, "owned_by": "headgate"}],
            },
            separators=(",", ":"),
        ).encode()
    }
    assert {(a.status_code, a.headers["content-type"]) for a in answers} == {(200, "application/json")}
    assert seen(engines) == set()


def test_models__forced_variant__is_the_same(http: httpx.Client) -> None:
    forced = http.get("/v1/models", headers={"x-headgate-variant": CANDIDATE})
    assert forced.content == http.get("/v1/models").content


def test_models__head__has_the_headers_and_no_body(http: httpx.Client) -> None:
    answer = http.head("/v1/models")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == http.get("/v1/models").headers["content-length"]


# --- what reaches engines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "reached"),
    [
        ("POST", "/v1/chat/completions", "POST /v1/chat/completions"),
        ("POST", "/v1/chat/completions/", "POST /v1/chat/completions"),
        ("POST", "/v1//chat//completions", "POST /v1/chat/completions"),
        ("POST", "/v1/chat/completions?x=1", "POST /v1/chat/completions?x=1"),
        ("POST", "/v1/../v1/score", "POST /v1/score"),
        ("POST", "/v1/score", "POST /v1/score"),
        ("POST", "/score", "POST /score"),
        ("POST", "/pooling", "POST /pooling"),
        ("POST", "/v1/pooling/", "POST /pooling"),
        ("POST", "/v2/rerank", "POST /v2/rerank"),
        ("GET", "/v1/chat/completions", "GET /v1/chat/completions"),
        ("HEAD", "/v1/chat/completions", "HEAD /v1/chat/completions"),
        ("POST", "/tokenize", "POST /tokenize"),
        ("POST", "/v1/tokenize", "POST /tokenize"),
        ("POST", "/v1/messages/count_tokens", "POST /v1/messages/count_tokens"),
        ("GET", "/version", "GET /version"),
        ("GET", "/health/", "GET /health"),
        ("HEAD", "/health", "HEAD /health"),
    ],
)
def test_call__of_the_api__reaches_the_engine_by_its_own_path(
    http: httpx.Client, halves: Route, engines: Engines, method: str, path: str, reached: str
) -> None:
    # as it stands: httpx would write some of these otherwise
    assert raw_status(http, f"{method} /{halves.endpoint}{path} HTTP/1.1") == 200
    assert seen(engines) == {reached}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tokenize"), ("GET", "/v1/completions"), ("HEAD", "/health")]
)
def test_call__that_is_no_inference__goes_to_the_stable_variant_and_is_in_no_arm(
    envoy: EnvoyPlane, http: httpx.Client, halves: Route, engines: Engines, method: str, path: str
) -> None:
    answers = [http.request(method, path) for _ in range(OFTEN)]
    assert {a.headers["x-headgate-variant"] for a in answers} == {BASELINE}
    assert not any("x-headgate-assigned" in a.headers for a in answers)
    assert engines[CANDIDATE].seen == []
    http.post("/v1/chat/completions", json={}).raise_for_status()  # so that there are counters at all
    read = read_one(envoy.signals, halves.endpoint, halves.backends)
    assert sum(arm.arrived for arm in only_target(read).arms.values()) == 1


def test_call__that_is_no_inference_and_forced__goes_to_that_variant(http: httpx.Client) -> None:
    answer = http.post("/tokenize", headers={"x-headgate-variant": CANDIDATE})
    assert answer.headers["x-headgate-variant"] == CANDIDATE
    assert http.post("/tokenize", headers={"x-headgate-variant": "nobody"}).status_code == 404


def test_call__of_a_declared_api__replaces_that_of_openai(
    envoy: EnvoyPlane, http: httpx.Client, halves: Route, engines: Engines
) -> None:
    own = Route(halves.endpoint, halves.shares, halves.backends, BASELINE, api=EngineApi(("/generate",)))
    envoy.router.apply(own, token=1)
    assert http.post("/generate", json={}).status_code == 200
    assert http.post("/v1/generate", json={}).status_code == 200
    assert http.post("/v1/chat/completions", json={}).status_code == 404
    assert http.post("/tokenize", json={}).status_code == 404
    assert seen(engines) == {"POST /generate"}


@pytest.mark.parametrize(
    "path",
    [
        "/metrics", "/docs", "/openapi.json", "/load", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep",
        "/wake_up", "/v1/../metrics", "//metrics", "/v1/chat/completions/../../../metrics", "/reset_prefix_cache",
        "/v1/chat/completions/batch", "/v1/responses/x/cancel", "/v1/%2e%2e/metrics", "/v1/models/..%2fmetrics",
        "/v1x", "/v1/chat/completionsx", "/collective_rpc", "/control",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_call__that_is_not_of_the_api__reaches_no_engine(
    http: httpx.Client, halves: Route, engines: Engines, method: str, path: str
) -> None:
    assert raw_status(http, f"{method} /{halves.endpoint}{path} HTTP/1.1") in (404, 405)
    assert seen(engines) == set()


# --- what the router says by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "http://HOST/{name}/v1: /v1 is missing"),
        ("/", "/v1 is missing"),
        ("/chat/completions", "/v1 is missing"),
        ("/models", "/v1 is missing"),
        (
            "/v1",
            "Endpoint {name} has no such path. The base_url of endpoint {name} is http://HOST/{name}/v1.",
        ),
        ("/v1/v1/chat/completions", "has /v1 twice"),
        ("/v1/nothing", "POST /{name}/v1/chat/completions"),
        ("/v1/nothing", "Not counted: /{name}/tokenize"),
    ],
)
def test_path__that_does_not_exist__names_the_endpoint_and_what_there_is(
    http: httpx.Client, halves: Route, path: str, says: str
) -> None:
    url = f"http://127.0.0.1:{http.base_url.port}/{halves.endpoint}{path}"
    for answer in (http.get(url), http.post(url, json={})):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
        error = answer.json()["error"]
        assert says.format(name=halves.endpoint) in error["message"]
        assert (error["type"], error["param"], error["code"]) == ("gateway_error", None, "not_found")


@pytest.mark.usefixtures("halves")
def test_endpoint__that_does_not_exist__names_some_that_do(envoy: EnvoyPlane) -> None:
    answer = httpx.get(f"{envoy.url}/nobody/v1/models")
    assert answer.status_code == 404
    assert re.search(r"No such endpoint.*there are: chat\d+", answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/chat/completions", "POST, OPTIONS"),
        ("PUT", "/tokenize", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/v1/models", "GET, HEAD, OPTIONS"),
    ],
)
def test_method__that_a_path_does_not_take__is_405_with_those_it_takes(
    http: httpx.Client, engines: Engines, method: str, path: str, allow: str
) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert seen(engines) == set()


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/chat/completions", "POST, OPTIONS"),
        ("/tokenize", "GET, HEAD, POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
    ],
)
def test_options__of_a_path__says_its_methods_and_asks_no_engine(
    http: httpx.Client, engines: Engines, path: str, allow: str
) -> None:
    answer = http.options(path, headers={"origin": "https://app.example"})
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")
    assert "access-control-allow-origin" not in answer.headers
    assert seen(engines) == set()


# --- old proxies and browsers ----------------------------------------------------------------------------------


def raw(http: httpx.Client, head: str, body: bytes = b"") -> bytes:
    """What a socket gets for exactly this request."""
    with socket.create_connection(("127.0.0.1", http.base_url.port or 0), timeout=30) as connection:
        lines = [head, f"Content-Length: {len(body)}", "Connection: close"]
        if head.endswith("1.1"):
            lines.append("Host: gateway")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


def raw_status(http: httpx.Client, head: str) -> int:
    return int(raw(http, head).split(b" ", 2)[1])


def test_http_1_0__of_a_proxy_in_front__is_answered_without_chunks(http: httpx.Client, halves: Route) -> None:
    body = json.dumps({"model": halves.endpoint, "messages": []}).encode()
    got = raw(http, f"POST /{halves.endpoint}/v1/chat/completions HTTP/1.0", body)
    head, _, content = got.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 200 ", head)
    assert b"chunked" not in head.lower()
    assert json.loads(content)["model"] == halves.endpoint


def test_http_1_0__stream__is_whole_and_without_chunks(envoy: EnvoyPlane, endpoint: str) -> None:
    backend = envoy.backend(BASELINE)
    envoy.router.apply(Route(endpoint, {BASELINE: 10_000}, (backend,), BASELINE), token=1)
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
    with httpx.Client(base_url=envoy.url) as client:
        got = raw(client, f"POST /{endpoint}/v1/chat/completions HTTP/1.0", body)
    head, _, content = got.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"chunked" not in head.lower()
    assert content.startswith(b"data: {")
    assert content.endswith(b"data: [DONE]\n\n")


PREFLIGHT = {
    "origin": "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
def open_to(envoy: EnvoyPlane, halves: Route) -> Iterator[None]:
    """The same router, told one origin."""
    told = EnvoyRouter(envoy.run_dir, envoy.port, ENVOY, cors_origins=("https://app.example",))
    told.apply(halves, token=1)
    yield
    envoy.router.apply(halves, token=1)


@pytest.mark.usefixtures("open_to")
def test_cors__origin_that_was_allowed__may_call_and_read_who_answered(http: httpx.Client) -> None:
    preflight = http.options("/v1/chat/completions", headers=PREFLIGHT)
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization, *"
    for answer in (
        http.post("/v1/chat/completions", json={}, headers={"origin": "https://app.example"}),
        http.get("/v1/models", headers={"origin": "https://app.example"}),
        http.get("/v1/nothing", headers={"origin": "https://app.example"}),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["access-control-expose-headers"] == "x-request-id, x-headgate-variant"


@pytest.mark.usefixtures("open_to")
def test_cors__another_origin__is_told_nothing(http: httpx.Client) -> None:
    preflight = http.options("/v1/chat/completions", headers={**PREFLIGHT, "origin": "https://evil.example"})
    answer = http.post("/v1/chat/completions", json={}, headers={"origin": "https://evil.example"})
    assert not any("access-control" in name for name in (*preflight.headers, *answer.headers))


def test_cors__off_by_default__nothing_is_allowed(http: httpx.Client) -> None:
    preflight = http.options("/v1/chat/completions", headers=PREFLIGHT)
    assert not any("access-control" in name for name in preflight.headers)


def test_cors__any_origin__is_allowed_when_told_so(
    envoy: EnvoyPlane, halves: Route, http: httpx.Client
) -> None:
    EnvoyRouter(envoy.run_dir, envoy.port, ENVOY, cors_origins=("*",)).apply(halves, token=1)
    answer = http.get("/v1/models", headers={"origin": "http://localhost:3000"})
    envoy.router.apply(halves, token=1)
    assert answer.headers["access-control-allow-origin"] in ("*", "http://localhost:3000")
