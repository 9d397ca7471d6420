"""Addresses of the pages of models and golden sets."""

from __future__ import annotations

from django.urls import path

from registry.ui import views

urlpatterns = [
    path("models", views.models, name="models"),
    path("models/<str:name>", views.model, name="model"),
    path("golden-sets", views.golden_sets, name="golden-sets"),
    path("golden-sets/<slug:name>", views.golden_set, name="golden-set"),
]
