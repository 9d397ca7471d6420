"""An OpenAI-compatible serving engine that misbehaves on command; it plays vLLM in fault tests.

    python -m tests.standins.engine --port 19300 --variant chat-v2-aaaa --latency-ms 20

It answers as vLLM 0.32 does: /health, /v1/models, /v1/chat/completions (whole, or streamed as SSE with
several chunks), and /metrics with vLLM's names and bucket edges. A failing stream ends as vLLM's does:
HTTP 200, an SSE `{"error": ...}`, then `[DONE]`. A stream's headers go out before its first token; an answer that
is not streamed goes out whole. The end of an answer is a token too, so an empty one has one.

Behaviour is a flat set of values (class Behaviour). It comes from, later ones win: the defaults,
`standin.json` in the folder given by --model, the arguments, and at run time `POST /control` with a JSON
object of any of them.
`GET /control` returns the values in force, what was counted, and of each request that hangs at this moment for how many
seconds it has (`hung_for`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


def edges(text: str) -> tuple[float, ...]:
    return tuple(float(edge) for edge in text.split())


TTFT_EDGES = edges(".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560")
TOKEN_EDGES = edges(".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80")
COUNT_EDGES = edges("1 2 5 10 20 50 100 200 500 1000 2000")
REQUEST_EDGES = edges(".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680")

# All that a vLLM 0.32 can say; aborts of clients are in none of them.
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


@dataclass
class Behaviour:
    """How the engine behaves.

    latency_ms         before the first token; a stream's headers have gone by then
    token_ms           before each later token
    tokens             repeats the answer's words until it is this long (0: the answer as it is)
    limit_tokens       longer answers are cut there and end with "length" (0: only where the request says so)
    error_rate         share of requests answered with HTTP 500
    refuse_rate        share of requests refused with `refuse_status`
    refuse_system      requests with a system message are refused with 400, as by a template that knows no such role
    hang_rate          share of requests that never get a first token
    hang_on            and so do those whose last user message begins with this ("": none)
    empty_rate         share of answers that end at once, without a word
    stream_error_rate  share of streams that end in an SSE error after two tokens, as a crashed vLLM's do
    cut_rate           share of streams whose connection is dropped after two tokens
    die_mid_stream     the next stream kills the process (SIGKILL) after two tokens
    linger_ms          between a stream's [DONE], which comes in two pieces then, and the end of its body
    healthy            False: /health answers 503
    answers            last user message -> answer; "*" is the answer to everything else
    """

    latency_ms: float = 0.0
    token_ms: float = 0.0
    tokens: int = 0
    limit_tokens: int = 0
    error_rate: float = 0.0
    refuse_rate: float = 0.0
    refuse_status: int = 429
    refuse_system: bool = False
    hang_rate: float = 0.0
    hang_on: str = ""
    empty_rate: float = 0.0
    stream_error_rate: float = 0.0
    cut_rate: float = 0.0
    die_mid_stream: bool = False
    linger_ms: float = 0.0
    healthy: bool = True
    answers: dict[str, str] = field(default_factory=dict)

    def change(self, values: dict[str, Any]) -> None:
        """Takes over `values`; raises ValueError naming one that does not exist or has another type."""
        kinds = {spec.name: type(getattr(self, spec.name)) for spec in fields(self)}
        for name, value in values.items():
            if name not in kinds:
                raise ValueError(f"no such value: {name}; there are {', '.join(kinds)}")
            kind = kinds[name]
            if not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(f"{name} must be a {kind.__name__}")
        for name, value in values.items():
            setattr(self, name, kinds[name](value))


class Metrics:
    """vLLM's metrics, by its names."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = {"labelnames": ["model_name", "engine"], "registry": self.registry}
        at = {"model_name": model, "engine": "0"}

        def histogram(name: str, edges: tuple[float, ...]) -> Histogram:
            return Histogram(name, name, buckets=edges, **labels).labels(**at)  # type: ignore[arg-type]

        self.running = Gauge("vllm:num_requests_running", "running", **labels).labels(**at)  # type: ignore[arg-type]
        self.waiting = Gauge("vllm:num_requests_waiting", "waiting", **labels).labels(**at)  # type: ignore[arg-type]
        self.cache = Gauge("vllm:kv_cache_usage_perc", "cache", **labels).labels(**at)  # type: ignore[arg-type]
        self.tokens = Counter("vllm:generation_tokens", "tokens", **labels).labels(**at)  # type: ignore[arg-type]
        success = Counter(
            "vllm:request_success",
            "ended",
            ["model_name", "engine", "finished_reason"],
            registry=self.registry,
        )
        self.success = {reason: success.labels(**at, finished_reason=reason) for reason in FINISH_REASONS}
        self.lengths = histogram("vllm:request_generation_tokens", COUNT_EDGES)
        self.ttft = histogram("vllm:time_to_first_token_seconds", TTFT_EDGES)
        self.per_token = histogram("vllm:request_time_per_output_token_seconds", TOKEN_EDGES)
        self.duration = histogram("vllm:e2e_request_latency_seconds", REQUEST_EDGES)


