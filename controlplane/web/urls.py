"""Addresses of the pages that belong to no app."""

from __future__ import annotations

from django.urls import path

from controlplane.web import account, probes, views

urlpatterns = [
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("account", account.account, name="account"),
    path("account/password", account.new_password, name="new-password"),
    path("account/sign-out-everywhere", account.sign_out_everywhere, name="sign-out-everywhere"),
    path("account/tokens/<int:token_id>/end", account.end_own_token, name="end-token"),
    path("people", account.everybody, name="people"),
    path("people/<path:username>/end-access", account.end_access_of, name="end-access"),
    path("search", views.search, name="search"),
    path("banners", views.banners, name="banners"),
    path("events", views.events, name="events"),
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("metrics", probes.metrics_text, name="metrics"),
]
