"""Where machines deliver and fetch: outside /api/v1/, since a signature takes the place of a token there."""

from __future__ import annotations

from django.urls import path

from registry.api.files import send_file
from registry.api.hooks import receive_mlflow_hook

urlpatterns = [
    path("hooks/mlflow", receive_mlflow_hook, name="mlflow-hook"),
    path("files/<slug:folder>/<path:path>", send_file, name="version-file"),
]
