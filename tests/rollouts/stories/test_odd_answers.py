"""The router, engines and the log answer oddly about one thing: the turn of the loop goes on, the others are done, and
what is kept of it is shown. Real adapters on stand-ins; on SQLite and on PostgreSQL, which takes less."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.passes.models import ItemTrouble
from rollouts.adapters.clusters.folder import EngineFolder
from rollouts.adapters.clusters.probe import warm_up
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.models import Feedback, FeedbackState, ProbeResult
from rollouts.ports import WorkloadStatus
from rollouts.services.commands.feedback import verify_feedback
from rollouts.services.loop.leases import look_soon
from rollouts.services.loop.reconcile import reconcile_endpoints
from rollouts.services.world import World
from tests import factories
from tests.factories.people import right_now
from tests.rollouts.memory_world import MemoryWorld
from tests.rollouts.probing import probe_rollouts
from tests.rollouts.worlds import worlds_of
from tests.standins.envoy_admin import EnvoyStandIn, envoy_standin
from tests.standins.odd import BODIES, DEEP, LONG_NUMBER, NUL, SURROGATE, assert_storable, written
from tests.standins.unix_server import response

pytestmark = pytest.mark.django_db

WORDS_WITH_NUL = response(b"no \x00 memory \xff", status="503 No")


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """An endpoint whose first version serves."""
    world = MemoryWorld(tmp_path)
    for _ in range(8):
        world.tick()
    return world


@pytest.fixture
def idle(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


@pytest.fixture
def envoy() -> Iterator[EnvoyStandIn]:
    with envoy_standin("triage") as found:
        yield found


def turn(w: MemoryWorld, world: World) -> None:
    """One tick of the loop after an interval; no item of it fails."""
    w.clock.advance(5)
    look_soon()
    report = reconcile_endpoints(worlds=worlds_of(world), clock=w.clock, threads=1)
    assert (report.done, report.failed) == (1, 0), [trouble.error for trouble in ItemTrouble.objects.all()]


class Observing:
    """The router of the story, seen through the real adapter on the stand-in."""

    def __init__(self, w: MemoryWorld, envoy: EnvoyStandIn) -> None:
        self.apply, self.claim = w.router.apply, w.router.claim
        self.capabilities = w.router.capabilities
        router = EnvoyRouter(envoy.run_dir, 1, Path("/no/envoy"))
        self.observe, self.observe_all = router.observe, router.observe_all


# --- the router -------------------------------------------------------------------------------------------------------


def test_counters__odd_in_every_way__each_turn_goes_on_and_the_last_reading_stays(
    w: MemoryWorld, envoy: EnvoyStandIn
) -> None:
    world = replace(w.world, signals=EnvoyStats(envoy.run_dir, w.clock))
    turn(w, world)
    before = w.endpoint.last_reading
    right = envoy.right("counters")
    counters = [
        right.replace(b" 9\n", b" %b\n" % value) for value in (b"NaN", b"+Inf", b"-1", b"1e300", b"0.5")
    ]
    codes = [right.replace(b'code="500"', b'code="%b"' % code) for code in (b"x", b"9999")]
    for odd in (
        *({"counters": body} for body in (*counters, *codes)),
        *({"listeners": body} for body in BODIES),
    ):
        envoy.odd = odd
        turn(w, world)
        assert w.endpoint.last_reading == before
    envoy.odd = {}
    turn(w, world)
    assert w.endpoint.last_reading["at"] > before["at"]


def test_route__odd_in_every_way__each_turn_goes_on_and_the_words_are_shown(
    w: MemoryWorld, envoy: EnvoyStandIn
) -> None:
    world = replace(w.world, router=Observing(w, envoy))
    for answer in ("routes", "clusters"):
        right = json.loads(envoy.right(answer))
        bodies = [
            written(dict.fromkeys(right)),
            written(dict.fromkeys(right, LONG_NUMBER)),
            written({**right, "more": DEEP}),
        ]
        for body in bodies:
            envoy.odd = {answer: body}
            turn(w, world)
            assert w.endpoint.router_problem
            assert_storable(w.endpoint.router_problem)
        for raw in (WORDS_WITH_NUL, b"\x00 no http"):
            envoy.odd, envoy.raw = {}, {answer: raw}
            turn(w, world)
            assert w.endpoint.router_problem
            assert_storable(w.endpoint.router_problem)
        envoy.raw = {}
        turn(w, world)
        assert w.endpoint.router_problem == ""


# --- engines ----------------------------------------------------------------------------------------------------------

METRICS = """vllm:num_requests_running 2.0
vllm:num_requests_waiting 1.0
vllm:kv_cache_usage_perc 0.25
vllm:generation_tokens_total 1200
"""


def test_engine__odd_metric_in_every_way__each_turn_goes_on_and_its_last_values_stay(
    w: MemoryWorld, envoy: EnvoyStandIn
) -> None:
    said = [METRICS]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=said[0]))
    signals = CombinedSignals(EnvoyStats(envoy.run_dir, w.clock), VllmMetrics(transport=transport))
    world = replace(w.world, signals=signals)
    turn(w, world)
    for line in METRICS.splitlines():
        for value in ("NaN", "+Inf", "-1", "abc", "9" * 500):
            said[0] = METRICS.replace(line, f"{line.split()[0]} {value}").replace(" 2.0", " 3.0")
            turn(w, world)
            assert w.workload(1).running == 2.0


def test_engine__odd_first_completion_in_every_way__its_words_are_kept(w: MemoryWorld) -> None:
    """What the warm-up says becomes the failure's message, as the cluster tells it; its log is kept too."""
    variant = w.variant(1).name
    folder = EngineFolder(w.world.models_dir.parent)
    folder.prepare()
    problem = ""

    class Cluster:
        def statuses(self) -> dict[str, WorkloadStatus]:
            failed, why = WorkloadPhase.FAILED, FailureReason.BAD_MODEL
            return {variant: WorkloadStatus(variant, failed, desired=1, reason=why, message=problem)}

        def log_tail(self, name: str, lines: int = 50) -> tuple[str, ...]:
            return folder.log_lines(name, lines)

        def __getattr__(self, name: str) -> Any:
            return getattr(w.cluster, name)

    world = replace(w.world, cluster=Cluster())
    folder.file(variant, "log").write_bytes(b"loading \x00 the \xff model\n")
    for body in (b"no \x00 model \xff", b'{"choices": null}', *BODIES):
        transport = httpx.MockTransport(lambda request, body=body: httpx.Response(200, content=iter([body])))
        with httpx.Client(transport=transport) as http:
            result = warm_up(http, variant, "triage", 7, is_ours=lambda: True)
        assert not result.ok
        problem = result.problem
        turn(w, world)
        assert w.workload(1).message == problem
    assert w.workload(1).log_tail == ["loading \ufffd the \ufffd model"]


