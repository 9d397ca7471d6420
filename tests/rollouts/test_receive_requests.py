"""`manage.py receive_requests` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.kernel.clock import SystemClock
from rollouts import wiring
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.redis_store import ALIVE, RedisAnswers
from tests.fixtures.redis_server import RunningRedis
from tests.rollouts.adapters.request_log.otlp.sending import Sender, attributes, message, record
from tests.standins.running import ROOT, free_port, wait_until

TOKEN = "sentinel-token-of-paris-" + "p" * 20


def command(run_dir: Path, **settings: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    variables = {f"HEADGATE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "manage.py", "receive_requests"],
        cwd=ROOT,
        env={
            **kept,
            "DJANGO_SETTINGS_MODULE": "controlplane.config.settings",
            "HEADGATE_RUN_DIR": str(run_dir),
            **variables,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def sent(port: int, request_id: str) -> bool:
    with Sender(port, TOKEN) as sender:
        try:
            sender.send(message([record(attributes(request_id))]))
        except grpc.RpcError:
            return False
    return True


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_receiver__told_to_stop__ends_with_everything_kept(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    process = command(
        tmp_path, receiver_address=f"127.0.0.1:{port}", request_senders=f"paris={TOKEN}", log_level="INFO"
    )
    wait_until("it takes requests", lambda: sent(port, "request-one"), 60)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    store = FileAnswers(tmp_path / "answered", SystemClock())
    assert set(store.find("paris", ["request-one"])) == {"request-one"}
    assert store.is_fed()
    assert "receiver.stopped" in told
    assert "sentinel" not in told


@pytest.mark.e2e
def test_receiver__redis_away__ends_saying_what_is_lost(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    process = command(
        tmp_path,
        receiver_address=f"127.0.0.1:{port}",
        request_senders=f"paris={TOKEN}",
        redis_url=f"redis://:sentinel@127.0.0.1:{nobody}/0",
    )
    wait_until("it takes requests", lambda: sent(port, "request-one"), 60)
    process.terminate()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "could not be kept" in told
    assert "sentinel" not in told


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "HEADGATE_REQUEST_SENDERS is empty"),
        ({"request_senders": f"paris={TOKEN}", "receiver_key": "/k"}, "HEADGATE_RECEIVER_CERTIFICATE"),
        ({"request_senders": "paris=sentinel-short"}, "HEADGATE_REQUEST_SENDERS has no usable token"),
        ({"request_senders": f"paris={TOKEN}", "receiver_address": "4317"}, "HEADGATE_RECEIVER_ADDRESS"),
        ({"request_senders": f"paris={TOKEN}", "redis_url": "http://h"}, "HEADGATE_REDIS_URL"),
        ({"request_senders": f"paris={TOKEN}", "requests_kept": "0"}, "HEADGATE_REQUESTS_KEPT"),
    ],
)
def test_receiver__settings_that_cannot_work__says_which(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    process = command(tmp_path, **{"receiver_address": "127.0.0.1:0", **settings})
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert words in told
    assert "sentinel" not in told


def test_answer_store__without_redis__is_what_the_receiver_writes(tmp_path: Path, settings: Any) -> None:
    """What the request logs of the web process and the workers read."""
    settings.HEADGATE = replace(settings.HEADGATE, run_dir=tmp_path, redis_url="")
    FileAnswers(tmp_path / "answered", SystemClock()).beat()
    assert wiring.answer_store().is_fed()


@pytest.mark.needs("redis")
def test_answer_store__with_redis__is_there(settings: Any) -> None:
    with RunningRedis() as redis:
        settings.HEADGATE = replace(settings.HEADGATE, redis_url=redis.url)
        store = wiring.answer_store()
        assert isinstance(store, RedisAnswers)
        store.beat()
        assert redis.client.exists(ALIVE)
        store.close()
