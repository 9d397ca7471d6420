"""Nothing that hangs or takes long shares a queue with the loop: what people ask for is in force at the router while as
many rounds of probes hang as the loop has threads, and a version of 20 GB is being registered.

Real processes; stand-in engines, and a proxy before MLflow that makes up the 20 GB as it sends them. On the database
that HEADGATE_DATABASE_URL names, else on SQLite. What it measures is printed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin
from rollouts.adapters.routers.envoy_config import Paths
from rollouts.adapters.routers.envoy_routes import ANSWER, ASSIGNED, cluster_name
from tests.e2e.house import ENDPOINT, House
from tests.standins.large_file import LargeFile
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.needs("envoy", "mlflow"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(1500),
]

WEIGHTS = "model.safetensors"
SIZE = 20_000_000_000
A_SECOND = 30_000_000  # bytes: what MLflow sends on a network of 250 Mbit/s
MOST = 6_000_000_000  # what it leaves on the disk at most, and is removed at the end
# With the endpoint's own rollout as many as hang at once at most (`probe_rounds.HANGING_AT_ONCE`), which is also the
# number of the loop's threads: if they had to serve the rounds, none would be left for a click.
OTHERS = 7
ROLLOUTS = 2  # one after the other
SWITCHES = 26  # a rollout
RESUMED = 3  # a rollout
# A probe that hangs is given up after 20 s. A click is made in the first 11 s of one, so whatever waited for that probe
# would come 9 s later at the earliest. Up to there the bound is as generous to a slow machine as can be.
PROBE_SECONDS, FRESH_SECONDS, BOUND_SECONDS = 20.0, 11.0, 8.0
HELD: dict[str, Any] = {  # nobody is asked for anything, so a person ends it
    "strategy": "canary",
    "steps": [{"share_bp": 2500, "hold_seconds": 3_600, "min_requests": 1_000_000}],
    "watch_seconds": 3_600,
    "no_data_seconds": 3_600,
    "launch_seconds": 240,
}
GOLDEN = "question"  # every golden prompt begins so; users ask something else, and are answered


@dataclass(frozen=True)
class Effect:
    """One click: seconds until the web answered, and from then until the router had it in force."""

    kind: str
    answered: float
    in_force: float


@pytest.fixture
def store() -> Iterator[LargeFile]:
    made = LargeFile(WEIGHTS, size=SIZE, a_second=A_SECOND, most=MOST)
    yield made
    made.stop()


@pytest.fixture
def house(store: LargeFile) -> Iterator[House]:
    settings = {"HEADGATE_MLFLOW_PROXY": store.url}
    if url := os.environ.get("HEADGATE_DATABASE_URL"):
        settings["HEADGATE_DATABASE_URL"] = url
    made = House({"v1": 0, "v2": 0}, behaviours={"v2": {"hang_on": GOLDEN}}, settings=settings)
    try:
        made.stop_users()
        users_of_their_own(made)
        yield made
    finally:
        made.close()


def test_clicks__while_probes_hang_and_20_gb_are_registered__are_in_force_before_either_ends(
    house: House, store: LargeFile, record_property: Callable[[str, object], None]
) -> None:
    others = candidates_of_others(house)
    register_large(house)
    wait_until("its files are being fetched", lambda: store.sent > 0, 120)
    before = store.sent
    house.send_users(per_second=10)
    effects = [effect for _ in range(ROLLOUTS) for effect in Story(house, others).told()]
    figures = figures_of(effects, store)
    record_property("clicks", figures)
    print(figures)

    assert store.ended == 0, "the file is still coming, and was never begun anew"
    assert store.sent > before + 10 * A_SECOND, "it came all the while"
    assert house.users()["lost"] == 0, house.users()["losses"]
    assert house.users()["sent"] > 100, "they asked all the while"
    assert max(effect.in_force for effect in effects) < BOUND_SECONDS, f"{figures}\n{house.logs()}"


class Story:
    """One rollout of the endpoint whose candidate has traffic and never answers its probes, and clicks on it.

    others   where the other engines that hang are controlled
    """

    def __init__(self, house: House, others: list[str]) -> None:
        self.house, self.others = house, others
        self.envoy = Paths(house.run_dir / "envoy")
        self.admin = EnvoyAdmin(self.envoy.admin)
        self.number = house.start("v2", HELD)
        state = house.wait_for_share(self.number, 2500)
        self.baseline, self.candidate = state["baseline"]["name"], state["candidate"]["name"]
        self.control = control_of(house, self.candidate)
        self.effects: list[Effect] = []

    def told(self) -> list[Effect]:
        for number in range(SWITCHES):
            self.set_rescue(on=number % 2 == 1)
        for _ in range(RESUMED):
            self.resume_after_a_hand()
        self.click(
            "promote", f"/rollouts/{self.number}/promote", lambda: self.shares() == {self.candidate: 10_000}
        )
        self.click(
            "roll back", f"/rollouts/{self.number}/rollback", lambda: self.shares() == {self.baseline: 10_000}
        )
        self.house.wait_settled(self.number)
        return self.effects

    def set_rescue(self, *, on: bool) -> None:
        """Whether the candidate answers for a dead baseline: no share moves."""
        self._measure(
            "switch",
            lambda: self.house.client.put(f"/endpoints/{ENDPOINT}/rescue", {"on": on}),
            lambda: (self.candidate in self.answerers()) == on,
        )

    def resume_after_a_hand(self) -> None:
        """Somebody sets the split in the router; the rollout pauses; the click sets it as planned again."""
        planned = self.shares()

        def noticed() -> bool:
            """A turn that was under way may publish its own split over it at any time: then somebody sets it again."""
            if self.shares() == planned:
                self._split_by_hand()
            return bool(self.house.rollout(self.number)["phase"] == "paused")

        wait_until("a split by hand was noticed", noticed, 60)
        self.click("resume", f"/rollouts/{self.number}/resume", lambda: self.shares() == planned)

    def _split_by_hand(self) -> None:
        table = json.loads(self.envoy.routes.read_text())
        for entry in weights_of(table, ENDPOINT):
            entry["weight"] = 5_000
        fresh = self.envoy.routes.with_name("by-hand.json")
        fresh.write_text(json.dumps({**table, "version_info": f"by hand {time.monotonic_ns()}"}))
        fresh.replace(self.envoy.routes)

    def click(self, kind: str, path: str, in_force: Callable[[], bool]) -> None:
        self._measure(kind, lambda: self.house.client.post(path, {}), in_force)

    def _measure(self, kind: str, act: Callable[[], object], in_force: Callable[[], bool]) -> None:
        given_up = self._fresh_probe()
        sent = time.monotonic()
        act()
        answered = time.monotonic()
        wait_until(f"{kind} is in force", in_force, PROBE_SECONDS * 3)
        now = time.monotonic()
        self.effects.append(Effect(kind, answered - sent, now - answered))
        assert asked(self.control)["counts"]["aborted"] == given_up, (
            f"{kind}: the probe that hung was given up {self.effects[-1]}"
        )

    def _fresh_probe(self) -> int:
        """Waits until a probe of the candidate hangs that began a moment ago, and most of the others hang, too; returns
        how many were given up before it."""

        said: dict[str, Any] = {}

        def fresh() -> bool:
            said.update(asked(self.control))
            hung_for = said["hung_for"]
            return bool(hung_for) and max(hung_for) < FRESH_SECONDS and self._others_hang()

        wait_until("its probe hangs anew", fresh, 4 * PROBE_SECONDS)
        return int(said["counts"]["aborted"])

    def _others_hang(self) -> bool:
        return sum(len(asked(control)["hung_for"]) for control in self.others) > OTHERS // 2

    def shares(self) -> dict[str, int]:
        """The endpoint's split as Envoy has it in force; empty while it does not say."""
        try:
            split = self.admin.split(ENDPOINT)
        except Unavailable:
            return {}
        return dict(split.shares) if split else {}

    def answerers(self) -> set[str]:
        """Who answers for the baseline, as Envoy has it in force."""
        name = cluster_name(ASSIGNED, ENDPOINT, self.baseline)
        dump = json.loads(
            self.admin.text("/config_dump", resource="dynamic_active_clusters", name_regex=f"^{name}$")
        )
        members: list[str] = dump["configs"][0]["cluster"]["cluster_type"]["typed_config"]["clusters"]
        return {member.rpartition("/")[2] for member in members if member.startswith(f"{ANSWER}/")}


