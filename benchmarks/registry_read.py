"""Reading a registry of 10,530 versions: our read model against the MLflow that it mirrors, in one run.

Both answer over HTTP on this machine with one process each: a real MLflow (gunicorn, one worker, four threads, SQLite)
and Headgate under uvicorn on SQLite. The same questions go to both in turns, so that what else the machine does
falls on both; `our read` is the selector alone, as a page calls it inside the web process. The versions are
written straight into MLflow's database; the mirror then reads them through its REST API, which is timed too.
Run: python -m benchmarks.registry_read [requests of each question, 100].
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx

RUN_DIR = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
os.environ["HEADGATE_RUN_DIR"] = str(RUN_DIR)
os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.config.settings"

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402

from controlplane.access.services import Scope, create_token, ensure_user  # noqa: E402
from controlplane.kernel.clock import SystemClock  # noqa: E402
from controlplane.outbound.clients import local_client  # noqa: E402
from registry import selectors  # noqa: E402
from registry.adapters.model_stores.mlflow_http import MlflowHttp  # noqa: E402
from registry.adapters.model_stores.mlflow_rest import MlflowModelStore  # noqa: E402
from registry.models import Version  # noqa: E402
from registry.services.mirror import mirror_models  # noqa: E402
from tests.fixtures.mlflow_server import RunningMlflow  # noqa: E402

MODELS, VERSIONS_EACH = 27, 390
BUSY = "model-13"


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    folder = RUN_DIR / "mlflow"
    folder.mkdir()
    mlflow = RunningMlflow(folder)
    web: subprocess.Popen[bytes] | None = None
    try:
        mlflow.start()
        fill(mlflow)
        mirror(mlflow.url)
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "controlplane.config.asgi:application"]
        options = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
        web = subprocess.Popen([*command, *options])
        compare(mlflow.url, f"http://127.0.0.1:{port}", requests)
    finally:
        if web is not None:
            web.terminate()
            web.wait()
        mlflow.kill()
        shutil.rmtree(RUN_DIR)


def fill(mlflow: RunningMlflow) -> None:
    """Writes the versions into MLflow's own tables: registering them one by one would take minutes."""
    import sqlite3
    from contextlib import closing

    at = int(time.time() * 1000)
    with closing(sqlite3.connect(mlflow.database, timeout=30)) as db, db:
        for model in range(MODELS):
            name = f"model-{model}"
            db.execute(
                "insert into registered_models (name, creation_time, last_updated_time, description)"
                " values (?, ?, ?, '')",
                (name, at, at + model),
            )
            db.executemany(
                "insert into model_versions (name, version, creation_time, last_updated_time, description, "
                "current_stage, source, status, user_id, run_link) values (?, ?, ?, ?, '', 'None', ?, 'READY', '', '')",
                [(name, n, at + n, at + n, f"s3://models/{name}/{n}") for n in range(1, VERSIONS_EACH + 1)],
            )
            db.execute(
                "insert into registered_model_aliases (name, alias, version) values (?, 'production', ?)",
                (name, VERSIONS_EACH // 2),
            )


def mirror(url: str) -> None:
    """The first pass reads all, the second finds nothing new."""
    call_command("migrate", verbosity=0)
    store = MlflowModelStore(MlflowHttp(url, timeout_seconds=60))
    for words in ("first pass, all versions", "next pass, no news"):
        begin = time.perf_counter()
        report = mirror_models(store=store, clock=SystemClock())
        assert not report.error, report.error
        print(
            f"mirror, {words}: {time.perf_counter() - begin:.2f} s, "
            f"{report.new_versions} new versions, {report.details} details read"
        )
    assert Version.objects.count() == MODELS * VERSIONS_EACH
    store.close()


def compare(mlflow_url: str, headgate_url: str, requests: int) -> None:
    user = ensure_user(username="bench", role="viewer", password="bench")
    _, secret = create_token(
        user=user, name="bench", scopes=[Scope.READ], expires_at=None, now=datetime.now(UTC)
    )
    theirs = local_client(base_url=mlflow_url + "/api/2.0/mlflow/", timeout=60)
    ours = local_client(
        base_url=headgate_url + "/api/v1/", timeout=60, headers={"Authorization": f"Bearer {secret}"}
    )
    wait_for(ours)
    of_busy: dict[str, str | int] = {
        "filter": f"name='{BUSY}'",
        "max_results": 20,
        "order_by": "version_number DESC",
    }
    model_id = selectors.get_model_id(name=BUSY)
    questions: dict[str, tuple[Callable[[], object], ...]] = {
        "where an alias points": (
            lambda: theirs.get(
                "registered-models/alias", params={"name": BUSY, "alias": "production"}
            ).raise_for_status(),
            lambda: ours.get(f"models/{BUSY}/aliases").raise_for_status(),
            lambda: selectors.aliases_of(name=BUSY),
        ),
        "the newest 20 versions of a model": (
            lambda: theirs.get("model-versions/search", params=of_busy).raise_for_status(),
            lambda: ours.get(f"models/{BUSY}/versions", params={"limit": 20}).raise_for_status(),
            lambda: selectors.page_versions(model_id=model_id, limit=20),
        ),
        "one version": (
            lambda: theirs.get(
                "model-versions/get", params={"name": BUSY, "version": "200"}
            ).raise_for_status(),
            lambda: ours.get(f"models/{BUSY}/versions/200").raise_for_status(),
            lambda: selectors.get_version(model=BUSY, number=200),
        ),
        "all models with aliases": (
            lambda: theirs.get("registered-models/search", params={"max_results": 50}).raise_for_status(),
            lambda: ours.get("models", params={"limit": 50}).raise_for_status(),
            lambda: selectors.list_models(limit=50),
        ),
    }
    header = "".join(f"{who:>17}" for who in ("MLflow", "our API", "our read"))
    print(f"\n{'p50 (p95) in ms':34}{header}   times faster: API, read")
    for words, asks in questions.items():
        times: list[list[float]] = [[] for _ in asks]
        for _ in range(requests):
            for ask, into in zip(asks, times, strict=True):
                begin = time.perf_counter()
                ask()
                into.append((time.perf_counter() - begin) * 1000)
        found = [middle(measured) for measured in times]
        cells = "".join(f"{p50:8.1f} ({p95:6.1f})" for p50, p95 in found)
        ratios = ", ".join(f"{found[0][0] / p50:.1f}" for p50, _ in found[1:])
        print(f"{words:34}{cells}   {ratios}")
    theirs.close()
    ours.close()


def middle(found: list[float]) -> tuple[float, float]:
    return statistics.median(found), statistics.quantiles(found, n=20)[-1]


def wait_for(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            client.get("models", params={"limit": 1}).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("The web process did not start.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
