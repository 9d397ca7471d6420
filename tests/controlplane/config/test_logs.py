"""The last net: whatever is logged, and whoever logs it, secrets stay out."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from controlplane.config.environment import Environment
from controlplane.config.logs import HidingFormatter
from controlplane.sealing.keys import new_key
from controlplane.sealing.known import remember

LOGGING: dict[str, Any] = settings.LOGGING
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a logger with the handler's format wrote."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HidingFormatter(LOGGING["formatters"]["line"]["format"]))
    logger = logging.getLogger("somebody")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_log__known_secret__is_in_no_message_argument_or_traceback(written: io.StringIO) -> None:
    remember("sentinel of the log")
    log = logging.getLogger("somebody")
    log.error("told sentinel of the log")
    log.error("told %s and %r", "sentinel of the log", {"a": "sentinel of the log"})
    secret = "sentinel of the log"
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("it failed")
    assert "sentinel" not in written.getvalue()
    assert written.getvalue().count("[hidden]") >= 4


def test_log__unknown_credential__goes_by_its_look(written: io.StringIO) -> None:
    logging.getLogger("somebody").error(
        "HF_TOKEN=opensesame postgresql://u:opensesame@h/n hf_opensesame0123456"
    )
    assert "opensesame" not in written.getvalue()


def test_settings__every_handler__hides() -> None:
    for handler in LOGGING["handlers"].values():
        formatter = LOGGING["formatters"][handler["formatter"]]
        assert formatter["()"] == "controlplane.config.logs.HidingFormatter"


def test_web_server__its_own_log__goes_through_the_net() -> None:
    """uvicorn brings handlers of its own; ours take their place."""
    program = (
        "import logging.config, uvicorn, django\n"
        "logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)\n"
        "django.setup()\n"
        "logging.getLogger('uvicorn.error').error('HF_TOKEN=opensesame')\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.config.settings_test"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "HF_TOKEN=[hidden]" in done.stderr
    assert "opensesame" not in done.stderr + done.stdout


SENDERS = {"paris": "sentinel-of-paris-" + "p" * 20, "oslo": "sentinel-of-oslo-" + "o" * 20}
SECRETS: dict[str, Any] = {
    "database_url": "postgresql://headgate:sentinel%2F1@db:5432/headgate",
    "secret_key": "sentinel-2",
    "mlflow_webhook_secret": "sentinel-3",
    "mlflow_proxy": "http://user:sentinel-4@proxy.example:3128",
    "mlflow_url": "http://user:sentinel-5@mlflow.example",
    "broker_url": "redis://:sentinel-6@redis.example",
    "redis_url": "redis://:sentinel-7@redis.example",
    "request_senders": ",".join(f"{cluster}={token}" for cluster, token in SENDERS.items()),
}


def test_environment__shown__tells_no_secret(tmp_path: Path) -> None:
    key = new_key()
    environment = Environment(run_dir=tmp_path, encryption_keys=key, **SECRETS)
    assert "sentinel" not in repr(environment) + str(environment)
    assert key not in repr(environment)
    wanted = {"sentinel%2F1", "sentinel/1", *(f"sentinel-{number}" for number in range(2, 8)), key}
    wanted |= set(SENDERS.values())
    assert set(environment.secret_values) == wanted
    assert replace(environment, secret_key="").secret_key == ""


@pytest.mark.parametrize(
    "url", ["postgresql://u:opens:esame/x@h/n", "postgresql://u:opensesame@[h/n", "opensesame"]
)
def test_database_url__cannot_be_read__stops_naming_the_variable_and_not_the_password(url: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.config.settings_test"}
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        cwd=ROOT, env={**environment, "HEADGATE_DATABASE_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "HEADGATE_DATABASE_URL" in done.stderr
    assert "esame" not in done.stderr + done.stdout


def test_production__without_encryption_keys__does_not_start() -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "controlplane.config.settings_production",
        "HEADGATE_SECRET_KEY": "x" * 60,
        "HEADGATE_DATABASE_URL": "postgresql://h:unused@localhost/h",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Set HEADGATE_ENCRYPTION_KEYS" in done.stderr
