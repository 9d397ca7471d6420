"""A bandit on a whole Kubernetes, under traffic that users rate: its weights move, and nobody is lost by that."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from controlplane.access.actors import HEADGATE
from controlplane.timekeeping.database_clock import CLOCK
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.models import Endpoint, Rollout
from rollouts.ports import LoggedRequest
from rollouts.services.commands.feedback import record_feedback
from rollouts.services.commands.start import start_rollout
from rollouts.services.world import World, Worlds
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.town import ENDPOINT, Town, Users, town_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

PER_SECOND = 100.0
DOWN = {"v1": 0.2, "v2": 0.08, "v3": 0.3}  # the share of answers that users rate down, by version
PLAN = Plan(
    "bandit",
    (),
    watch_seconds=4,
    launch_seconds=120,
    no_data_seconds=60,
    settings=BanditSpec(burn_in=60, reweight_seconds=8, min_change_bp=100),
)
SIGMAS = 5.0
_numbers = count(1)


@dataclass
class RatingUsers(Users):
    """Users who rate answers down by who gave them, and the log of what they were answered.

    down   ids of requests that are to be rated down, with who answered
    """

    log: dict[str, LoggedRequest] = field(default_factory=dict)
    down: list[tuple[str, str]] = field(default_factory=list)
    draws: random.Random = field(default_factory=lambda: random.Random(7))

    def ask(self, client: httpx.Client, number: int) -> str:
        who, name = super().ask(client, number), uuid4().hex
        at = CLOCK.now().timestamp()
        with self._lock:
            self.log[name] = LoggedRequest(name, ENDPOINT, who, who, 200, at)
            if self.draws.random() < DOWN[who.rsplit("-", 2)[1]]:
                self.down.append((name, who))
        return who

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        with self._lock:
            return {name: self.log[name] for name in request_ids if name in self.log}

    def rotate(self) -> bool:
        return False

    def rate(self) -> None:
        """Posts the ratings that are due."""
        with self._lock:
            due, self.down = self.down, []
        for name, who in due:
            record_feedback(
                endpoint_name=ENDPOINT, request_id=name, variant=who, up=False, actor=HEADGATE, now=CLOCK.now()
            )  # fmt: skip


@pytest.fixture
def town(kubernetes_lab: KubernetesLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with town_in(kubernetes_lab, f"bandits{next(_numbers)}", tmp_path, monkeypatch) as found:
        users = RatingUsers(found.users.url, found.users.host)
        before = found.worlds

        def build(name: str) -> World:
            return replace(before.of(name), request_log=users, feedback_seconds=4.0)

        found.worlds, found.users, found.also = Worlds(before.names, build, CLOCK), users, users.rate
        yield found


def test_bandit__three_versions_rated_by_users_under_traffic__reweights_and_promotes_the_best_and_loses_nothing(
    town: Town,
) -> None:
    with town.users.coming(PER_SECOND):
        rollout = start_rollout(
            endpoint=Endpoint.objects.get(name=ENDPOINT), version_number=2, other_versions=(3,), plan=PLAN,
            worlds=town.worlds, actor=town.manager, now=CLOCK.now(),
        )  # fmt: skip
        town.until("three arms have a share", lambda: len(some_shares(town)) == 3)
        equal = some_shares(town)
        town.until("its weights were moved", lambda: is_another_split(town, equal))
        weights, drawn = window(town)
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
    assert (ended(rollout).phase, some_shares(town)) == (
        "succeeded",
        {rollout.candidate.name: 10_000},
    ), ended(rollout).reason
    assert town.users.lost == []
    for variant, weight in weights.items():
        share = weight / 10_000
        noise = SIGMAS * math.sqrt(drawn.total() * share * (1 - share))
        assert abs(drawn[variant] - drawn.total() * share) <= noise, (weights, drawn)


def ended(rollout: Rollout) -> Rollout:
    return Rollout.objects.get(pk=rollout.pk)


def some_shares(town: Town) -> dict[str, int]:
    return {name: weight for name, weight in town.weights().items() if weight}


def is_another_split(town: Town, before: Mapping[str, int]) -> bool:
    """Whether users are split otherwise, and between arms still: one may have left the race meanwhile."""
    now = some_shares(town)
    return len(now) > 1 and now != before


def window(town: Town) -> tuple[Mapping[str, int], Counter[str]]:
    """A split, and whom users drew while it was in force, from a moment after it was seen at the API server."""
    weights, drawn = _looked_at(town)
    while some_shares(town) != weights:
        weights, drawn = _looked_at(town)
    return weights, drawn


def _looked_at(town: Town) -> tuple[Mapping[str, int], Counter[str]]:
    weights = some_shares(town)
    for _ in range(5):  # requests that were under way when it came drew by the one before
        town.turn()
    begun = town.users.seen()
    town.until("some requests came", lambda: (town.users.seen() - begun).total() > 200)
    return weights, town.users.seen() - begun
