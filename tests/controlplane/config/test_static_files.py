"""Static files: all that a page asks for is collected."""

from __future__ import annotations

import re
from pathlib import Path

from django.apps import apps
from django.contrib.staticfiles.finders import find, get_finders
from django.contrib.staticfiles.utils import matches_patterns

ROOT = Path(__file__).resolve().parents[3]


def collected() -> set[str]:
    ignored = list(apps.get_app_config("staticfiles").ignore_patterns)  # type: ignore[attr-defined]  # of its class
    return {str(path) for finder in get_finders() for path, _ in finder.list(ignored)}


def test_collected__every_file_that_a_template_names__is_there() -> None:
    named = {
        name
        for template in (ROOT / "templates").rglob("*.html")
        for name in re.findall(r"{% static ['\"]([^'\"]+)['\"]", template.read_text())
    }
    assert named
    assert named <= collected()


def test_collected__what_the_docs_page_loads__is_there() -> None:
    names = ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "favicon-32x32.png")
    assert {f"drf_spectacular_sidecar/swagger-ui-dist/{name}" for name in names} <= collected()


def test_collected__what_no_page_asks_for__is_left_out() -> None:
    assert find("rest_framework/css/bootstrap.min.css"), "else the pattern is of no use any more"
    assert not [path for path in collected() if matches_patterns(path, ["rest_framework*", "*/redoc/*"])]
