"""The one place that reads the process environment.

Every setting that an operator may change is a field here, with its variable `HEADGATE_<NAME>`, its default and its
meaning; `docs/operations.md` lists them, and a test fails when one is missing there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.networks import Network, checked_networks, read_networks
from controlplane.outbound.addresses import checked_listening, checked_redis
from controlplane.outbound.proxies import checked_proxy
from controlplane.sealing.keys import KeyRing, checked_keys
from controlplane.sealing.senders import Senders, checked_senders

ROOT = Path(__file__).resolve().parent.parent.parent


class SettingCheck(Protocol):
    """Gives the value as it is used. Raises InvalidInput, naming the variable, for one that cannot work."""

    def __call__(self, value: str, /, *, setting: str) -> str: ...


def checked_count(value: str, /, *, setting: str) -> str:
    """A number of things, at least 1. Raises InvalidInput."""
    if not value.strip().isdecimal() or int(value) < 1:
        raise InvalidInput(f"{setting} is no number of things.", field=setting, fix="Write 1 or more.")
    return value.strip()


def _setting(default: Any, about: str, *, check: SettingCheck | None = None, secret: bool = False) -> Any:
    """`secret`: it is or may hold a password: it is in no text of these settings, and the log leaves it out."""
    return field(
        default=default, repr=not secret, metadata={"about": about, "check": check, "secret": secret}
    )


@dataclass(frozen=True)
class Environment:
    """What the environment says, typed. Build it with `Environment.read()`."""

    run_dir: Path = _setting(
        ROOT / "var", "folder for everything that runs on this machine: sockets, logs, data"
    )
    database_url: str = _setting(
        "", "postgresql://user:password@host:port/name; empty: SQLite in the run folder", secret=True
    )
    secret_key: str = _setting(
        "", "Django's secret key; in local mode one is made and kept in the run folder", secret=True
    )
    encryption_keys: str = _setting(
        "",
        "keys that secrets are stored under, by comma, newest first; in local mode one is made, kept in the run folder",
        check=checked_keys,
        secret=True,
    )
    secrets_dir: str = _setting(
        "", "folder of files that serving specs may refer to as secrets; empty: `secrets` in the run folder"
    )
    allowed_hosts: str = _setting(
        "localhost,127.0.0.1,[::1]", "host names that the web process answers to, by comma"
    )
    trusted_proxies: str = _setting(
        "",
        "proxies whose X-Forwarded-For and X-Forwarded-Proto count, as addresses or networks by comma; empty: none",
        check=checked_networks,
    )
    trusted_origins: str = _setting("", "origins (https://host) that may post forms, by comma")
    broker_url: str = _setting("filesystem://", "Celery's broker; filesystem:// needs no server", secret=True)
    redis_url: str = _setting(
        "",
        "Redis server that keeps what gateways say of answered requests: redis://:PASSWORD@HOST:PORT/NUMBER, rediss://"
        " or unix://; empty: files in the run folder, for one machine",
        check=checked_redis,
        secret=True,
    )
    receiver_address: str = _setting(
        "127.0.0.1:4317",
        "HOST:PORT where gateways of clusters send what they answered",
        check=checked_listening,
    )
    receiver_certificate: str = _setting(
        "", "file with the receiver's certificate and what it was signed by, in PEM; empty: no TLS"
    )
    receiver_key: str = _setting("", "file with the key of that certificate, in PEM")
    request_senders: str = _setting(
        "",
        "whose gateways may send it: CLUSTER=TOKEN by comma; empty: none",
        check=checked_senders,
        secret=True,
    )
    requests_kept: int = _setting(
        1_000_000,
        "answered requests that are kept of one cluster at most; the oldest go first",
        check=checked_count,
    )
    mlflow_url: str = _setting("http://127.0.0.1:5500", "address of the MLflow tracking server", secret=True)
    mlflow_proxy: str = _setting(
        "",
        "proxy for requests to MLflow, scheme://host:port (http, https, socks5); empty: none, whatever HTTP_PROXY says",
        check=checked_proxy,
        secret=True,
    )
    mlflow_webhook_secret: str = _setting(
        "", "shared secret of MLflow's webhooks; empty: webhooks are refused", secret=True
    )
    allowed_pickle_files: str = _setting(
        "",
        "files that may be served although they are not data (pickles, code, unknown kinds), by name or path and "
        "comma; empty: none",
    )
    gateway_port: int = _setting(8600, "port of Envoy, where the endpoints are served (local cluster)")
    gateway_url: str = _setting(
        "", "address that people use for the endpoints; empty: http://127.0.0.1:GATEWAY_PORT"
    )
    cors_origins: str = _setting(
        "",
        "origins (https://app.example) whose pages may call the endpoints, by comma; *: any; empty: none",
    )
    web_port: int = _setting(8500, "port of the web process on this machine")
    engine_ports: str = _setting("18100-18199", "ports for serving engines on this machine")
    engine_python: Path = _setting(ROOT / ".venv-vllm" / "bin" / "python", "Python that has vLLM installed")
    engine_memory_mb: int = _setting(3200, "memory that one more engine needs free before it is launched")
    engine_memory_limit_mb: int = _setting(
        0, "memory that one process of an engine may take; 0: three quarters of the machine's"
    )
    engine_user: str = _setting(
        "",
        "user that engines run as where Headgate runs as root; empty: headgate-engine if it exists; root: as root",
    )
    tick_seconds: float = _setting(1.0, "how often due rollouts are reconciled")
    interval_seconds: float = _setting(5.0, "length of one interval of evidence")
    feedback_seconds: float = _setting(60.0, "how long after an answer its rating still counts")
    evidence_days: int = _setting(
        400, "days after the end of a rollout before the evidence it was decided on is deleted"
    )
    probe_pairs: int = _setting(5, "golden prompts that are asked of both variants at a time")
    metrics_addresses: str = _setting(
        "",
        "addresses of this server, HOST or HOST:PORT by comma, where /metrics asks for no token; empty: it always does",
    )
    log_level: str = _setting("INFO", "level of the log")

    @property
    def secrets_folder(self) -> Path:
        """Where the operator's secret files lie."""
        return (
            Path(self.secrets_dir).expanduser().absolute() if self.secrets_dir else self.run_dir / "secrets"
        )

    @property
    def secret_values(self) -> tuple[str, ...]:
        """All that must stand in no log: secrets, and the passwords inside of addresses."""
        found: list[str] = []
        for spec in fields(self):
            value = str(getattr(self, spec.name)) if spec.metadata["secret"] else ""
            if spec.name.endswith(("_url", "_proxy")):
                found += passwords_of(value)
            elif spec.name == "encryption_keys":
                found += KeyRing.read(value).keys
            elif spec.name == "request_senders":
                found += Senders.read(value).tokens
            elif value:
                found.append(value)
        return tuple(found)

    @property
    def answered_dir(self) -> Path:
        """What gateways said of answered requests, where there is no Redis."""
        return self.run_dir / "answered"

    @property
    def envoy_dir(self) -> Path:
        """Envoy's configuration, admin socket and request log."""
        return self.run_dir / "envoy"

    @property
    def supervisor_socket(self) -> Path:
        """Where the process manager of this machine listens."""
        return self.run_dir / "supervisor.sock"

    @property
    def engine_port_range(self) -> range:
        """The ports of `engine_ports`, both ends included."""
        first, _, last = self.engine_ports.partition("-")
        return range(int(first), int(last or first) + 1)

    @property
    def proxy_networks(self) -> tuple[Network, ...]:
        """The networks of `trusted_proxies`."""
        return read_networks(self.trusted_proxies, setting="HEADGATE_TRUSTED_PROXIES")

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`."""
        return tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def metrics_at(self) -> frozenset[str]:
        """The addresses of `metrics_addresses`."""
        return frozenset(one.strip() for one in self.metrics_addresses.split(",") if one.strip())

    @property
    def public_gateway_url(self) -> str:
        """Where people reach the endpoints."""
        return self.gateway_url or f"http://127.0.0.1:{self.gateway_port}"

    @classmethod
    def read(cls) -> Self:
        """Reads HEADGATE_* variables. Raises ValueError naming the variable that cannot be read."""
        values: dict[str, Any] = {}
        for spec in fields(cls):
            raw = os.environ.get("HEADGATE_" + spec.name.upper())
            if raw is None or raw == "":
                continue
            kind: Any = type(spec.default)
            check: SettingCheck | None = spec.metadata["check"]
            if check is not None:
                raw = _checked(check, raw, "HEADGATE_" + spec.name.upper())
            try:
                values[spec.name] = (
                    Path(raw).expanduser().absolute() if isinstance(spec.default, Path) else kind(raw)
                )
            except ValueError as error:
                raise ValueError(
                    f"HEADGATE_{spec.name.upper()}={raw!r} is not a {kind.__name__}: {error}"
                ) from error
        return cls(**values)


def passwords_of(address: str) -> list[str]:
    """The password of an address, as it is written there and as it is meant."""
    userinfo, at, _ = address.partition("://")[2].rpartition("@")
    _, colon, password = userinfo.partition(":")
    return [password, unquote(password)] if at and colon and password else []


def _checked(check: SettingCheck, raw: str, variable: str) -> str:
    try:
        return check(raw, setting=variable)
    except InvalidInput as error:
        raise ValueError(str(error)) from None


ENVIRONMENT = Environment.read()
