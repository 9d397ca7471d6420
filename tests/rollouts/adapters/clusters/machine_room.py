"""A real supervisord in a folder of its own, and stand-in engines as its programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from controlplane.kernel.clock import SystemClock
from registry.domain.manifest import Manifest, take_manifest
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import all_pids, end_processes, processes_marked, stat_of
from rollouts.adapters.clusters.supervisord import Supervisor
from rollouts.ports import WorkloadSpec, WorkloadStatus
from tests.standins.running import wait_until

ROOT = Path(__file__).resolve().parents[4]
MARK = "HEADGATE_STACK"
PORTS = 40  # more than a module starts engines: they run until its end
CONFIGURATION = """[unix_http_server]
file={run}/supervisor.sock
chmod=0700
[supervisord]
logfile={run}/supervisord.log
pidfile={run}/supervisord.pid
childlogdir={run}
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {run}/engines/*.conf
"""
STANDIN = [
    sys.executable, "-m", "tests.standins.engine", "--port", "{port}", "--model", "{folder}", "{arguments}",
    "--variant", "{variant}", "--served-model-name", "{endpoint}",
]  # fmt: skip

STANDINS = {
    "argv": STANDIN,
    "arguments": {
        "fail": {"kind": "text", "pattern": ".*", "help": "What it prints before it ends."},
        "load-seconds": {"kind": "number", "most": 600, "help": "How long it loads."},
        "answers": {"kind": "file", "choices": [".json"], "help": "What it answers."},
    },
    "variables": {
        "OWN": {"kind": "integer", "most": 9, "help": "Nothing reads it."},
        "MODEL_LICENCE": {"kind": "secret", "help": "Nothing reads it."},
    },
}
FAMILY = [word.replace("standins.engine", "standins.family") for word in STANDIN]


class MachineRoom:
    """Starts supervisord; `cluster()` gives a new LocalCluster on it, as a new control plane would."""

    def __init__(self, engines: dict[str, Any] | None = None) -> None:
        self.run_dir = Path(
            tempfile.mkdtemp(prefix="hg-", dir="/tmp")
        )  # a socket's path has 107 bytes at most
        (self.run_dir / "engines").mkdir()
        (self.run_dir / "engines.json").write_text(json.dumps({"standin": STANDINS, **(engines or {})}))
        (self.run_dir / "supervisord.conf").write_text(CONFIGURATION.format(run=self.run_dir))
        self.http = httpx.Client(trust_env=False)
        self.supervisor = Supervisor(self.run_dir / "supervisor.sock")
        # Below the ports that the kernel gives to outgoing connections; test processes get different ones.
        self.first_port = 20_000 + os.getpid() % (10_000 // PORTS) * PORTS
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.run_dir / "supervisord.conf")],
            cwd=ROOT,
            env={**os.environ, MARK: str(self.run_dir)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until("supervisord answers", self.supervisor.is_up, 60)

    def kill(self) -> None:
        """kill -9 of supervisord; its engines live on."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        end_processes(processes_marked(MARK, str(self.run_dir)), grace_seconds=0)
        shutil.rmtree(self.run_dir)

    def cluster(self, **changes: Any) -> LocalCluster:
        values: dict[str, Any] = {
            "run_dir": self.run_dir,
            "supervisor_socket": self.run_dir / "supervisor.sock",
            "engine_python": Path(sys.executable),
            "models_dir": self.run_dir / "versions",
            "ports": range(self.first_port, self.first_port + PORTS),
            "memory_mb": 50,
            "clock": SystemClock(),
            "http": self.http,
            "drain_seconds": 20.0,
            "settle_seconds": 0.2,
            "stop_seconds": 1,
        }
        return LocalCluster(**{**values, **changes})

    def folder(self, spec: WorkloadSpec) -> Path:
        """Where the version of a spec of ours lies."""
        return self.run_dir / "versions" / spec.manifest.folder_name

    def spec(self, variant: str = "chat-v1-aaaa", engine: str = "standin", **values: Any) -> WorkloadSpec:
        """A version on disk whose files say how the stand-in behaves, and a spec to serve it. `versions/VARIANT` leads
        to the files, too."""
        models_dir = self.run_dir / "versions"
        files = models_dir / f".incoming-{variant}"
        files.mkdir(parents=True)
        (files / "standin.json").write_text(json.dumps(values.pop("behaviour", {})))
        (files / "model.safetensors").write_bytes(b"weights of " + variant.encode())
        manifest = land(files, models_dir)
        link = models_dir / variant
        link.unlink(missing_ok=True)
        link.symlink_to(models_dir / manifest.folder_name)
        return WorkloadSpec(
            variant=variant,
            endpoint=variant.split("-")[0],
            source=f"models:/m-{variant}",
            manifest=manifest,
            engine=engine,
            start_seconds=values.pop("start_seconds", 60.0),
            **values,
        )


def land(files: Path, models_dir: Path) -> Manifest:
    """Moves the files to where a cluster looks for a version that has exactly these."""
    manifest = take_manifest(files)
    place = models_dir / manifest.folder_name
    if place.exists():
        shutil.rmtree(place)
    files.rename(place)
    return manifest


def first_process(keeper: int) -> int:
    """An engine's first process, by that of its outer keeper, which is what supervisord started."""
    (inner,) = wait_until("the inner keeper runs", lambda: children_of(keeper))
    first = wait_until("the engine's first process runs", lambda: children_of(inner))
    return min(first, key=lambda pid: stat.started if (stat := stat_of(pid)) else 0)


def pid_of(room: MachineRoom, variant: str) -> int:
    """The engine's own first process."""
    return first_process(room.supervisor.programs()[f"engine-{variant}"].pid)


def children_of(parent: int) -> list[int]:
    return [pid for pid in all_pids() if (stat := stat_of(pid)) and stat.parent == parent and stat.alive]


def below(pid: int) -> list[int]:
    """The process and all that descends from it."""
    found = [pid]
    for one in found:
        found += children_of(one)
    return found


def status(cluster: LocalCluster, variant: str = "chat-v1-aaaa") -> WorkloadStatus | None:
    return cluster.statuses().get(variant)


def until_ready(cluster: LocalCluster, variant: str = "chat-v1-aaaa") -> WorkloadStatus:
    def ready() -> WorkloadStatus | None:
        seen = status(cluster, variant)
        assert seen is not None
        assert seen.reason == "", f"{variant} failed: {seen.message}"
        return seen if seen.is_ready else None

    found = wait_until(f"{variant} is ready", ready, 60)
    assert found is not None
    return found


def until_failed(cluster: LocalCluster, variant: str = "chat-v1-aaaa") -> WorkloadStatus:
    def failed() -> WorkloadStatus | None:
        seen = status(cluster, variant)
        return seen if seen is not None and seen.phase == "failed" else None

    found = wait_until(f"{variant} has failed", failed, 60)
    assert found is not None
    return found
