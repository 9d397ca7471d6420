"""Addresses of the registry's calls, below /api/v1/."""

from __future__ import annotations

from django.urls import path

from registry.api import views

urlpatterns = [
    path("models", views.ModelList.as_view(), name="api-models"),
    path("models/<str:name>", views.OneModel.as_view(), name="api-model"),
    path("models/<str:name>/versions", views.VersionList.as_view(), name="api-versions"),
    path("models/<str:name>/versions/<int:number>", views.VersionDetail.as_view(), name="api-version"),
    path("models/<str:name>/aliases", views.AliasList.as_view(), name="api-aliases"),
    path("models/<str:name>/alias-moves", views.AliasMoveList.as_view(), name="api-alias-moves"),
    path("golden-sets", views.GoldenSetList.as_view(), name="api-golden-sets"),
    path("golden-sets/<slug:name>", views.GoldenRevisionList.as_view(), name="api-golden-revisions"),
    path(
        "golden-sets/<slug:name>/<int:revision>/examples",
        views.GoldenExampleList.as_view(),
        name="api-golden-examples",
    ),
]
