"""What rollouts put around every page: their places in the sidebar, the global stop's band, their search
hits.
"""

from __future__ import annotations

from django.db.models import Prefetch
from django.http import HttpRequest
from django.urls import reverse

from controlplane.access.models import User
from controlplane.access.roles import Action
from controlplane.web import shell
from controlplane.web.first_rows import best_named, first_and_count
from rollouts import selectors
from rollouts.models import Arm, Endpoint, Rollout
from rollouts.ui.parts.arm_words import versions_text
from rollouts.ui.policies.list import newest_versions


def register() -> None:
    """Called once when the app starts."""
    shell.add_nav_item(shell.NavItem("overview", "layout-dashboard", "Overview", "overview", "o", 0))
    shell.add_nav_item(shell.NavItem("endpoints", "radio-tower", "Endpoints", "endpoints", "e", 1))
    shell.add_nav_item(shell.NavItem("rollouts", "git-branch", "Rollouts", "rollouts", "r", 2))
    shell.add_nav_item(shell.NavItem("policies", "shield-check", "Policies", "policies", "p", 5, group=1))
    shell.add_banner_source(stop_banner)
    shell.add_search_source(find_endpoints)
    shell.add_search_source(find_rollouts)
    shell.add_search_source(find_policies)


def stop_banner(request: HttpRequest) -> shell.Banner | None:
    """The red band while the global stop is on."""
    stop = selectors.global_stop()
    if not stop.on:
        return None
    may_lift = isinstance(request.user, User) and request.user.may(Action.GLOBAL_STOP)
    context: dict[str, object] = {
        "stop": stop,
        "may_lift": may_lift,
        "now": request.received_at,  # type: ignore[attr-defined]
    }
    return shell.Banner("rollouts/_stop_banner.html", context)


def find_endpoints(words: str, limit: int) -> shell.Hits:
    """Endpoints whose name contains the words."""
    best, in_all = best_named(Endpoint.objects.select_related("cluster"), words, limit=limit)
    hits = [
        shell.Hit(
            "Endpoint",
            "radio-tower",
            endpoint.name,
            f"{endpoint.environment} · {endpoint.cluster.name}",
            reverse("endpoint", args=[endpoint.name]),
        )
        for endpoint in best
    ]
    return shell.Hits("endpoint", hits, in_all)


def find_policies(words: str, limit: int) -> shell.Hits:
    """The newest version of policies whose name contains the words."""
    best, in_all = best_named(newest_versions(), words.partition("@")[0], limit=limit)
    hits = [
        shell.Hit(
            "Policy",
            "shield-check",
            str(one),
            f"α {one.body['alpha']:g}, {len(one.body['gates'])} gates",
            reverse("policy", args=[one.name]),
        )
        for one in best
    ]
    return shell.Hits("gate policy", hits, in_all, "gate policies")


def find_rollouts(words: str, limit: int) -> shell.Hits:
    """The rollout with that number, or the newest of endpoints with such a name."""
    number = words.lstrip("#")
    found = Rollout.objects.select_related("endpoint", "baseline__version", "candidate__version")
    found = found.prefetch_related(Prefetch("arms", queryset=Arm.objects.select_related("variant__version")))
    found = (
        found.filter(pk=int(number[:18]))
        if number.isdecimal()
        else found.filter(endpoint__name__icontains=words)
    )
    newest, in_all = first_and_count(found.order_by("-id"), limit=limit)
    hits = [
        shell.Hit(
            "Rollout",
            "git-branch",
            f"#{rollout.pk} {rollout.endpoint.name}",
            f"{versions_text(rollout)}, {rollout.phase}",
            reverse("rollout", args=[rollout.pk]),
        )
        for rollout in newest
    ]
    return shell.Hits("rollout", hits, in_all)
