"""The last address below /api/: whatever nothing else answers is a problem of status 404, not a page."""

from __future__ import annotations

from django.urls import re_path

from controlplane.api import views

urlpatterns = [re_path(r"^", views.NoSuchPath.as_view(), name="api-no-such-path")]