# --- probes -----------------------------------------------------------------------------------------------------------

GOOD = 'data: {"choices": [{"delta": {"content": "billing"}}]}\n\ndata: [DONE]\n\n'
ODD_STREAMS: dict[str, bytes] = {
    "content with NUL and half a character": (
        b'data: {"choices": [{"delta": {"content": "a\\u0000\\ud800"}}]}\n\ndata: [DONE]\n\n'
    ),
    "content that is a number": b'data: {"choices": [{"delta": {"content": 7}}]}\n\ndata: [DONE]\n\n',
    "choices that are null": b'data: {"choices": null}\n\ndata: [DONE]\n\n',
    "an event that is a list": b"data: [1]\n\ndata: [DONE]\n\n",
    "tokens that are text": b'data: {"choices": [], "usage": {"completion_tokens": "many"}}\n\ndata: [DONE]\n\n',
    "tokens beyond all bounds": b'data: {"choices": [], "usage": {"completion_tokens": 1e30}}\n\ndata: [DONE]\n\n',
    "usage that is text": b'data: {"choices": [], "usage": "much"}\n\ndata: [DONE]\n\n',
    "an error with NUL": b'data: {"error": {"message": "no \\u0000 memory"}}\n\n',
    "an event nested without end": b"data: " + b"[" * 100_000 + b"\n\n",
    "no text at all": b"\xff\xfe\x00" * 100,
    "nothing": b"",
}


