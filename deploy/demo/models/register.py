"""Registers the trained models in MLflow: `python -m deploy.demo.models.register --models FOLDER --mlflow URL`.

Runs in the application's environment. Each version gets a run (parameters, metrics, the data set it learned from), a
LoggedModel with its files, and a model version that points at it. What is registered already, by the digest of its
files, is found and left alone, so a re-run only reads. Prints (and with --out writes) JSON: the model's name and the
number of each version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from controlplane.config.environment import ENVIRONMENT
from controlplane.outbound.clients import remote_client
from controlplane.outbound.proxies import without_proxies

MODEL: Final = "ticket-router"
DESCRIPTION: Final = "Routes support tickets to queues. Tiny Llamas, trained on the spot for the demo."
DIGEST_TAG: Final = "demo.digest"
FIRST_ALIASES: Final = {"v1": ("baseline",), "v2": ("challenger",)}
UNREADY_SECONDS: Final = 120.0


def say(text: str) -> None:
    """Progress on stderr; stdout carries the JSON."""
    print(f"[register] {text}", file=sys.stderr, flush=True)


def files_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a version's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Registrar:
    """Writes to one MLflow server. `client` is an mlflow.MlflowClient."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def known(self) -> dict[str, int]:
        """Digest of the files -> version number, of all versions that are ready."""
        found = self._client.search_model_versions(f"name = '{MODEL}'")
        return {
            v.tags[DIGEST_TAG]: int(v.version) for v in found if DIGEST_TAG in v.tags and v.status == "READY"
        }

    def ensure_model(self) -> str:
        """The experiment's id; makes experiment and registered model when they are missing."""
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(MODEL)
        number = experiment.experiment_id if experiment else self._client.create_experiment(MODEL)
        try:
            self._client.get_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._client.create_registered_model(MODEL, description=DESCRIPTION)
        return str(number)

    def register(
        self, *, experiment: str, version: str, folder: Path, facts: Mapping[str, Any], digest: str
    ) -> int:
        """Logs one version whole and returns its number. The version is made last: it never points at half a model."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        client, now = self._client, int(time.time() * 1000)
        data = facts["dataset"]
        params = {key: str(value) for key, value in facts["params"].items() if value != ""}
        run = client.create_run(experiment, run_name=f"{MODEL}-{version}", tags={DIGEST_TAG: digest})
        run_id = run.info.run_id
        client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        source = Dataset(
            name=data["name"],
            digest=data["digest"],
            source_type="generated",
            source=json.dumps({"rows": data["rows"]}),
            profile=json.dumps({"num_rows": data["rows"]}),
        )
        client.log_inputs(
            run_id, datasets=[DatasetInput(source, [InputTag("mlflow.data.context", "training")])]
        )
        logged = client.create_logged_model(
            experiment, name=f"{MODEL}-{version}", source_run_id=run_id, params=params,
            tags={DIGEST_TAG: digest}, model_type="llm",
        )  # fmt: skip
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        metrics = [
            Metric(
                key, float(value), now, 0, model_id=logged.model_id,
                dataset_name=data["name"], dataset_digest=data["digest"], run_id=run_id,
            )
            for key, value in facts["metrics"].items()
        ]  # fmt: skip
        client.log_batch(run_id, metrics=metrics)
        client.set_terminated(run_id)
        made = client.create_model_version(
            MODEL,
            f"models:/{logged.model_id}",
            run_id=run_id,
            model_id=logged.model_id,
            description=facts["note"],
            tags={DIGEST_TAG: digest, "demo.version": version, "dataset": f"{data['name']}@{data['digest']}"},
            await_creation_for=0,
        )
        return int(made.version)

    def ensure_aliases(self, numbers: Mapping[str, int]) -> None:
        """First aliases; one that exists is a person's or Headgate's decision by now and stays where it is."""
        taken = self._client.get_registered_model(MODEL).aliases
        for version, aliases in FIRST_ALIASES.items():
            for alias in aliases:
                if alias not in taken and version in numbers:
                    self._client.set_registered_model_alias(MODEL, alias, str(numbers[version]))


def use_proxy(proxy: str) -> None:
    """MLflow's own client goes through `proxy` from here on; "" is none. It obeys nothing but the environment."""
    for name in set(os.environ) - set(without_proxies(os.environ)):
        del os.environ[name]
    if proxy:
        os.environ.update(HTTP_PROXY=proxy, HTTPS_PROXY=proxy)


def wait_for_server(url: str, proxy: str) -> None:
    """Returns when MLflow answers. Raises SystemExit with the remedy after two minutes."""
    ends = time.monotonic() + UNREADY_SECONDS
    while True:
        try:
            with remote_client(url, proxy=proxy) as http:
                http.get("/health").raise_for_status()
                return
        except httpx.HTTPError as error:
            if time.monotonic() > ends:
                raise SystemExit(
                    f"MLflow does not answer at {url} ({error}). Start it with: make up, or pass another --mlflow."
                ) from error
        time.sleep(0.3)


def register_all(*, models: Path, url: str, proxy: str) -> dict[str, Any]:
    """Registers what is missing; {"model": name, "versions": {"v1": 1, ...}, "registered": [...]}."""
    report = json.loads((models / "metrics.json").read_text())
    use_proxy(proxy)
    wait_for_server(url, proxy)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    registrar = Registrar(MlflowClient(tracking_uri=url, registry_uri=url))
    experiment = registrar.ensure_model()
    known, numbers, fresh = registrar.known(), {}, []
    for version, facts in report["versions"].items():
        folder = models / version
        digest = files_digest(folder)
        if digest not in known:
            started = time.monotonic()
            numbers[version] = registrar.register(
                experiment=experiment, version=version, folder=folder, facts=facts, digest=digest
            )
            fresh.append(version)
            say(f"{version} is {MODEL} version {numbers[version]} ({time.monotonic() - started:.1f} s)")
        else:
            numbers[version] = known[digest]
            say(f"{version} is registered already: {MODEL} version {numbers[version]}")
    registrar.ensure_aliases(numbers)
    return {"model": MODEL, "versions": numbers, "registered": fresh}


def main() -> int:
    parser = argparse.ArgumentParser(description="Register the demo's models in MLflow.")
    parser.add_argument("--models", type=Path, required=True, help="folder that `train` wrote")
    parser.add_argument("--mlflow", required=True, help="address of the MLflow server")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    if not (options.models / "metrics.json").exists():
        raise SystemExit(f"{options.models} holds no trained models. Run deploy.demo.models.train first.")
    result = register_all(models=options.models, url=options.mlflow, proxy=ENVIRONMENT.mlflow_proxy)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
