"""The API's own addresses, below /api/v1/."""

from __future__ import annotations

from django.urls import path

from controlplane.api import views

urlpatterns = [
    path("me", views.WhoAmI.as_view(), name="api-me"),
    path("schema", views.Schema.as_view(), name="api-schema"),
    path("docs", views.docs, name="api-docs"),
]
