"""The whole house as real processes: MLflow, Envoy, web, worker, beat and users; a stand-in engine plays vLLM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from controlplane.cli.client import Client, Failure
from rollouts.adapters.clusters.machine import end_processes, processes_marked
from rollouts.adapters.clusters.supervisord import Supervisor
from tests.rollouts.adapters.clusters.machine_room import first_process
from tests.standins.running import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = "tickets"
QUESTIONS = 24
SETTLED = {"succeeded", "rolled-back", "cancelled", "failed", "superseded"}
STANDIN = [
    sys.executable, "-m", "tests.standins.engine", "--port", "{port}", "--model", "{folder}", "{arguments}",
    "--variant", "{variant}", "--served-model-name", "{endpoint}",
]  # fmt: skip

POLICY: dict[str, Any] = {
    "alpha": 0.05,
    "gates": [
        {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": 0.5},
        {"key": "quality", "kind": "paired", "margin": 0.2, "weight": 0.5},
    ],
}
PLAN: dict[str, Any] = {
    "strategy": "canary",
    "steps": [
        {"share_bp": 2500, "hold_seconds": 4, "min_requests": 20},
        {"share_bp": 5000, "hold_seconds": 8, "min_requests": 60},
    ],
    "watch_seconds": 3,
    "no_data_seconds": 60,
    "launch_seconds": 120,
}


class House:
    """`python -m deploy.stack` on a run folder and ports of its own, furnished with versions and users.

    wrong       by version, how many of the questions it answers wrongly; versions are numbered as given
    behaviours  by version, how its engine behaves otherwise (see `tests.standins.engine.Behaviour`)
    policy      the gates of the endpoint
    settings    further HEADGATE_ variables

    Every second user sends a system message, and 25 requests come a second.
    """

    def __init__(
        self,
        wrong: dict[str, int],
        *,
        behaviours: dict[str, dict[str, Any]] | None = None,
        policy: dict[str, Any] = POLICY,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.run_dir = Path(
            tempfile.mkdtemp(prefix="hg-", dir="/tmp")
        )  # a socket's path has 107 bytes at most
        self.web, self.gateway, self.mlflow = free_port(), free_port(), free_port()
        self.supervisor = Supervisor(self.run_dir / "supervisor.sock")
        self.folder = self.run_dir / "demo"
        self.traffic: subprocess.Popen[bytes] | None = None
        first_engine_port = 22_000 + os.getpid() % 400 * 20
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "DJANGO_"))}
        self.environment = {
            **kept,
            "HEADGATE_RUN_DIR": str(self.run_dir),
            "HEADGATE_WEB_PORT": str(self.web),
            "HEADGATE_GATEWAY_PORT": str(self.gateway),
            "HEADGATE_MLFLOW_URL": f"http://127.0.0.1:{self.mlflow}",
            "HEADGATE_ENGINE_PORTS": f"{first_engine_port}-{first_engine_port + 19}",
            "HEADGATE_ENGINE_MEMORY_MB": "200",
            "HEADGATE_INTERVAL_SECONDS": "1",
            "HEADGATE_FEEDBACK_SECONDS": "2",
            **(settings or {}),
        }
        try:
            self._furnish(wrong, behaviours or {}, policy)
        except BaseException:
            self._stop()
            raise

    def _furnish(
        self, wrong: dict[str, int], behaviours: dict[str, dict[str, Any]], policy: dict[str, Any]
    ) -> None:
        """Everything that takes time: what runs by then is stopped when it fails."""
        (self.run_dir / "engines.json").write_text(json.dumps({"standin": {"argv": STANDIN}}))
        self._write_versions(wrong, behaviours)
        self.run("-m", "deploy.stack", "up")
        self.register()
        (self.folder / "story.json").write_text(
            json.dumps({"policy": policy, "serving": {"engine": "standin", "arguments": {}}})
        )
        self.run(
            "-m", "deploy.demo.prepare", "--folder", str(self.folder),
            "--registered", str(self.folder / "registered.json"), "--story", str(self.folder / "story.json"),
            "--golden", str(self.folder / "models" / "golden.jsonl"),
        )  # fmt: skip
        token = json.loads((self.folder / "token.json").read_text())["token"]
        self.client = Client(url=f"http://127.0.0.1:{self.web}", token=token)
        wait_until("the first version serves", self._serves, 120)
        self.send_users()

    def register(self) -> None:
        """Registers in MLflow those of the models that it does not have yet."""
        registered = self.folder / "registered.json"
        self.run(
            "-m", "deploy.demo.models.register", "--models", str(self.folder / "models"),
            "--mlflow", f"http://127.0.0.1:{self.mlflow}", "--out", str(registered),
        )  # fmt: skip
        self.registered = json.loads(registered.read_text())

    def run(self, *arguments: str) -> None:
        """Runs a program of the project; its output is shown when it fails."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=400,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, version: str, plan: dict[str, Any] = PLAN) -> int:
        """Starts a rollout of a version, as a pipeline would; returns its number."""
        body = {"endpoint": ENDPOINT, "version": self.registered["versions"][version], "plan": plan}
        return int(self.client.post("/rollouts", body)["id"])

    def rollout(self, number: int) -> dict[str, Any]:
        """The rollout now; asks again while the web process is away."""
        ends = time.monotonic() + 60
        while True:
            try:
                found: dict[str, Any] = self.client.get(f"/rollouts/{number}", patient=False)
                return found
            except Failure:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.3)

    def wait_for_share(self, number: int, share_bp: int) -> dict[str, Any]:
        """Until the candidate has at least this share in force."""

        def has_share() -> bool:
            state = self.rollout(number)
            assert state["phase"] not in SETTLED, f"{state['phase']}: {state['reason']}"
            return any(arm["name"] == "candidate" and arm["observed_bp"] >= share_bp for arm in state["arms"])

        wait_until(f"the candidate of #{number} has {share_bp / 100:g}%", has_share, 120)
        return self.rollout(number)

    def wait_settled(self, number: int) -> dict[str, Any]:
        """Until it is decided and, when promoted, its watch is over."""

        def settled() -> bool:
            state = self.rollout(number)
            return state["phase"] in SETTLED and not state["watching"]

        wait_until(f"rollout #{number} is settled", settled, 240)
        return self.rollout(number)

    def program(self, name: str) -> int:
        """The process of a program of the stack."""
        return next(info.pid for info in self.supervisor.programs().values() if info.name == name)

    def kill(self, program: str) -> int:
        """kill -9 of a program of the stack; returns the process that is gone."""
        pid = self.program(program)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_engine(self, variant: str) -> int:
        """kill -9 of a variant's engine."""
        keeper = next(info.pid for info in self.supervisor.programs().values() if variant in info.name)
        pid = first_process(keeper)
        os.kill(pid, signal.SIGKILL)
        return pid

    def users(self) -> dict[str, Any]:
        """What users saw so far: sent, lost, losses."""
        seen: dict[str, Any] = json.loads((self.folder / "traffic.json").read_text())
        return seen

    def stop_users(self) -> None:
        """No user asks any more; those who wait are answered first."""
        if self.traffic is not None:
            self.traffic.terminate()
            self.traffic.wait(timeout=90)

    def close(self) -> None:
        """Leaves nothing running and nothing behind."""
        self.client.close()
        self._stop()

    def _stop(self) -> None:
        self.stop_users()
        subprocess.run(
            [sys.executable, "-m", "deploy.stack", "down"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        end_processes(processes_marked("HEADGATE_STACK", str(self.run_dir)), grace_seconds=0)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def logs(self) -> str:
        """The last lines of every program, for a test that failed."""
        found = sorted((self.run_dir / "log").glob("*.log"))
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text().splitlines()[-25:]) for path in found
        )

    def _serves(self) -> bool:
        state = self.client.get(f"/endpoints/{ENDPOINT}")
        return bool(state["observed_shares"].get(state["stable"]["name"]) == 10_000)

    def _write_versions(self, wrong: dict[str, int], behaviours: dict[str, dict[str, Any]]) -> None:
        models = self.folder / "models"
        models.mkdir(parents=True)
        questions = [f"question {number}" for number in range(QUESTIONS)]
        versions = {}
        for name, mistakes in wrong.items():
            answers = {q: ("no idea" if i < mistakes else f"answer to {q}") for i, q in enumerate(questions)}
            (models / name).mkdir()
            behaviour = {"answers": answers, "latency_ms": 3, **behaviours.get(name, {})}
            (models / name / "standin.json").write_text(json.dumps(behaviour))
            (models / name / "note.txt").write_text(name)  # same answers, other content
            versions[name] = {
                "note": name,
                "params": {"steps": 1},
                "metrics": {"accuracy": 1 - mistakes / QUESTIONS},
                "dataset": {"name": "questions", "digest": "0" * 16, "rows": QUESTIONS},
            }
        (models / "metrics.json").write_text(json.dumps({"versions": versions}))
        rows: list[dict[str, Any]] = [
            {
                "messages": [{"role": "user", "content": q}],
                "expected": f"answer to {q}",
                "max_tokens": 16,
                "scorer": "exact",
            }
            for q in questions
        ]
        (models / "golden.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        for row in rows[::2]:
            row["messages"] = [{"role": "system", "content": "be brief"}, *row["messages"]]
        (models / "traffic.jsonl").write_text("\n".join(json.dumps(row) for row in rows))

    def send_users(self, *, per_second: float = 25) -> None:
        """Users begin to ask; what they see is counted from zero."""
        (self.folder / "traffic.json").unlink(missing_ok=True)
        self.traffic = subprocess.Popen(
            [
                sys.executable, "-m", "deploy.demo.traffic", "--gateway", f"http://127.0.0.1:{self.gateway}",
                "--api", f"http://127.0.0.1:{self.web}", "--endpoint", ENDPOINT,
                "--token-file", str(self.folder / "token.json"),
                "--tickets", str(self.folder / "models" / "traffic.jsonl"),
                "--status", str(self.folder / "traffic.json"), "--per-second", str(per_second),
            ],
            cwd=ROOT, env=self.environment,
        )  # fmt: skip
        wait_until(
            "users are answered",
            lambda: (self.folder / "traffic.json").exists() and self.users()["answered"],
            60,
        )