class Cut(Exception):
    """Drops the connection: raised out of the application after a response began, the server closes it."""


class Engine:
    """The ASGI application."""

    def __init__(
        self, *, variant: str, names: list[str], behaviour: Behaviour, slots: int, seed: int
    ) -> None:
        self.variant = variant
        self.names = names
        self.behaviour = behaviour
        self.metrics = Metrics(self.name)
        self.counts = {"requests": 0, "completed": 0, "failed": 0, "refused": 0, "aborted": 0}
        self.hanging: list[float] = []  # when each of them began, by the monotonic clock
        self._slots = asyncio.Semaphore(slots) if slots else None
        self._size = slots or 100
        self._random = random.Random(seed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        where = (scope["method"], scope["path"])
        if where == ("GET", "/health"):
            await answer(send, 200 if self.behaviour.healthy else 503, None)
        elif where == ("GET", "/metrics"):
            await answer(send, 200, generate_latest(self.metrics.registry), b"text/plain; version=0.0.4")
        elif where == ("GET", "/v1/models"):
            data = [
                {"id": name, "object": "model", "created": 0, "owned_by": "standin"}
                for name in self.names or [self.variant]
            ]
            await answer(send, 200, {"object": "list", "data": data})
        elif where == ("GET", "/control"):
            ages = [time.monotonic() - began for began in self.hanging]
            now = {"counts": self.counts, "hung_for": ages, "pid": os.getpid()}
            await answer(send, 200, asdict(self.behaviour) | now)
        elif where == ("POST", "/control"):
            try:
                self.behaviour.change(json.loads(body))
            except ValueError as error:
                await answer(send, 400, problem(400, str(error)))
            else:
                await answer(send, 200, asdict(self.behaviour))
        elif where == ("POST", "/v1/chat/completions"):
            await self.complete(body, receive, send)
        else:
            await answer(send, 404, problem(404, f"no such path: {scope['path']}"))

    @property
    def name(self) -> str:
        """What it reports as its model, as vLLM does: the first name it is served under."""
        return self.names[0] if self.names else self.variant

    async def complete(self, body: bytes, receive: Receive, send: Send) -> None:
        try:
            asked = json.loads(body)
            prompt = [m["content"] for m in asked["messages"] if m["role"] == "user"][-1]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            await answer(send, 400, problem(400, f"cannot read the request: {error!r}"))
            return
        model = asked.get("model") or self.name
        if self.names and model not in self.names:
            await answer(send, 404, problem(404, f"The model `{model}` does not exist."))
            return
        self.counts["requests"] += 1
        if status := self.refusal(asked):
            self.counts["refused"] += 1
            await answer(send, status, problem(status, "The request is refused."))
            return
        if self._random.random() < self.behaviour.error_rate:
            self.counts["failed"] += 1
            await answer(send, 500, problem(500, "EngineCore encountered an issue"))
            return
        gone = asyncio.ensure_future(until_disconnect(receive))
        try:
            self.metrics.waiting.inc()
            if self._slots:
                await self._slots.acquire()
            self.metrics.waiting.dec()
            self.metrics.running.inc()
            self.metrics.cache.inc(1 / self._size)
            try:
                await self.generate(asked, prompt, gone, send)
            finally:
                self.metrics.running.dec()
                self.metrics.cache.dec(1 / self._size)
                if self._slots:
                    self._slots.release()
        finally:
            gone.cancel()

    def refusal(self, asked: dict[str, Any]) -> int:
        """The status with which the request is refused; 0 when it is not."""
        if self.behaviour.refuse_system and any(m["role"] == "system" for m in asked["messages"]):
            return 400
        return self.behaviour.refuse_status if self.happens(self.behaviour.refuse_rate) else 0

    def happens(self, rate: float) -> bool:
        """Draws; at 0 nothing is drawn, so that a value that is not used leaves the other draws as they are."""
        return rate > 0 and self._random.random() < rate

    def words(self, prompt: str) -> list[str]:
        """The answer's tokens: its words, the space with the word that follows, as tokenizers do."""
        if self.happens(self.behaviour.empty_rate):
            return []
        answers = self.behaviour.answers
        text = answers.get(prompt, answers.get("*", f"answered by {self.variant}"))
        words = [word if i == 0 else " " + word for i, word in enumerate(text.split(" "))]
        if self.behaviour.tokens:
            words = [words[i % len(words)] for i in range(self.behaviour.tokens)]
        return words

    async def generate(
        self, asked: dict[str, Any], prompt: str, gone: asyncio.Future[None], send: Send
    ) -> None:
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or self.behaviour.limit_tokens
        tokens = [*self.words(prompt), ""]  # the end is a token, without a word
        reason = "length" if limit and len(tokens) > int(limit) else "stop"
        tokens = tokens[: int(limit)] if limit else tokens
        began = time.monotonic()
        model = self.name if self.names else asked.get("model") or self.variant
        stamp = {"id": f"chatcmpl-{os.urandom(8).hex()}", "created": int(time.time()), "model": model}
        stamp["system_fingerprint"] = self.variant
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(tokens)}
        usage["total_tokens"] = sum(usage.values())
        stream = bool(asked.get("stream"))
        fails = stream and self._random.random() < self.behaviour.stream_error_rate
        cuts = stream and self._random.random() < self.behaviour.cut_rate
        if stream:  # vLLM, too, sends the headers before the first token
            await start(send, 200, b"text/event-stream; charset=utf-8")

        def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return {**stamp, "object": "chat.completion.chunk", "choices": [choice]}

        hang_on = self.behaviour.hang_on
        if self.happens(self.behaviour.hang_rate) or (hang_on and prompt.startswith(hang_on)):
            self.hanging.append(began)
            try:
                await gone
            finally:
                self.hanging.remove(began)
        async for index in self.tokens(tokens, gone):
            if index == 0:
                self.metrics.ttft.observe(time.monotonic() - began)
                if stream:
                    await event(send, chunk({"role": "assistant", "content": ""}))
            self.metrics.tokens.inc()
            if not stream or not tokens[index]:
                continue
            await event(send, chunk({"content": tokens[index]}))
            if index == 1 and self.behaviour.die_mid_stream:
                await asyncio.sleep(0.05)  # let the two tokens leave
                os.kill(os.getpid(), signal.SIGKILL)
            if index == 1 and cuts:
                self.counts["failed"] += 1
                await asyncio.sleep(0.05)
                raise Cut
            if index == 1 and fails:
                self.counts["failed"] += 1
                await event(send, problem(500, "Internal server error"))
                await event(send, "[DONE]")
                await finish(send)
                return
        if gone.done():
            self.counts["aborted"] += 1
            return
        seconds = time.monotonic() - began
        self.metrics.duration.observe(seconds)
        self.metrics.per_token.observe(seconds / len(tokens))
        self.metrics.lengths.observe(len(tokens))
        self.metrics.success[reason].inc()
        self.counts["completed"] += 1
        if stream:
            await event(send, chunk({}, reason))
            if (asked.get("stream_options") or {}).get("include_usage"):
                await event(send, {**stamp, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            await self.say_done(send)
            await finish(send)
        else:
            message = {"role": "assistant", "content": "".join(tokens)}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            await answer(
                send, 200, {**stamp, "object": "chat.completion", "choices": [choice], "usage": usage}
            )

    async def say_done(self, send: Send) -> None:
        if not self.behaviour.linger_ms:
            await event(send, "[DONE]")
            return
        for piece in (b"data: [D", b"ONE]\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(self.behaviour.linger_ms / 1000)

    async def tokens(self, words: list[str], gone: asyncio.Future[None]) -> AsyncIterator[int]:
        """Yields 0, 1, ... each when its time has come; ends early when the client has gone."""
        for index, word in enumerate(words):
            later = self.behaviour.token_ms if word else 0.0  # the end comes with the last word
            wait = self.behaviour.latency_ms if index == 0 else later
            if wait:
                await asyncio.wait({gone}, timeout=wait / 1000)
            if gone.done():
                return
            yield index


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def problem(status: int, message: str) -> dict[str, Any]:
    kinds = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError"}
    kind = kinds.get(status, "InternalServerError" if status >= 500 else "UnprocessableEntityError")
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


async def start(send: Send, status: int, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def event(send: Send, data: dict[str, Any] | str) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})


async def finish(send: Send) -> None:
    await send({"type": "http.response.body", "body": b""})


async def answer(send: Send, status: int, data: Any, kind: bytes = b"application/json") -> None:
    body = b"" if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.standins.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--variant", default="", help="who it is, as its system_fingerprint; default: its first name"
    )
    parser.add_argument(
        "--served-model-name",
        nargs="+",
        default=[],
        help="models it answers to (default: any); reported: the first",
    )
    parser.add_argument("--model", type=Path, help="folder; its standin.json may hold a Behaviour")
    parser.add_argument(
        "--answers", type=Path, help='JSON file: last user message -> answer ("*": all others)'
    )
    parser.add_argument(
        "--slots", type=int, default=0, help="requests served at once (0: no limit); others wait"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--load-seconds", type=float, default=0.0, help="how long 'loading' takes before it listens"
    )
    parser.add_argument(
        "--fail", default="", help="print this to stderr after loading and exit with status 1"
    )
    for spec in fields(Behaviour):
        flag = "--" + spec.name.replace("_", "-")
        if spec.name in ("die_mid_stream", "refuse_system"):
            parser.add_argument(flag, action="store_true", default=None)
        elif spec.name == "healthy":
            parser.add_argument("--unhealthy", dest="healthy", action="store_false", default=None)
        elif spec.name != "answers":
            parser.add_argument(flag, type={"int": int, "str": str}.get(str(spec.type), float))
    args = parser.parse_args(argv)
    if not (args.variant or args.served_model_name):
        parser.error("--variant or --served-model-name is required")
    return args


def behaviour_of(args: argparse.Namespace) -> Behaviour:
    """The defaults, then the model folder's standin.json, then the arguments."""
    behaviour = Behaviour()
    if args.model and (args.model / "standin.json").exists():
        behaviour.change(json.loads((args.model / "standin.json").read_text()))
    given = {spec.name: getattr(args, spec.name) for spec in fields(Behaviour) if spec.name != "answers"}
    behaviour.change({name: value for name, value in given.items() if value is not None})
    if args.answers:
        behaviour.change({"answers": json.loads(args.answers.read_text())})
    return behaviour


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    behaviour = behaviour_of(args)
    time.sleep(args.load_seconds)
    if args.fail:
        print(args.fail, file=sys.stderr)
        return 1
    names = list(dict.fromkeys(args.served_model_name))
    engine = Engine(
        variant=args.variant or names[0], names=names, behaviour=behaviour, slots=args.slots, seed=args.seed
    )
    print(f"standin engine {engine.variant} on {args.host}:{args.port}", file=sys.stderr)
    uvicorn.run(
        engine, host=args.host, port=args.port, log_level="critical", access_log=False, lifespan="off",
        timeout_keep_alive=75,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
