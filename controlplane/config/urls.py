"""All addresses: pages of each app, webhooks, the REST API under /api/v1/, probes of the process itself."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("controlplane.web.urls")),
    path("", include("registry.ui.urls")),
    path("", include("registry.api.hook_urls")),
    path("", include("rollouts.ui.urls")),
    path("api/v1/", include("controlplane.api.urls")),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("rollouts.api.urls")),
    path("api/", include("controlplane.api.fallback_urls")),
]

handler400 = "controlplane.web.problems.bad_request"
handler403 = "controlplane.web.problems.forbidden"
handler404 = "controlplane.web.problems.not_found"
handler500 = "controlplane.web.problems.server_error"
