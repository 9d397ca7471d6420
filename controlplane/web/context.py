"""What every template may use."""

from __future__ import annotations

from django.http import HttpRequest

from controlplane.web import shell as shell_registry


def shell(request: HttpRequest) -> dict[str, object]:
    """The sidebar and the bands over the page. Fragments do not draw them, so they cost nothing there."""
    htmx = getattr(request, "htmx", None)
    user = getattr(request, "user", None)
    if htmx or user is None or not user.is_authenticated:
        return {"nav_items": [], "banners": []}
    return {"nav_items": shell_registry.nav_items(), "banners": shell_registry.banners(request)}
