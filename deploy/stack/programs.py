"""What the stack consists of, and the supervisord configuration that runs it."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from controlplane.config.environment import Environment
from controlplane.kernel.errors import InvalidInput, Refused
from controlplane.outbound.proxies import without_proxies
from deploy.stack.begin import PROGRAM_MARK
from rollouts.adapters.clusters.engine_user import close_run_dir, engine_user
from rollouts.adapters.clusters.folder import UNQUOTABLE, write_whole
from rollouts.adapters.clusters.launcher import KEEP_THE_MARK, STACK_MARK
from rollouts.adapters.routers.envoy import EnvoyRouter, envoy_command

ROOT = Path(__file__).resolve().parents[2]
# The workers beside the loop's, named as their queues, and their threads. `probes`: rounds that wait for engines.
# `files`: four versions that launches wait for, two registrations, a check, and who begins them. `errands`: what waits
# for MLflow's words, and housekeeping.
WAITING_WORKERS = {"probes": 16, "files": 8, "errands": 8}
NEIGHBOURS = frozenset({"mlflow", "envoy"})  # programs that ours use until they have stopped
BIN = Path(sys.executable).parent
# The kernel's limit is 107 bytes; supervisord first binds a name that is longer by its process id.
LONGEST_SOCKET = 107 - len(".1234567")
UNWRITABLE = re.compile(r"[\r\n\"']|\s[;#]|%\(here\)s")
HERE = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the stack.

    port, variable   what it listens on, and the HEADGATE_ variable that changes it
    ready_url        answers 200 when it is ready; empty: it is ready when it runs
    any_answer       any HTTP answer counts (Envoy has no route for "/")
    ready_part       the readiness report at `ready_url` must call this part ok
    memory_mb        what it takes, roughly
    ours             it is Headgate: it gets the settings, passwords and keys among them; a foreign program gets none
    """

    name: str
    command: tuple[str, ...]
    priority: int
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    variable: str = ""
    ready_url: str = ""
    any_answer: bool = False
    ready_part: str = ""
    memory_mb: int = 150
    stop_seconds: int = 10
    ours: bool = True


def programs_of(environment: Environment) -> tuple[Program, ...]:
    """The programs, in the order in which they start. MLflow is left out when it runs on another machine."""
    run_dir = environment.run_dir
    python = sys.executable
    celery = (python, "-m", "celery", "-A", "controlplane.config.celery")
    level = environment.log_level
    found: list[Program] = []
    mlflow = urlsplit(environment.mlflow_url)
    if (mlflow.hostname or "") in HERE:
        found.append(_mlflow(run_dir / "mlflow", mlflow.port or 5000, environment.mlflow_url))
    found += [
        Program(
            name="envoy",
            command=tuple(envoy_command(environment.envoy_dir, envoy_binary())),
            priority=20,
            port=environment.gateway_port,
            variable="HEADGATE_GATEWAY_PORT",
            ready_url=f"http://127.0.0.1:{environment.gateway_port}/",
            any_answer=True,
            memory_mb=80,
            ours=False,
        ),
        Program(
            name="web",
            command=(
                python, "-m", "uvicorn", "controlplane.config.asgi:application", "--host", "127.0.0.1",
                "--port", str(environment.web_port), "--lifespan", "off", "--no-access-log",
                "--no-proxy-headers",  # whose word counts is HEADGATE_TRUSTED_PROXIES, and nothing else
                "--timeout-graceful-shutdown", "3",
            ),
            priority=30,
            port=environment.web_port,
            variable="HEADGATE_WEB_PORT",
            ready_url=f"http://127.0.0.1:{environment.web_port}/healthz",
        ),
        Program(
            name="worker",
            command=(
                *celery, "worker", "-n", "loop@%h", "-Q", "headgate", "-P", "threads", "-c", "8",
                "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", level,
            ),
            priority=40,
            # It reports what it did for the ticks of beat: the whole way of a task is seen to work.
            ready_url=f"http://127.0.0.1:{environment.web_port}/readyz",
            ready_part="worker",
        ),
        # A worker for each kind of thing that can hang or takes long, so that none keeps another waiting.
        *(
            Program(
                name=name,
                command=(
                    *celery, "worker", "-n", f"{name}@%h", "-Q", name, "-P", "threads", "-c", str(threads),
                    "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", level,
                ),
                priority=40,
                ready_url=f"http://127.0.0.1:{environment.web_port}/readyz",
                ready_part=name,
            )
            for name, threads in WAITING_WORKERS.items()
        ),
        Program(
            name="beat",
            # Without a pid file: after a kill -9 an old one would keep the next one from starting.
            command=(
                *celery, "beat", "--schedule", str(run_dir / "beat-schedule"), "--pidfile=",
                "--loglevel", level,
            ),
            priority=50,
            memory_mb=100,
        ),
    ]  # fmt: skip
    if environment.request_senders:
        found.append(
            Program(
                name="receiver",
                command=(sys.executable, str(ROOT / "manage.py"), "receive_requests"),
                priority=60,
                port=int(environment.receiver_address.rpartition(":")[2]),
                variable="HEADGATE_RECEIVER_ADDRESS",
                stop_seconds=15,  # it keeps what it took first
            )
        )
    return tuple(found)


def _mlflow(folder: Path, port: int, url: str) -> Program:
    """MLflow with the settings that make it small and quick: gunicorn, no job runner, no telemetry."""
    return Program(
        name="mlflow",
        command=(
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", f"sqlite:///{folder / 'mlflow.sqlite3'}",
            "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"),
            "--workers", "2", "--gunicorn-opts", "--threads 4",
        ),
        priority=10,
        environment={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # Two workers must share the key, or listing webhooks fails at random.
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _kept_key(folder / "webhook-key"),
            # Its webhooks go to our web process on this machine.
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        },
        port=port,
        variable="HEADGATE_MLFLOW_URL",
        ready_url=url.rstrip("/") + "/health",
        memory_mb=850,
        ours=False,
    )  # fmt: skip


