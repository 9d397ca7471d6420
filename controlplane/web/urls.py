"""Addresses of the pages that belong to no app."""

from __future__ import annotations

from django.urls import path

from controlplane.web import probes, views

urlpatterns = [
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("search", views.search, name="search"),
    path("banners", views.banners, name="banners"),
    path("events", views.events, name="events"),
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("metrics", probes.metrics_text, name="metrics"),
]
