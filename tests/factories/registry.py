"""Models, versions and golden sets as the mirror keeps them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from controlplane.kernel.digests import digest_of
from registry.domain.manifest import Manifest, ManifestEntry
from registry.models import Alias, AliasMove, GoldenExample, GoldenSet, MirrorState, Model, Version
from tests.factories.people import right_now


def model(name: str = "triage", *, versions: int = 3, now: datetime | None = None) -> Model:
    """A mirrored model with verified versions; `production` points at the first."""
    at = now or right_now()
    made, is_new = Model.objects.get_or_create(
        name=name,
        defaults={
            "description": "Routes support tickets to the team that can answer.",
            "tags": {"owner": "support-ml"},
            "stored_updated_at": at - timedelta(hours=1),
        },
    )
    if is_new:
        MirrorState.objects.update_or_create(id=1, defaults={"last_success_at": at, "models_read_at": at})
        for number in range(1, versions + 1):
            version(made, number, now=at)
        first = made.versions.get(number=1)
        Alias.objects.create(model=made, name="production", version=first)
        AliasMove.objects.create(
            model=made,
            alias="production",
            version=first,
            previous=None,
            asked_at=at - timedelta(days=2),
            moved_at=at - timedelta(days=2),
            by="ana",
            why="first version",
        )
    return made


def version(of: Model, number: int, *, now: datetime | None = None) -> Version:
    """A version whose files were verified, with parameters, metrics and the data set it came from."""
    at = now or right_now()
    manifest = Manifest.of(
        ManifestEntry(path, size, hashlib.sha256(f"{of.name}{number}{path}".encode()).hexdigest())
        for path, size in (("config.json", 812), ("model.safetensors", 1_204_224), ("tokenizer.json", 48_211))
    )
    accuracy = {1: 0.72, 2: 0.97, 3: 0.41}.get(number, 0.8)
    return Version.objects.create(
        model=of,
        number=number,
        status="READY",
        source=f"models:/m-{number}",
        run_id=f"{number}a41f09c2d7",
        run_name="ticket-routing",
        logged_model_id=f"m-5c7d2{number}",
        created_at=at - timedelta(hours=30 - number),
        tags={"trained_by": "mira"},
        params={"steps": str(60 * number), "learning_rate": "0.003", "hidden_size": "64"},
        metrics={"accuracy": accuracy, "loss": round(1.4 - accuracy, 3)},
        datasets=[{"name": "tickets", "digest": f"77be{number}10", "context": "training"}],
        details_at=at,
        manifest=manifest.to_json(),
        manifest_digest=manifest.digest,
        manifest_bytes=manifest.total_bytes,
        manifest_state="verified",
        manifest_checked_at=at - timedelta(minutes=3),
    )


def golden_set(name: str = "tickets", *, size: int = 12) -> GoldenSet:
    """A set of prompts with expected answers."""
    made = GoldenSet.objects.filter(name=name).first()
    if made is not None:
        return made
    made = GoldenSet.objects.create(
        name=name,
        revision=1,
        digest=digest_of({"name": name, "size": size}),
        size=size,
        created_at=right_now(),
    )
    GoldenExample.objects.bulk_create(
        GoldenExample(
            golden_set=made,
            position=i,
            messages=[{"role": "user", "content": f"ticket {i}: the invoice is wrong"}],
            expected="billing",
            scorer=GoldenExample.Scorer.EXACT,
            max_tokens=8,
        )
        for i in range(size)
    )
    return made
