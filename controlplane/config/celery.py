"""The Celery application. Tasks are thin: each calls one service."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from controlplane.config.broker import register

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")

register()
app = Celery("headgate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["registry", "rollouts"])


@app.on_after_configure.connect  # `on_configure` comes while the configuration is still being read
def make_broker_folders(sender: Celery, **_: object) -> None:
    """The filesystem transport does not make its folders itself."""
    for key, folder in (sender.conf.broker_transport_options or {}).items():
        if key.endswith("folder") or key.startswith("data_folder"):
            Path(str(folder)).mkdir(parents=True, exist_ok=True)
