"""What waits for a person: the first thing on the overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db.models import Count, Window
from django.urls import reverse

from controlplane.access.roles import Role
from controlplane.kernel.errors import Unavailable
from controlplane.web.health import CLOCK, Part
from registry.models import Version
from registry.selectors import mirror_health
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.models import Endpoint, Rollout
from rollouts.ui.overview.standing import BROKEN_ENGINES, is_recent_end
from rollouts.ui.parts.arm_words import candidate_labels
from rollouts.ui.parts.arms_table import workload_of
from rollouts.ui.parts.mlflow_words import mlflow_now
from rollouts.ui.parts.odd_rows import or_odd
from rollouts.ui.parts.outages import outage_note
from rollouts.ui.parts.restored import restored_note
from rollouts.ui.parts.stuck import PATIENCE, needs_a_person, stuck_note
from rollouts.ui.strategies import pill_of

VERSIONS_NAMED = 5
ICONS_OF_PAUSES = {
    PauseReason.DRIFT: "unlink",
    PauseReason.CHANGED: "unlink",
    PauseReason.GLOBAL_STOP: "octagon-pause",
}


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that waits for a person, with the one button that leads there. `counts` is how many it stands for."""

    tone: str
    icon: str
    title: str
    detail: str
    at: datetime | None
    button: str
    url: str
    counts: int = 1


def needs_of(
    endpoints: Sequence[Endpoint],
    latest: Mapping[int, Rollout],
    parts: Sequence[Part],
    now: datetime,
    *,
    labels: Mapping[str, str],
    unusable: Mapping[str, Unavailable],
) -> list[Attention]:
    """Everything that waits, the worst first. Two queries beside what it is given.

    labels      `v6` by variant name
    unusable    why a cluster cannot be used, by the names of those that cannot
    """
    found = []
    for endpoint in endpoints:
        found += or_odd(
            f"endpoint {endpoint.name}",
            partial(_needs_of_one, endpoint, latest.get(endpoint.pk), labels, unusable, now),
            partial(_need_of_odd, endpoint),
        )
    worker = next((part for part in parts if part.name == "worker"), None)
    if worker is not None and worker.state == "stale":
        last = (
            "Its last report has a time in the future"
            if (worker.age_seconds or 0) < 0
            else f"Last seen {worker.age_words} ago"
        )
        found.append(
            Attention(
                "fail",
                "unplug",
                "The control loop is silent",
                f"{last}. Traffic stays as it is; nothing moves.",
                None,
                "See the parts",
                "#parts",
            )
        )
    jumped = next((part for part in parts if part.name == CLOCK), None)
    if jumped is not None:
        found.append(
            Attention(
                "warn", "hourglass", "The clock jumped", jumped.message, None, "See the parts", "#parts"
            )
        )
    failing = [(part, part.fails_since) for part in parts if part.fails_since is not None]
    found += [_need_of_pass(part, since) for part, since in failing if now - since >= PATIENCE]
    mirror = mirror_health(now=now)
    if mirror.is_down:
        found.append(
            Attention(
                "warn",
                "database",
                "MLflow does not answer",
                f"{mirror.error} Known versions can be used; new ones are not seen meanwhile.",
                mirror.error_at,
                "See the models",
                reverse("models"),
            )
        )
    found += _needs_of_files()
    order = {"fail": 0, "warn": 1, "info": 2}
    return sorted(found, key=lambda need: order[need.tone])


def _needs_of_one(
    endpoint: Endpoint,
    rollout: Rollout | None,
    labels: Mapping[str, str],
    unusable: Mapping[str, Unavailable],
    now: datetime,
) -> list[Attention]:
    problem = unusable.get(endpoint.cluster.name)
    found = [] if problem is not None else _needs_of_stuck(endpoint, now)
    if rollout is not None:
        found += _needs_of_rollout(endpoint, rollout, now)
    return found + _needs_of_endpoint(endpoint, labels, problem, now)


def _needs_of_stuck(endpoint: Endpoint, now: datetime) -> list[Attention]:
    note, since = stuck_note(endpoint, now), endpoint.__dict__.get("turn_since")
    if note is None or not needs_a_person(since, now):
        return []
    title, url = f"{endpoint.name}: the loop cannot work on it", reverse("endpoint", args=[endpoint.name])
    return [Attention("fail", "circle-x", title, note.words, since, "See the endpoint", url)]


def _need_of_odd(endpoint: Endpoint, words: str) -> list[Attention]:
    title, url = f"{endpoint.name}: it cannot be shown", reverse("endpoint", args=[endpoint.name])
    return [Attention("fail", "circle-x", title, words, None, "See the endpoint", url)]


