"""One bad item never stops a pass: an error, a time-out and an odd value are injected at one item of every pass.

Each case arranges three items, the middle one bad, and says which items were done. What must hold is the same for all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.domain.manifest import Progress, nothing
from registry.models import Alias, ManifestState, Version
from registry.ports import ODD_ANSWER, StoredModel, StoredVersion
from registry.selectors import DETAILS, MANIFESTS, MODELS
from registry.services.manifests import register_pending_manifests
from registry.services.mirror import mirror_models
from rollouts.adapters.request_log.memory import MemoryRequestLog
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.evidence import evidence_rows
from rollouts.models import (
    Endpoint,
    Evidence,
    EvidencePack,
    Feedback,
    FeedbackState,
    MinuteSample,
    ProbeResult,
)
from rollouts.ports import Answer, LoggedRequest, ObservedRoute
from rollouts.selectors import TURNS, WRITE_BACKS
from rollouts.services.commands.feedback import verify_feedback
from rollouts.services.errands import packing
from rollouts.services.errands.housekeeping import HOUSEKEEPING, keep_house
from rollouts.services.errands.packing import PACKING, RETENTION, forget_evidence, pack_evidence
from rollouts.services.errands.write_backs import keep_mlflow_true
from rollouts.services.loop.reconcile import reconcile_endpoints
from tests import factories
from tests.factories.people import right_now
from tests.factories.weights import safetensors
from tests.rollouts.memory_world import START, MemoryWorld
from tests.rollouts.probing import probe_rollouts
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db

ERROR, TIME_OUT, ODD = "error", "time-out", "odd value"
WORDS = {ERROR: "failed (500)", TIME_OUT: "took too long", ODD: ""}
FILES = {"model.safetensors": safetensors()}


@dataclass
class Stage:
    """A pass ready to run. `done` says which of its items were done; `bad` is the key of the bad one, `words` what its
    error says when the value was odd; an error that has a place of its own is read by `error`."""

    name: str
    run: Callable[[], object]
    done: Callable[[], set[str]]
    others: set[str]
    bad: str
    words: str
    error: Callable[[], str] | None = None

    def kept(self) -> str:
        """The error that is kept at the bad item."""
        if self.error is not None:
            return self.error()
        return ItemTrouble.objects.get(pass_name=self.name, item=self.bad).error


def raiser(kind: str, clock: ManualClock) -> None:
    """What a foreign part does to whoever asks: nothing is raised for an odd value, which the case makes up itself."""
    if kind == ERROR:
        raise Unavailable("MLflow failed (500).")
    if kind == TIME_OUT:
        clock.advance(10)
        raise Unavailable("MLflow took too long to answer.")


class FaultyStore(MemoryModelStore):
    """A model store with one bad item; everything else of it, and the store itself, is well."""

    def __init__(self, kind: str, clock: ManualClock, bad: tuple[str, Any]) -> None:
        super().__init__(start=clock.now().timestamp() - 1000)
        self.kind, self.clock, self.bad = kind, clock, bad

    def fault(self, method: str, item: Any) -> bool:
        """Raises at the bad item; True where an odd value is to be told instead."""
        if (method, item) != self.bad:
            return False
        raiser(self.kind, self.clock)
        return True

    def models(self) -> tuple[StoredModel, ...]:
        found = super().models()
        odd = self.bad[0] == "versions" and self.kind == ODD
        return tuple(
            replace(model, updated_at=1e30) if odd and model.name == self.bad[1] else model for model in found
        )

    def versions(self, model: str) -> tuple[StoredVersion, ...]:
        self.fault("versions", model)
        return super().versions(model)

    def version(self, model: str, number: int) -> StoredVersion:
        found = super().version(model, number)
        odd: dict[str, Any] = {"loss": "much"}
        return replace(found, metrics=odd) if self.fault("version", number) else found

    def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        if self.fault("download", version.number):
            raise InvalidInput("What MLflow says of its files cannot be understood.", code=ODD_ANSWER)
        super().download(version, to, progress)

    def set_alias(self, model: str, alias: str, number: int) -> None:
        if self.fault("set_alias", alias):
            int("version seven")
        super().set_alias(model, alias, number)


def models_of_the_mirror(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(START)
    store = FaultyStore(kind, clock, ("versions", "b"))
    for name in "abc":
        store.add_model(name)
        store.add_version(name, FILES)
    return Stage(
        MODELS,
        run=lambda: mirror_models(store=store, clock=clock),
        done=lambda: {str(version) for version in Version.objects.all()},
        others={"a v1", "c v1"},
        bad="b",
        words="last_updated_timestamp is 1e+30, which is no time between 1970 and 2100.",
    )


def details_of_versions(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(START)
    store = FaultyStore(kind, clock, ("version", 2))
    store.add_model("llama")
    for _ in range(3):
        store.add_version("llama", FILES)

    def run() -> None:
        mirror_models(store=store, clock=clock)
        stage.bad = str(Version.objects.get(number=2).pk)

    stage = Stage(
        DETAILS,
        run=run,
        done=lambda: {str(v.number) for v in Version.objects.exclude(details_at=None)},
        others={"1", "3"},
        bad="",
        words="The metric 'loss' is 'much', which is no number.",
    )
    return stage


def files_of_versions(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(START)
    store = FaultyStore(kind, clock, ("download", 2))
    store.add_model("llama")
    for _ in range(3):
        store.add_version("llama", FILES)
    mirror_models(store=store, clock=clock)
    return Stage(
        MANIFESTS,
        run=lambda: register_pending_manifests(store=store, models_dir=tmp_path / "models", clock=clock),
        done=lambda: {str(v.number) for v in Version.objects.filter(manifest_state=ManifestState.VERIFIED)},
        others={"1", "3"},
        bad=str(Version.objects.get(number=2).pk),
        words="What MLflow says of its files cannot be understood.",
    )


def write_backs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(START)
    store = FaultyStore(kind, clock, ("set_alias", "b-production"))
    store.add_model("triage")
    for _ in range(3):
        store.add_version("triage", FILES)
    made = {name: factories.endpoint(name) for name in "abc"}
    Alias.objects.all().delete()
    return Stage(
        WRITE_BACKS,
        run=lambda: keep_mlflow_true(store=store, clock=clock),
        done=lambda: {name for model in store.models() for name in model.aliases},
        others={"a-production", "c-production"},
        bad=str(made["b"].pk),
        words="ValueError: invalid literal for int() with base 10: 'version seven'",
    )


def probes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    w = MemoryWorld(tmp_path)
    made = {name: factories.rollout_progressing(of=factories.endpoint(name)) for name in "abc"}
    for rollout in made.values():
        ProbeResult.objects.filter(rollout=rollout).delete()

    class Prober:
        def ask(self, *, endpoint: str, variant: str, **_: Any) -> Answer:
            if endpoint == "b":
                raiser(kind, w.clock)
                return Answer(text=3.5, variant=variant, seconds=0.1)  # type: ignore[arg-type]
            return Answer(text="billing", variant=variant, seconds=0.1)

    world = replace(w.world, prober=Prober())
    answered = ProbeResult.objects.exclude(score_candidate=None)
    return Stage(
        "probes",
        run=lambda: probe_rollouts(worlds_of(world)),
        done=lambda: set(answered.values_list("rollout__endpoint__name", flat=True)),
        others={"a", "c"},
        bad="b",
        words="is no text",
        error=lambda: ProbeResult.objects.filter(rollout=made["b"])[0].problem,
    )


def ratings(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(right_now())
    endpoint = factories.endpoint("a")
    assert endpoint.stable is not None
    variant = endpoint.stable.name
    rows = [
        Feedback.objects.create(
            request_id=f"request-{name}", endpoint=endpoint, variant=variant, up=True, received_at=clock.now()
        )
        for name in "abc"
    ]

    class Log:
        def find(self, request_ids: Any) -> dict[str, LoggedRequest]:
            if "request-b" in request_ids and kind == ERROR:
                raise OSError("MLflow failed (500)")
            if "request-b" in request_ids and kind == TIME_OUT:
                raise TimeoutError("it took too long")
            at = clock.now().timestamp()
            return {
                name: LoggedRequest(name, "a", variant, variant, 200, 1e30 if name == "request-b" else at)
                for name in request_ids
            }

        def rotate(self) -> bool:
            return False

    verified = Feedback.objects.filter(state=FeedbackState.VERIFIED)
    return Stage(
        "ratings of a",
        run=lambda: verify_feedback(endpoint=endpoint, log=Log(), now=clock.now()),
        done=lambda: set(verified.values_list("request_id", flat=True)),
        others={"request-a", "request-c"},
        bad=str(rows[1].pk),
        words="The router's log says it was answered at 1e+30.",
    )


def packs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(right_now())
    made = {name: factories.rollout_rolled_back(of=factories.endpoint(name)) for name in "abc"}
    read = evidence_rows

    def rows(rollout_id: int, **range_: Any) -> Any:
        if rollout_id == made["b"].pk:
            raiser(kind, clock)
        return read(rollout_id, **range_)

    monkeypatch.setattr(packing, "evidence_rows", rows)
    if kind == ODD:
        first = Evidence.objects.filter(rollout=made["b"]).order_by("index")[0]
        Evidence.objects.filter(pk=first.pk).update(interval={"started_at": "yesterday"})
    return Stage(
        PACKING,
        run=lambda: pack_evidence(now=clock.now() + timedelta(hours=3)),
        done=lambda: set(EvidencePack.objects.values_list("rollout__endpoint__name", flat=True)),
        others={"a", "c"},
        bad=str(made["b"].pk),
        words="ValueError: could not convert string to float: 'yesterday'",
    )


def retention(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(right_now())
    made = {name: factories.rollout_rolled_back(of=factories.endpoint(name)) for name in "abc"}
    later = clock.now() + timedelta(days=500)
    pack_evidence(now=later)
    forget = packing._forget

    def forget_one(rollout_id: int, now: datetime) -> None:
        if rollout_id == made["b"].pk:
            raiser(kind, clock)
            int("odd")
        forget(rollout_id, now)

    monkeypatch.setattr(packing, "_forget", forget_one)
    emptied = EvidencePack.objects.filter(rows=b"")
    return Stage(
        RETENTION,
        run=lambda: forget_evidence(now=later, days=400),
        done=lambda: set(emptied.values_list("rollout__endpoint__name", flat=True)),
        others={"a", "c"},
        bad=str(made["b"].pk),
        words="ValueError: invalid literal for int() with base 10: 'odd'",
    )


def chores(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock = ManualClock(right_now())
    endpoint = factories.endpoint("a")
    assert endpoint.stable is not None
    sample = MinuteSample.objects.create(
        endpoint=endpoint, variant=endpoint.stable, minute=clock.now() - timedelta(days=3)
    )
    Feedback.objects.create(
        request_id="request-a", endpoint=endpoint, variant="x", up=True, state=FeedbackState.VERIFIED,
        received_at=clock.now() - timedelta(days=31),
    )  # fmt: skip

    class Log(MemoryRequestLog):
        def rotate(self) -> bool:
            raiser(kind, clock)
            return bool(int("odd"))

    world = world_in_memory(clock)
    world = replace(world, request_log=Log(MemoryRouter(clock, random.Random(7))))

    def done() -> set[str]:
        gone = {"samples"} if not MinuteSample.objects.filter(pk=sample.pk).exists() else set()
        return gone | ({"ratings"} if not Feedback.objects.exists() else set())

    return Stage(
        HOUSEKEEPING,
        run=lambda: keep_house(clock=clock, evidence_days=400, worlds=worlds_of(world)),
        done=done,
        others={"samples", "ratings"},
        bad="the log of the router of here",
        words="ValueError: invalid literal for int() with base 10: 'odd'",
    )


def turns(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    w = MemoryWorld(tmp_path)
    Endpoint.objects.all().update(reconciled_at=None)
    made = {name: factories.endpoint(name) for name in "abc"}
    Endpoint.objects.update(reconciled_at=None)
    router = w.router

    class Router:
        """Fails for one endpoint with what no adapter promises; an odd value is one that no decision understands."""

        def observe(self, endpoint: str) -> ObservedRoute | None:
            if endpoint != "b":
                return router.observe(endpoint)
            if kind == ERROR:
                raise RuntimeError("MLflow failed (500)")
            if kind == TIME_OUT:
                raise TimeoutError("it took too long")
            return ObservedRoute("b", None, frozenset())  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> Any:
            return getattr(router, name)

    world = replace(w.world, router=Router())
    seen = Endpoint.objects.exclude(reconciled_at=None).filter(name__in="abc")
    return Stage(
        TURNS,
        run=lambda: reconcile_endpoints(worlds=worlds_of(world), clock=w.clock, threads=1),
        done=lambda: set(seen.values_list("name", flat=True)),
        others={"a", "c"},
        bad=str(made["b"].pk),
        words="TypeError",
    )


PASSES = [
    models_of_the_mirror, details_of_versions, files_of_versions, write_backs, probes, ratings, packs, retention,
    chores, turns,
]  # fmt: skip


@pytest.mark.parametrize("kind", [ERROR, TIME_OUT, ODD])
@pytest.mark.parametrize("arrange", PASSES, ids=lambda arrange: arrange.__name__)
def test_pass__one_item_is_bad__all_the_others_are_done_and_it_keeps_its_error(
    arrange: Callable[..., Stage], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = arrange(kind, tmp_path, monkeypatch)
    stage.run()
    assert stage.done() == stage.others
    assert (WORDS[kind] or stage.words) in stage.kept()