def test_probes__one_variant_answers_oddly_in_every_way__its_prompts_say_so_and_other_rollouts_are_probed(
    idle: MemoryWorld,
) -> None:
    made = {name: factories.rollout_progressing(of=factories.endpoint(name)) for name in "ab"}
    odd = made["b"].candidate.name
    for what, stream in ODD_STREAMS.items():
        ProbeResult.objects.all().delete()

        def handler(request: httpx.Request, stream: bytes = stream) -> httpx.Response:
            variant = request.headers["x-headgate-variant"]
            body = stream if variant == odd else GOOD.encode()
            return httpx.Response(200, content=iter([body]), headers={"x-headgate-variant": variant})

        prober = OpenAIProber.by_path("http://gateway", transport=httpx.MockTransport(handler))
        report = probe_rollouts(worlds_of(replace(idle.world, prober=prober)))
        assert report.failed == 0, what
        scored = ProbeResult.objects.exclude(score_candidate=None)
        assert "a" in set(scored.values_list("rollout__endpoint__name", flat=True)), what
        for row in ProbeResult.objects.filter(rollout=made["b"]):
            assert_storable([row.problem, row.answer_candidate])
            assert bool(row.problem) == (row.score_candidate is None), what
            assert "Error" not in row.problem, what


def test_probes__refusal_with_what_no_database_takes__is_kept_as_their_problem(idle: MemoryWorld) -> None:
    rollout = factories.rollout_progressing(of=factories.endpoint("a"))
    for status in (302, 400, 500):
        ProbeResult.objects.all().delete()
        refusal = httpx.MockTransport(
            lambda request, status=status: httpx.Response(status, content=iter([b"a \x00 \xff b"]))
        )
        prober = OpenAIProber.by_path("http://gateway", transport=refusal)
        assert probe_rollouts(worlds_of(replace(idle.world, prober=prober))).failed == 0
        problems = ProbeResult.objects.filter(rollout=rollout).values_list("problem", flat=True)
        assert problems
        assert all(f"HTTP {status}: a" in problem for problem in problems)


# --- the log of requests ----------------------------------------------------------------------------------------------

ODD_ENTRIES: dict[str, Any] = {
    "no object": [1],
    "null": None,
    "no id": {"id": None},
    "an id that is a number": {"id": 7},
    "an id without end": {"id": "x" * 10_000},
    "a cluster that is a list": {"cluster": ["assigned/a/v1"]},
    "a variant with NUL": {"variant": NUL},
    "a variant with half a character": {"variant": SURROGATE},
    "a status that is text": {"status": "fine"},
    "a status of 5,000 digits": {"status": LONG_NUMBER},
    "a time that is none": {"at": "yesterday"},
    "the year 50,000": {"at": 1_515_710_000_000.0},
    "no time": {"at": "NaN"},
    "nested without end": {"flags": DEEP},
}


@pytest.mark.parametrize("what", ODD_ENTRIES)
def test_ratings__entry_of_one_is_odd__the_others_are_settled(what: str, tmp_path: Path) -> None:
    now = right_now()
    endpoint = factories.endpoint("a")
    assert endpoint.stable is not None
    variant = endpoint.stable.name
    entry: dict[str, Any] = {
        "at": now.timestamp(),
        "cluster": f"assigned/a/{variant}",
        "variant": variant,
        "status": 200,
        "route": "a",
        "details": "via_upstream",
    }
    names = [f"request-{letter}" for letter in "abc"]
    for name in names:
        Feedback.objects.create(request_id=name, endpoint=endpoint, variant=variant, up=True, received_at=now)
    odd = ODD_ENTRIES[what]
    lines = [{**entry, "id": name} for name in names]
    lines[1] = {**lines[1], **odd} if isinstance(odd, dict) else odd
    (tmp_path / "access.jsonl").write_bytes(b"\n".join(written(line) for line in lines) + b"\n")
    log = EnvoyRequestLog(tmp_path)
    assert verify_feedback(endpoint=endpoint, log=log, now=now) >= 2
    verified = set(Feedback.objects.filter(state=FeedbackState.VERIFIED).values_list("request_id", flat=True))
    assert {"request-a", "request-c"} <= verified
    verify_feedback(endpoint=endpoint, log=log, now=now + timedelta(minutes=10))
    assert not Feedback.objects.filter(state=FeedbackState.PENDING).exists()
    log.close()