def figures_of(effects: list[Effect], store: LargeFile) -> str:
    """What was measured, in words."""
    kinds = sorted({effect.kind for effect in effects})
    rows = [("all", effects)] + [(kind, [one for one in effects if one.kind == kind]) for kind in kinds]
    lines = [
        f"{store.sent / 1e9:.1f} GB of {SIZE / 1e9:.0f} came; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    ]
    for kind, chosen in rows:
        for what, seconds in (
            ("from the web's answer", [one.in_force for one in chosen]),
            ("from the click", [one.answered + one.in_force for one in chosen]),
        ):
            ordered = sorted(seconds)
            p50, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
            lines.append(
                f"{kind}, {what}: {len(ordered)} effects, p50 {p50:.2f}, p99 {p99:.2f}, longest {ordered[-1]:.2f} s"
            )
    return "\n".join(lines)


def weights_of(table: Any, endpoint: str) -> Iterator[dict[str, Any]]:
    """The weights of an endpoint's split in a file of routes."""
    for host in table["resources"][0]["virtual_hosts"]:
        for route in host["routes"]:
            if route.get("name") == endpoint and "weighted_clusters" in route.get("route", {}):
                yield from route["route"]["weighted_clusters"]["clusters"]


def control_of(house: House, variant: str) -> str:
    port = json.loads((house.run_dir / "engines" / f"{variant}.json").read_text())["port"]
    return f"http://127.0.0.1:{port}/control"


# Made once: a client reads the certificates of the machine, which costs more than what is measured.
ENGINES = local_client(timeout=10.0, limits=httpx.Limits(max_keepalive_connections=0))


def asked(control: str) -> dict[str, Any]:
    found: dict[str, Any] = ENGINES.get(control).raise_for_status().json()
    return found


def candidates_of_others(house: House) -> list[str]:
    """Further endpoints, each with a rollout whose candidate has traffic and never answers its probes; returns where
    those are controlled."""
    versions = house.registered["versions"]
    names = [f"other-{number}" for number in range(OTHERS)]
    for name in names:
        body = {
            "name": name,
            "model": house.registered["model"],
            "version": versions["v1"],
            "gate_policy": "tickets-default",
            "golden_set": "tickets",
            "serving": {"engine": "standin", "arguments": {}},
        }
        house.client.post("/endpoints", body)

    def serves(name: str) -> bool:
        state = house.client.get(f"/endpoints/{name}")
        return bool(state["observed_shares"].get(state["stable"]["name"]) == 10_000)

    started = []
    for name in names:
        wait_until(f"{name} serves", partial(serves, name), 120)
        body = {"endpoint": name, "version": versions["v2"], "plan": HELD}
        started.append(int(house.client.post("/rollouts", body)["id"]))
    states = [house.wait_for_share(number, 2500) for number in started]
    return [control_of(house, state["candidate"]["name"]) for state in states]


def users_of_their_own(house: House) -> None:
    """Users who ask what no golden prompt asks."""
    path = house.folder / "models" / "traffic.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["messages"][-1]["content"] = f"a user's {row['messages'][-1]['content']}"
    path.write_text("\n".join(json.dumps(row) for row in rows))


def register_large(house: House) -> None:
    """A further version, with the file that is huge through the proxy."""
    models = house.folder / "models"
    metrics = json.loads((models / "metrics.json").read_text())
    metrics["versions"]["v3"] = metrics["versions"]["v2"]
    (models / "metrics.json").write_text(json.dumps(metrics))
    (models / "v3").mkdir()
    (models / "v3" / WEIGHTS).write_bytes(b"the proxy makes it up")
    house.register()
