"""This machine: engines under a supervisord, an Envoy in front of them.

Without a configuration it is the stack that this installation runs. With one it is a second place on the same machine
with a supervisord and an Envoy of its own, which the operator runs (docs/operations.md).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.outbound.clients import local_client
from rollouts.adapters.clusters.folder import write_whole
from rollouts.adapters.clusters.launcher import STACK_MARK
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.configuration import HIGHEST_PORT, Configuration
from rollouts.adapters.kinds.kind import ClusterKind, Installation
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter, envoy_command
from rollouts.adapters.routers.envoy_config import DURATION_EDGES, TTFT_EDGES
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.clusters import ClusterSpec
from rollouts.ports import ClusterPorts

ENGINE_TIMEOUT_SECONDS = 5.0
MOST_MEMORY_MB = 10_000_000
OPEN = 0o067  # rights that nobody else may have; engines with a user of their own pass through by their group
FIELDS = (
    "run_dir", "supervisor_socket", "envoy_dir", "gateway_port", "gateway_url", "engine_ports", "engine_memory_mb",
    "engine_memory_limit_mb",
)  # fmt: skip

SUPERVISE = (sys.executable, "-m", "supervisor.supervisord")
SUPERVISORD = """[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={run}/log/supervisord.log
pidfile={run}/supervisord.pid
childlogdir={run}/log
umask=077
environment={stack_mark}="{run}"
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = {run}/engines/*.conf

[program:envoy]
command={envoy}
redirect_stderr=true
stdout_logfile={run}/log/envoy.log
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where on this machine a cluster is."""

    run_dir: Path
    supervisor_socket: Path
    envoy_dir: Path
    gateway_port: int
    gateway_url: str
    engine_ports: range
    engine_memory_mb: int
    engine_memory_limit_mb: int


def problems(spec: ClusterSpec) -> tuple[InvalidInput, ...]:
    """Everything that is wrong with it; see `ClusterKind.problems`."""
    given = Configuration(spec.configuration, FIELDS)
    found = list(_read(given)[1]) if spec.configuration else given.problems
    if spec.secret:
        found.append(
            InvalidInput("This machine asks for no secret.", field="secret", fix="Leave the secret empty.")
        )
    return tuple(found)


def build(spec: ClusterSpec, installation: Installation) -> ClusterPorts:
    """The ports of this cluster. Raises Unavailable when its run folder or Envoy is not there."""
    place = _place(spec, installation)
    if spec.configuration:
        _check_folders(place)
    cluster = LocalCluster(
        place.run_dir,
        place.supervisor_socket,
        installation.engine_python,
        installation.models_dir,  # every cluster of this machine serves the same verified files
        place.engine_ports,
        place.engine_memory_mb,
        installation.clock,
        local_client(timeout=ENGINE_TIMEOUT_SECONDS),
        memory_limit_mb=place.engine_memory_limit_mb,
        engine_user=installation.engine_user,
        secrets_dir=installation.secrets_dir,
        versions_in=installation.run_dir,
        keys=installation.keys,
    )
    router = _router(place, installation)
    return ClusterPorts(
        cluster=cluster,
        router=router,
        signals=CombinedSignals(EnvoyStats(place.envoy_dir, installation.clock), VllmMetrics()),
        request_log=EnvoyRequestLog(place.envoy_dir),
        prober=OpenAIProber.by_path(f"http://127.0.0.1:{place.gateway_port}"),
        edges={"ttft": TTFT_EDGES, "duration": DURATION_EDGES},
        endpoint_url=lambda endpoint: f"{place.gateway_url}/{endpoint}",
    )


def prepare(spec: ClusterSpec, installation: Installation) -> str:
    """Writes the configurations of a supervisord and an Envoy of its own. Raises as `build` does."""
    if not spec.configuration:
        return "It is the stack of this installation: make up"
    place = _place(spec, installation)
    _check_folders(place)
    _router(place, installation).write_bootstrap()
    for folder in ("log", "engines"):
        (place.run_dir / folder).mkdir(mode=0o700, exist_ok=True)
    envoy = shlex.join(envoy_command(place.envoy_dir, envoy_binary()))
    values = {
        "run": place.run_dir,
        "socket": place.supervisor_socket,
        "user": "user=root\n" if os.geteuid() == 0 else "",
        "stack_mark": STACK_MARK,
        "envoy": envoy.replace("%", "%%"),
    }
    path = place.run_dir / "supervisord.conf"
    write_whole(path, SUPERVISORD.format(**values), mode=0o600)
    return f"Run, and have it started with the machine: {shlex.join([*SUPERVISE, '-c', str(path)])}"


def occupies(spec: ClusterSpec, installation: Installation) -> Mapping[str, frozenset[str]]:
    """Its folders, sockets and ports. A folder by where it really is: two names may lead to one."""
    place = _place(spec, installation)
    # A second one in `engines` would have its own supervisord.conf read by the first one's supervisord.
    folders = (place.run_dir, place.run_dir / "engines")
    return {
        "run_dir": frozenset(f"the folder {_real(folder)}" for folder in folders),
        "supervisor_socket": frozenset({f"the socket {_real(place.supervisor_socket)}"}),
        "envoy_dir": frozenset({f"the folder {_real(place.envoy_dir)}"}),
        "gateway_port": frozenset({f"port {place.gateway_port}"}),
        "engine_ports": frozenset(f"port {port}" for port in place.engine_ports),
    }


def _real(path: Path) -> str:
    """Where it really is; as it is written where that cannot be seen, such as below a folder that is closed to us."""
    try:
        return os.path.realpath(path)
    except OSError:
        return str(path)


def envoy_binary() -> Path:
    """Envoy beside this Python, or on the PATH. Raises Unavailable when there is none."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise Unavailable("Envoy is not installed.", fix="Install requirements/app.txt (make setup).")
    return Path(found)


def _router(place: _Place, installation: Installation) -> EnvoyRouter:
    return EnvoyRouter(
        place.envoy_dir, place.gateway_port, envoy_binary(), cors_origins=installation.cors_origins
    )


def _place(spec: ClusterSpec, installation: Installation) -> _Place:
    if not spec.configuration:
        return _Place(
            run_dir=installation.run_dir,
            supervisor_socket=installation.supervisor_socket,
            envoy_dir=installation.envoy_dir,
            gateway_port=installation.gateway_port,
            gateway_url=installation.gateway_url,
            engine_ports=installation.engine_ports,
            engine_memory_mb=installation.engine_memory_mb,
            engine_memory_limit_mb=installation.engine_memory_limit_mb,
        )
    place, wrong = _read(Configuration(spec.configuration, FIELDS), installation)
    if place is None:
        raise wrong[0]
    return place


def _read(
    given: Configuration, installation: Installation | None = None
) -> tuple[_Place | None, list[InvalidInput]]:
    """The place that a configuration names, and all that is wrong with it: one of the two is empty.

    What it leaves out about memory is as everywhere in the installation.
    """
    run_dir = given.path("run_dir", needed=True)
    socket = given.path("supervisor_socket") or (run_dir and run_dir / "supervisor.sock")
    envoy_dir = given.path("envoy_dir") or (run_dir and run_dir / "envoy")
    given.socket("supervisor_socket", socket)
    given.socket("envoy_dir", envoy_dir and envoy_dir / "admin.sock")
    port = given.whole("gateway_port", least=1, most=HIGHEST_PORT, needed=True)
    url = given.address("gateway_url")
    ports = given.ports("engine_ports", needed=True)
    if port is not None and ports is not None and port in ports:
        given.note("gateway_port", f"Port {port} is one of the engines' ports.", fix="Choose another port.")
    memory = given.whole("engine_memory_mb", least=1, most=MOST_MEMORY_MB)
    limit = given.whole("engine_memory_limit_mb", least=0, most=MOST_MEMORY_MB)
    if (
        given.problems
        or run_dir is None
        or socket is None
        or envoy_dir is None
        or port is None
        or ports is None
    ):
        return None, given.problems
    usual = (installation.engine_memory_mb, installation.engine_memory_limit_mb) if installation else (0, 0)
    return _Place(
        run_dir=run_dir,
        supervisor_socket=socket,
        envoy_dir=envoy_dir,
        gateway_port=port,
        gateway_url=url or f"http://127.0.0.1:{port}",
        engine_ports=ports,
        engine_memory_mb=usual[0] if memory is None else memory,
        engine_memory_limit_mb=usual[1] if limit is None else limit,
    ), []  # fmt: skip


def _check_folders(place: _Place) -> None:
    """Whatever is written or asked lies in a folder that the operator made for this. Else whoever configures clusters
    could have files written anywhere, or any program of this machine asked over its socket."""
    _check_folder("run folder", place.run_dir)
    others = (("folder of Envoy", place.envoy_dir), ("socket's folder", place.supervisor_socket.parent))
    for what, folder in others:
        if not folder.is_relative_to(place.run_dir):
            _check_folder(what, folder)


def _check_folder(what: str, folder: Path) -> None:
    fix = f"Make it on this machine, as the user that Headgate runs as: mkdir -m 700 {folder}"
    if not folder.is_dir():
        raise Unavailable(f"The {what} {folder} does not exist.", fix=fix)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise Unavailable(f"The {what} {folder} belongs to another user.", fix=fix)
    if found.st_mode & OPEN:
        raise Unavailable(f"The {what} {folder} is open to others.", fix=f"chmod 700 {folder}")


LOCAL = ClusterKind(
    name="local", title="This machine", problems=problems, build=build, prepare=prepare, occupies=occupies
)
