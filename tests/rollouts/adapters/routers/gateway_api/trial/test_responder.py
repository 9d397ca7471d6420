"""What answers behind a trial's route, as its pod runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from rollouts.adapters.routers.gateway_api.trial.objects import RESPONDER
from rollouts.adapters.routers.gateway_api.trial.responder import MOST_BYTES
from tests.standins.running import free_port, wait_until


@pytest.fixture
def urls() -> Iterator[tuple[str, str]]:
    """Both backends of one process, which has the standard library only."""
    ports = [free_port(), free_port()]
    words = ["one", str(ports[0]), "two", str(ports[1])]
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", RESPONDER, *words])
    first, second = (f"http://127.0.0.1:{port}" for port in ports)
    try:
        wait_until("it answers", lambda: answers(first) and answers(second))
        yield first, second
    finally:
        process.terminate()
        assert process.wait(10) == 0  # it listens for the end by itself


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", trust_env=False).is_success
    except httpx.TransportError:
        return False


def model(url: str) -> dict[str, object]:
    (found,) = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
    return dict(found)


def test_models__each_backend__names_itself(urls: tuple[str, str]) -> None:
    assert [model(url)["id"] for url in urls] == ["one", "two"]


def test_inference__of_one__is_counted_for_it_and_known_to_both(urls: tuple[str, str]) -> None:
    for _ in range(3):
        answer = httpx.post(f"{urls[1]}/v1/chat/completions", json={"model": "x"}, trust_env=False)
        assert answer.json()["model"] == "two"
    assert [model(url)["received"] for url in urls] == [{"two": 3}, {"two": 3}]


def test_inference__that_is_too_long__is_refused_and_not_counted(urls: tuple[str, str]) -> None:
    answer = httpx.post(f"{urls[0]}/x", content=b"a" * (MOST_BYTES + 1), trust_env=False)
    assert answer.status_code == 413
    assert model(urls[0])["received"] == {}
