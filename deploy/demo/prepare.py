"""Puts people, a token, the golden set, a gate policy and the endpoint into Headgate: `python -m deploy.demo.prepare`.

Runs in the application's environment against the demo's database, through the same services as pages and API.
Idempotent: a second run finds everything there. Prints nothing secret; sign-ins and the token go into files that only
their owner may read.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")
django.setup()

from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from controlplane.access.actors import HEADGATE, Actor  # noqa: E402
from controlplane.access.models import ApiToken, User  # noqa: E402
from controlplane.access.services import create_token, ensure_user  # noqa: E402
from controlplane.kernel.clock import SystemClock  # noqa: E402
from registry.models import Version  # noqa: E402
from registry.services.golden import upload_golden_set  # noqa: E402
from registry.services.manifests import register_manifest  # noqa: E402
from registry.services.mirror import mirror_models  # noqa: E402
from registry.wiring import allowed_files, model_store, models_dir  # noqa: E402
from rollouts import wiring  # noqa: E402
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload  # noqa: E402
from rollouts.domain.lifecycle.states import Phase  # noqa: E402
from rollouts.domain.variants import ServingSpec  # noqa: E402
from rollouts.models import Cluster, Endpoint, Rollout, Workload  # noqa: E402
from rollouts.selectors import ACTIVE_PHASES  # noqa: E402
from rollouts.services.commands.clusters import set_cluster  # noqa: E402
from rollouts.services.commands.endpoints import checked_spec, create_endpoint, ensure_cluster, ensure_variant  # noqa: E402
from rollouts.services.commands.rollouts import roll_back_rollout  # noqa: E402
from rollouts.services.policies.versions import define_gate_policy  # noqa: E402
from rollouts.services.writing import add_effects, tell  # noqa: E402

ENDPOINT = "tickets"
PEOPLE = {"vera": "viewer", "emil": "engineer", "rosa": "release_manager", "ada": "administrator"}
SCOPES = ("read", "rollouts:write", "registry:write", "feedback:write")
MANIFEST_PATIENCE_SECONDS = 60.0
RETURN_PATIENCE_SECONDS = 300.0


def keep_private(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(data, indent=2))
    fresh.replace(path)


def prepare_people(folder: Path) -> User:
    """A person of each role with a password of their own; the release manager, for whom the pipeline acts."""
    path = folder / "sign-ins.json"
    passwords: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    for name, role in PEOPLE.items():
        password = passwords.setdefault(name, secrets.token_urlsafe(9))
        ensure_user(username=name, role=role, password=password)
    keep_private(path, passwords)
    return User.objects.get(username="rosa")


def prepare_token(folder: Path, user: User) -> None:
    """The pipeline's token. Its secret is shown once, so it is kept for the demo's own traffic and story."""
    path = folder / "token.json"
    if path.exists() and ApiToken.objects.filter(user=user, name="demo-pipeline", revoked_at=None).exists():
        return
    ApiToken.objects.filter(user=user, name="demo-pipeline").delete()
    now = timezone.now()
    _, secret = create_token(user=user, name="demo-pipeline", scopes=SCOPES, expires_at=None, now=now)
    keep_private(path, {"token": secret})


def prepare_versions(model: str, numbers: list[int]) -> None:
    """Mirrors MLflow and takes the manifests now, so that nothing waits for the next tick."""
    ends = time.monotonic() + MANIFEST_PATIENCE_SECONDS
    mirror_models(store=model_store(), clock=SystemClock())
    for number in numbers:
        version = Version.objects.get(model__name=model, number=number)
        while version.manifest_state == "pending" and time.monotonic() < ends:
            version = register_manifest(
                version_id=version.pk,
                store=model_store(),
                models_dir=models_dir(),
                now=timezone.now(),
                allowed_files=allowed_files(),
            )
            if version.manifest_state == "pending":
                time.sleep(0.5)  # the worker reads the same version just now
                version.refresh_from_db()
        if not version.may_launch:
            raise SystemExit(
                f"{version} may not be launched: {version.manifest_problem or version.manifest_state}"
            )


def prepare_cluster(body: dict[str, Any] | None) -> Cluster:
    """The cluster of the endpoint: this machine, or the one that `body` writes down, as an administrator does it."""
    if body is None:
        return ensure_cluster(name="local")
    set_cluster(
        name=body["name"], kind=body["kind"], configuration=body["configuration"], secret=body["secret"],
        problems=wiring.cluster_problems, actor=Actor.person(User.objects.get(username="ada")), now=timezone.now(),
    )  # fmt: skip
    return Cluster.objects.get(name=body["name"])


def fill_volume(folder: Path, *, model: str, versions: dict[str, Any], models: Path) -> None:
    """Puts the files of every version into the folder of it that its manifest names, as whoever runs a cluster does."""
    for name, number in versions.items():
        manifest = Version.objects.get(model__name=model, number=int(number)).manifest_value
        assert manifest is not None, "it may launch"
        target = folder / manifest.folder_name
        for entry in manifest.entries:
            (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(models / name / entry.path, target / entry.path)


def prepare_endpoint(
    *,
    model: str,
    first: int,
    policy: dict[str, Any],
    serving: dict[str, Any],
    golden: Path,
    user: User,
    cluster: Cluster,
) -> None:
    """The endpoint, serving the first version."""
    now = timezone.now()
    actor = Actor.person(user)
    golden_set, _ = upload_golden_set(name="tickets", text=golden.read_text(), actor=actor, now=now)
    gate_policy = define_gate_policy(actor=HEADGATE, name="tickets-default", body=policy, now=now)
    existing = Endpoint.objects.filter(name=ENDPOINT).first()
    if existing is not None:
        Endpoint.objects.filter(pk=existing.pk).update(gate_policy=gate_policy, golden_set=golden_set)
        begin_anew(existing, first=first, spec=ServingSpec.from_json(serving), actor=actor)
        return
    version = Version.objects.select_related("model").get(model__name=model, number=first)
    create_endpoint(
        name=ENDPOINT,
        model=version.model,
        version=version,
        serving=ServingSpec.from_json(serving),
        gate_policy=gate_policy,
        golden_set=golden_set,
        cluster=cluster,
        worlds=wiring.worlds(),
        actor=actor,
        now=now,
    )


def begin_anew(endpoint: Endpoint, *, first: int, spec: ServingSpec, actor: Actor) -> None:
    """Puts an endpoint of an earlier run back to its first version, so that the story can be told again.

    A rollout that was interrupted is rolled back by the loop first, as any rollout is.
    """
    active = Rollout.objects.filter(endpoint=endpoint, phase__in=ACTIVE_PHASES).first()
    if active is not None:
        say(f"rollout #{active.pk} of an earlier run is still {active.phase}: rolling it back")
        if active.phase != Phase.ROLLING_BACK.value:
            roll_back_rollout(
                rollout_id=active.pk, actor=actor, now=timezone.now(), why="The demo begins anew."
            )
        ends = time.monotonic() + RETURN_PATIENCE_SECONDS
        while Rollout.objects.filter(pk=active.pk, phase__in=ACTIVE_PHASES).exists():
            if time.monotonic() > ends:
                raise SystemExit(
                    f"Rollout #{active.pk} did not end; stop everything with make down and try again."
                )
            time.sleep(1)
    version = Version.objects.select_related("model").get(model=endpoint.model, number=first)
    now = timezone.now()
    cluster = wiring.worlds().of(endpoint.cluster.name).cluster
    checked = checked_spec(endpoint=endpoint, version=version, spec=spec, cluster=cluster)
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        variant = ensure_variant(endpoint=row, version=version, spec=checked, now=now)
        if row.stable_id == variant.pk:
            # One that failed in an earlier run is launched anew.
            if Workload.objects.filter(variant=variant, phase="failed").update(
                phase="absent", reason="", message=""
            ):
                add_effects(endpoint=row, rollout=None, effects=(EnsureWorkload(variant.name),), now=now)
            return
        Rollout.objects.filter(endpoint=row, watching=True).update(watching=False, watch_until=now)
        others = [
            w.variant.name
            for w in Workload.objects.filter(variant__endpoint=row, wanted=True).select_related("variant")
        ]
        row.stable, row.previous, row.desired_shares, row.desired_fallback = variant, None, {}, variant.name
        row.save(update_fields=["stable", "previous", "desired_shares", "desired_fallback"])
        effects = [DrainWorkload(name) for name in others if name != variant.name]
        add_effects(endpoint=row, rollout=None, effects=effects, now=now)
        tell(
            endpoint=row, rollout=None, kind="begun-anew", title=f"The demo begins anew with {variant.name}",
            actor=actor.name, now=now,
        )  # fmt: skip


def say(text: str) -> None:
    print(f"[prepare] {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--registered", type=Path, required=True, help="JSON: model and version numbers")
    parser.add_argument("--story", type=Path, required=True, help="JSON: gate policy and serving spec")
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument(
        "--cluster", type=Path, help="JSON: the cluster of the endpoint; this machine where it is not given"
    )
    parser.add_argument("--volume", type=Path, help="folder to put the versions' files into, from --models")
    parser.add_argument("--models", type=Path, help="folder with a folder of files a version")
    arguments = parser.parse_args()
    registered = json.loads(arguments.registered.read_text())
    story = json.loads(arguments.story.read_text())
    user = prepare_people(arguments.folder)
    prepare_token(arguments.folder, user)
    numbers = [int(number) for number in registered["versions"].values()]
    prepare_versions(registered["model"], numbers)
    if arguments.volume is not None:
        versions = registered["versions"]
        fill_volume(arguments.volume, model=registered["model"], versions=versions, models=arguments.models)
    prepare_endpoint(
        model=registered["model"],
        first=int(registered["versions"]["v1"]),
        policy=story["policy"],
        serving=story["serving"],
        golden=arguments.golden,
        user=user,
        cluster=prepare_cluster(json.loads(arguments.cluster.read_text()) if arguments.cluster else None),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