def _needs_of_files() -> list[Attention]:
    """Versions whose files are no longer those that were registered: the first by name, and how many more. One
    query."""
    changed = (
        Version.objects.filter(manifest_state="changed", gone_at=None)
        .select_related("model")
        .defer("manifest", "file_classes")
        .annotate(in_all=Window(Count("pk")))
        .order_by("model__name", "-number")
    )
    first = list(changed[:VERSIONS_NAMED])
    found = [
        Attention(
            "fail",
            "shield-check",
            f"{version} is no longer what was registered",
            f"{version.manifest_problem} It is refused until its files are restored.",
            version.manifest_checked_at,
            "See the version",
            reverse("model", args=[version.model.name]),
        )
        for version in first
    ]
    more = first[0].in_all - len(first) if first else 0
    if more:
        versions = "1 more version is" if more == 1 else f"{more:,} more versions are"
        found.append(
            Attention(
                "fail",
                "shield-check",
                f"{versions} no longer what was registered",
                "The list of models shows which.",
                None,
                "See the models",
                reverse("models"),
                counts=more,
            )
        )
    return found


def _need_of_pass(part: Part, since: datetime) -> Attention:
    """Something that fails while everything else goes on: it is tried again, but a person should know."""
    return Attention(
        "warn",
        "circle-alert",
        f"{part.name[:1].upper()}{part.name[1:]}: not everything can be done",
        f"{part.message.rstrip('.')}. It is tried again by itself.",
        since,
        "See the parts",
        "#parts",
    )


def _needs_of_rollout(endpoint: Endpoint, rollout: Rollout, now: datetime) -> list[Attention]:
    url = reverse("rollout", args=[rollout.pk])
    phase, name = Phase(rollout.phase), endpoint.name
    if phase is Phase.FAILED:
        return [
            Attention(
                "fail",
                "circle-x",
                f"{name}: the rollback needs a person",
                rollout.reason,
                rollout.phase_since,
                "Decide",
                url,
            )
        ]
    if phase is Phase.ROLLED_BACK and is_recent(rollout, now):
        by_itself = "" if rollout.cause == "person" else " by itself"
        title = f"{name} rolled back to {rollout.baseline.version.label}{by_itself}"
        if rollout.cause.startswith("launch:"):
            who = candidate_labels(rollout)
            title = f"{name}: {'no candidate launched' if len(who) > 1 else f'{who[0]} did not launch'}"
        return [
            Attention(
                "fail", "undo-2", title, rollout.cause_sentence, rollout.finished_at, "See the cause", url
            )
        ]
    if phase is Phase.PAUSED:
        icon = ICONS_OF_PAUSES.get(PauseReason(rollout.pause_reason), "pause")
        held = pill_of(rollout, now).words
        return [
            Attention(
                "warn",
                icon,
                f"{name}: {held[:1].lower()}{held[1:]}",
                rollout.reason,
                rollout.phase_since,
                "Decide",
                url,
            )
        ]
    return []


def _needs_of_endpoint(
    endpoint: Endpoint, labels: Mapping[str, str], unusable: Unavailable | None, now: datetime
) -> list[Attention]:
    url = reverse("endpoint", args=[endpoint.name])
    restored = restored_note(endpoint, Role.VIEWER)
    if restored is not None:
        detail = f"{restored.first} {restored.problem}".strip()
        title = f"{endpoint.name}: {restored.strong[:1].lower()}{restored.strong[1:].rstrip('.')}"
        button = "Decide" if restored.may_choose else "See the endpoint"
        return [
            Attention(restored.tone, "database", title, detail, restored.since, button, f"{url}#restored")
        ]
    if unusable is not None:
        title, detail = f"{endpoint.name}: nobody watches it", f"{unusable.message} {unusable.fix}"
        serving = [Attention("fail", "unplug", title, detail, None, "See the endpoint", url)]
    else:
        serving = _needs_of_serving(endpoint, labels, url, now)
    return [*serving, *_needs_of_mlflow(endpoint, url, now)]


def _needs_of_mlflow(endpoint: Endpoint, url: str, now: datetime) -> list[Attention]:
    """What serves although MLflow no longer has it."""
    known = mlflow_now(endpoint, endpoint, now)
    if known.tone != "fail" or endpoint.stable is None:
        return []
    at = endpoint.model.gone_at or endpoint.stable.version.gone_at
    return [
        Attention(
            "warn", "database", f"{endpoint.name}: {known.strong}", known.detail, at, "See the endpoint", url
        )
    ]


def _needs_of_serving(
    endpoint: Endpoint, labels: Mapping[str, str], url: str, now: datetime
) -> list[Attention]:
    if endpoint.router_problem:
        return [
            Attention(
                "fail",
                "unplug",
                f"{endpoint.name}: the router has a problem",
                endpoint.router_problem,
                endpoint.observed_at,
                "See the endpoint",
                url,
            )
        ]
    outage = outage_note(endpoint, now, labels=labels)
    if outage is not None:
        return [
            Attention(
                "fail",
                "server",
                f"{endpoint.name}: {outage.label} is out of order",
                f"{outage.first} {outage.more}",
                outage.since,
                "See the endpoint",
                url,
            )
        ]
    workload = workload_of(endpoint.stable)
    if workload is not None and workload.phase in BROKEN_ENGINES:
        words = workload.message or f"It is {workload.phase}."
        return [
            Attention(
                "fail",
                "server",
                f"{endpoint.name}: {workload.variant.name} is not ready",
                words,
                workload.observed_at,
                "See the endpoint",
                url,
            )
        ]
    return []


def is_recent(rollout: Rollout, now: datetime) -> bool:
    """True for a rollout that ended within the last day."""
    return is_recent_end(rollout.finished_at, now)