def _kept_key(path: Path) -> str:
    """A Fernet key (32 random bytes in URL-safe base64), made once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), mode=0o600)
    return path.read_text()


def envoy_binary() -> Path:
    """Envoy beside this Python, or on the PATH. Raises Refused."""
    beside = BIN / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise Refused("Envoy is not installed.", fix="Run: make setup")
    return Path(found)


def settings_of(environment: Environment) -> dict[str, str]:
    """The settings as HEADGATE_ variables: those that are not at their default, and the run folder."""
    changed = {
        f"HEADGATE_{spec.name.upper()}": str(getattr(environment, spec.name))
        for spec in fields(environment)
        if getattr(environment, spec.name) != spec.default
    }
    return {**changed, "HEADGATE_RUN_DIR": str(environment.run_dir)}


def prepare_run_dir(environment: Environment) -> None:
    """Makes the folders, closed to others. Raises InvalidInput when the run folder's path cannot be used."""
    run_dir = environment.run_dir
    socket = str(environment.supervisor_socket)
    if UNQUOTABLE.search(str(run_dir)):
        raise InvalidInput(
            f"The run folder {str(run_dir)!r} holds a space, a quote or one of ; # %.",
            field="run_dir",
            fix="Choose another one with HEADGATE_RUN_DIR.",
        )
    if len(socket.encode()) > LONGEST_SOCKET:
        raise InvalidInput(
            f"The run folder's path is too long for a unix socket ({socket}, {len(socket.encode())} bytes,"
            f" at most {LONGEST_SOCKET}).",
            field="run_dir",
            fix="Choose a shorter one with HEADGATE_RUN_DIR.",
        )
    for folder in (run_dir, run_dir / "log", run_dir / "engines", run_dir / "mlflow"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    user = None
    with contextlib.suppress(Refused):  # preflight says what is wrong with it
        user = engine_user(environment.engine_user)
    close_run_dir(run_dir, user)


def write_configuration(environment: Environment) -> Path:
    """Writes RUN_DIR/supervisord.conf (readable by the owner only: it may hold secrets) and Envoy's files."""
    router = EnvoyRouter(
        environment.envoy_dir,
        environment.gateway_port,
        envoy_binary(),
        cors_origins=environment.allowed_origins,
    )
    router.write_bootstrap()
    path = environment.run_dir / "supervisord.conf"
    write_whole(path, configuration(environment, programs_of(environment)), mode=0o600)
    return path


def configuration(environment: Environment, programs: tuple[Program, ...]) -> str:
    """supervisord's configuration. Raises InvalidInput for a setting that it cannot hold."""
    run_dir = environment.run_dir
    user = "user=root\n" if os.getuid() == 0 else ""
    parts = [
        f"""[unix_http_server]
file={environment.supervisor_socket}
chmod=0700

[supervisord]
identifier=headgate
logfile={run_dir / "log" / "supervisord.log"}
logfile_maxbytes=5MB
logfile_backups=1
loglevel=info
pidfile={run_dir / "supervisord.pid"}
childlogdir={run_dir / "log"}
umask=077
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{environment.supervisor_socket}

[include]
files = {run_dir / "engines"}/*.conf
"""
    ]
    settings = settings_of(environment)
    parts += [_section(program, settings, run_dir) for program in programs]
    return "\n".join(parts)


def program_mark(run_dir: Path, name: str) -> str:
    """What all processes of a program of the stack have as HEADGATE_PROGRAM."""
    return f"{run_dir}:{name}"


def _section(program: Program, settings: Mapping[str, str], run_dir: Path) -> str:
    mark = {PROGRAM_MARK: program_mark(run_dir, program.name)}
    variables = {
        **(settings if program.ours else {}),
        **program.environment,
        **mark,
        "PYTHONUNBUFFERED": "1",
    }
    command = (sys.executable, "-S", "-m", "deploy.stack.begin", *program.command)
    pairs = ",".join(f"{name}={_quoted(name, value)}" for name, value in sorted(variables.items()))
    # startretries: a program whose neighbour is not there yet is started again, more and more slowly.
    return f"""[program:{program.name}]
command={shlex.join(command).replace("%", "%%")}
directory={ROOT}
environment={pairs}
priority={program.priority}
autostart=true
autorestart=true
startsecs=1
startretries=1000
stopsignal=TERM
stopwaitsecs={program.stop_seconds}
stopasgroup=true
killasgroup=true
umask=077
redirect_stderr=true
stdout_logfile={run_dir / "log" / program.name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


def _quoted(name: str, value: str) -> str:
    """The value as supervisord reads it back; it knows no escape for what is refused here."""
    if UNWRITABLE.search(value):
        raise InvalidInput(
            f"The value of {name} holds a line break, a quote, %(here)s, or a blank before ; or #.",
            field=name,
            fix="Change it.",
        )
    return '"' + value.replace("%", "%%") + '"'


def stack_environment(environment: Environment) -> dict[str, str]:
    """supervisord's own environment: ours, and the mark by which `down` finds what was left behind.

    Our settings are not in it, the configuration holds them: what a later `up` leaves unset is unset then. Nor are the
    host's proxies: what runs here calls addresses of this machine (MLflow's webhooks come to our web process).
    """
    kept = {
        name: value for name, value in without_proxies(os.environ).items() if not name.startswith("HEADGATE_")
    }
    return {**kept, **KEEP_THE_MARK, STACK_MARK: str(environment.run_dir)}
