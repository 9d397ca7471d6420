from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.log import GatewayRequestLog
from rollouts.adapters.request_log.otlp.records import Answered
from rollouts.adapters.request_log.otlp.redis_store import RedisAnswers
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.ports import LoggedRequest
from tests.rollouts.adapters.request_log.otlp.sending import VARIANT, answered
from tests.standins.running import free_port


class Log:
    """A request log of paris, and the store behind it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = FileAnswers(folder, self.clock)
        self.log = GatewayRequestLog(self.store, cluster="paris", namespace="models")

    def after(self, one: Answered) -> LoggedRequest | None:
        self.store.keep("paris", [one])
        return self.log.find([one.request_id]).get(one.request_id)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_find__drawn_request__was_assigned_to_who_answered(log: Log) -> None:
    assert log.after(answered()) == LoggedRequest(
        "id-of-a-request", "chat", VARIANT, VARIANT, 200, 1796008958.794
    )


def test_find__forced_request__was_assigned_to_nobody(log: Log) -> None:
    found = log.after(replace(answered(), forced=True))
    assert found is not None
    assert (found.assigned, found.answered) == ("", VARIANT)


def test_find__route_of_another_namespace__is_left_out(log: Log) -> None:
    """Another team's route on the same gateway can set the header, too."""
    assert log.after(replace(answered(), namespace="others")) is None


def test_find__route_with_a_made_name__is_the_endpoint_of_the_variant(log: Log) -> None:
    endpoint = "chat-x0123456789"  # itself looks like a made name, so its route has another one
    one = replace(answered(), route=route_name(endpoint), answered=f"{endpoint}-v2-bbbb")
    found = log.after(one)
    assert found is not None
    assert found.endpoint == endpoint


def test_find__made_name_of_another_endpoint__is_left_out(log: Log) -> None:
    assert log.after(replace(answered(), route=route_name("chat-x0123456789"))) is None


def test_rotate__no_receiver_heard_of__says_what_to_start(log: Log) -> None:
    with pytest.raises(Unavailable, match="receive_requests"):
        log.log.rotate()
    log.store.beat()
    assert log.log.rotate() is False
    log.clock.advance(121)
    with pytest.raises(Unavailable, match="receive_requests"):
        log.log.rotate()


@pytest.mark.parametrize("ids", [[], ["id-of-a-request"]])
def test_find__redis_away__is_unavailable_so_that_ratings_wait(ids: list[str]) -> None:
    """Whoever verifies ratings asks for none of them to learn whether the whole log is away."""
    store = RedisAnswers(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable):
        GatewayRequestLog(store, cluster="paris", namespace="models").find(ids)
    store.close()
