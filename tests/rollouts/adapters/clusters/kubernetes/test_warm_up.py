"""The startup probe, run as it runs in a container."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.container import WARM_UP
from tests.rollouts.adapters.clusters.kubernetes.api_server import scripted_server


def probe(*answers: tuple[int, Any]) -> int:
    with scripted_server() as server:
        server.answers = list(answers)
        port = server.url.rpartition(":")[2]
        command = [sys.executable, "-I", "-c", WARM_UP, port, "chat-v7"]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        ((200, {"model": "chat-v7", "choices": [{}]}), True),
        ((200, {"model": "chat", "system_fingerprint": "chat-v7", "choices": [{}]}), True),
        ((200, {"model": "chat-v6", "choices": [{}]}), False),  # another one answers on that port
        ((200, {"model": "chat-v7", "choices": []}), False),
        ((200, "nothing"), False),
        ((503, {}), False),
    ],
)
def test_warm_up__answer__counts_only_when_the_variant_completed_something(
    answer: tuple[int, Any], ready: bool
) -> None:
    assert (probe(answer) == 0) is ready


def test_warm_up__nobody_listens__is_not_ready() -> None:
    command = [sys.executable, "-I", "-c", WARM_UP, "1", "chat-v7"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0
