"""Launches a version before its rollout starts: `python -m deploy.demo.launch_ahead --version 3`.

An engine takes a minute to load, and the next one of the story may load while the present one is judged. It runs
beside the rollout without any traffic; its own rollout then finds it there, and still proves that it answers before
traffic moves. Runs in the application's environment against the demo's database. What runs already is left alone.
"""

from __future__ import annotations

import argparse
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")
django.setup()

from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from registry.models import Version  # noqa: E402
from rollouts import wiring  # noqa: E402
from rollouts.domain.lifecycle.effects import EnsureWorkload  # noqa: E402
from rollouts.models import Endpoint  # noqa: E402
from rollouts.services.commands.endpoints import checked_spec, ensure_variant  # noqa: E402
from rollouts.services.writing import add_effects, tell  # noqa: E402


def launch_ahead(*, endpoint_name: str, number: int) -> None:
    """Asks the loop to run the version as the stable one is served. Raises Refused when its files may not run."""
    now = timezone.now()
    endpoint = Endpoint.objects.get(name=endpoint_name)  # locked below: the cluster is asked before that
    assert endpoint.stable is not None
    version = Version.objects.select_related("model").get(model=endpoint.model, number=number)
    cluster = wiring.worlds().of(endpoint.cluster.name).cluster
    spec = checked_spec(endpoint=endpoint, version=version, spec=endpoint.stable.spec, cluster=cluster)
    with transaction.atomic():
        Endpoint.objects.select_for_update(of=("self",)).get(pk=endpoint.pk)
        variant = ensure_variant(endpoint=endpoint, version=version, spec=spec, now=now)
        add_effects(endpoint=endpoint, rollout=None, effects=(EnsureWorkload(variant.name),), now=now)
        tell(
            endpoint=endpoint, rollout=None, kind="launched-ahead", title=f"The demo launches {variant.name} ahead",
            detail="the next one of the story; it gets no traffic before its own rollout", now=now,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--version", type=int, required=True, help="the version's number in MLflow")
    arguments = parser.parse_args()
    launch_ahead(endpoint_name=arguments.endpoint, number=arguments.version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
