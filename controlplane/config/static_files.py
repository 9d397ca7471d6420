"""Which static files are collected."""

from __future__ import annotations

from django.contrib.staticfiles.apps import StaticFilesConfig


class StaticFiles(StaticFilesConfig):
    """Without what no page asks for: the browsable API's, django-htmx's (ours is in `static/vendor`) and Redoc's.
    Copying and packing those took as long as all the rest."""

    ignore_patterns = (*StaticFilesConfig.ignore_patterns, "rest_framework", "django_htmx", "redoc")
