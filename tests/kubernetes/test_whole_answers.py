"""Who left and who had it all, on the real Envoy Gateway: with and without deploy/kubernetes/whole-answers.yaml."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from django.db.models import Max

from controlplane.timekeeping.database_clock import CLOCK
from rollouts.domain.lifecycle.plan import canary
from rollouts.models import Endpoint, Evidence, Rollout
from rollouts.services.commands.start import start_rollout
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.town import ENDPOINT, Town, town_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

PLAN = canary((50,), hold_seconds=600, min_requests=10)  # nobody waits for its end
LINGER_MS = 50.0  # from [DONE] to the end of the body; a busy machine is slow
INTERVALS = 5
USERS, LEAVERS = 4, 6
_numbers = count(1)


@pytest.fixture
def town(
    kubernetes_lab: KubernetesLab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Town]:
    name = f"leavers{next(_numbers)}"
    with town_in(kubernetes_lab, name, tmp_path, monkeypatch, whole_answers=request.param) as found:
        yield found


@contextmanager
def openai_users(town: Town) -> Iterator[list[str]]:
    """Users with OpenAI's own client, which closes its connection at [DONE]; gives what they were told."""
    ends = threading.Event()
    told: list[str] = []

    def ask() -> None:
        while not ends.is_set():
            with openai.OpenAI(
                base_url=f"{town.users.url}/v1",
                api_key="none",
                default_headers={"Host": town.users.host},
                max_retries=0,
            ) as client:
                stream = client.chat.completions.create(
                    model=ENDPOINT, messages=[{"role": "user", "content": "hi"}], stream=True
                )
                told.append("".join(piece.choices[0].delta.content or "" for piece in stream))

    with ThreadPoolExecutor(USERS) as pool:
        asking = [pool.submit(ask) for _ in range(USERS)]
        try:
            yield told
        finally:
            ends.set()
        for one in asking:
            one.result()


def leave_midway(town: Town) -> None:
    """A user who leaves when the first piece of the answer has come."""
    body = {"model": ENDPOINT, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"Host": town.users.host}
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", f"{town.users.url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert next(answer.iter_raw())


def start(town: Town) -> Rollout:
    """A rollout of version 2 with half of the traffic, between engines that end a stream late."""
    rollout = start_rollout(
        endpoint=Endpoint.objects.get(name=ENDPOINT), version_number=2, plan=PLAN,
        worlds=town.worlds, actor=town.manager, now=CLOCK.now(),
    )  # fmt: skip
    candidate = rollout.candidate.name
    town.until("it has half of the traffic", lambda: shares(rollout).get(candidate) == 5_000)
    for variant in shares(rollout):
        town.change(variant, linger_ms=LINGER_MS)
    return rollout


def shares(rollout: Rollout) -> dict[str, int]:
    found: dict[str, int] = Rollout.objects.get(pk=rollout.pk).endpoint.observed_shares
    return found


def outcomes(rollout: Rollout, after: int) -> list[dict[str, Any]]:
    """How requests ended, by interval later than this one, of both arms added up."""
    rows = Evidence.objects.filter(rollout=rollout, index__gt=after).order_by("index")
    found = []
    for row in rows:
        arms = [arm["outcomes"] for arm in row.interval["arms"].values() if arm["outcomes"]]
        if arms:
            found.append(
                {name: sum(arm[name] for arm in arms) for name in ("answered", "abandoned_midway")}
                | {"missing": row.interval["missing"]}
            )
    return found


def newest(rollout: Rollout) -> int:
    """The index of its newest interval; -1 while none is over, as on a fast machine."""
    found = Evidence.objects.filter(rollout=rollout).aggregate(newest=Max("index"))["newest"]
    return -1 if found is None else int(found)


def gate_of(rollout: Rollout) -> dict[str, Any]:
    """What the last assessment says of departures."""
    verdicts = Evidence.objects.filter(rollout=rollout).latest("index").verdicts
    (found,) = (one for one in verdicts["verdicts"] if one["key"] == "left")
    return dict(found)


@pytest.mark.parametrize("town", [True], indirect=True, ids=["with the script"])
def test_departures__openai_clients_and_leavers__only_those_who_left_are_counted(town: Town) -> None:
    rollout = start(town)
    begun = newest(rollout)
    with openai_users(town) as told:
        town.until("they are counted", lambda: len(outcomes(rollout, begun)) > INTERVALS)
    counted = outcomes(rollout, begun)
    assert len(told) > 20
    assert sum(one["answered"] for one in counted) > 20
    assert [one["abandoned_midway"] for one in counted] == [0] * len(counted)
    assert not [one["missing"] for one in counted if "departures" in one["missing"]]
    assert gate_of(rollout)["n_candidate"] > 0
    for variant in shares(rollout):
        town.change(variant, tokens=5, token_ms=1_000)
    with ThreadPoolExecutor(LEAVERS) as pool:
        list(pool.map(lambda _: leave_midway(town), range(LEAVERS)))
    town.until(
        "who left is counted",
        lambda: sum(one["abandoned_midway"] for one in outcomes(rollout, begun)) == LEAVERS,
    )


@pytest.mark.parametrize("town", [False], indirect=True, ids=["without the script"])
def test_departures__openai_clients_and_nothing_holds_done_back__the_gate_has_no_data(town: Town) -> None:
    rollout = start(town)
    begun = newest(rollout)
    with openai_users(town):
        town.until("they are counted", lambda: len(outcomes(rollout, begun)) > INTERVALS)
        found = gate_of(rollout)
    assert found["verdict"] == "no_data"
    assert "cannot tell who left" in found["sentence"]
    assert sum(one["abandoned_midway"] for one in outcomes(rollout, begun)) > 0
