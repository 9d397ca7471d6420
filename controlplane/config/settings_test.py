"""Settings of the tests: nothing is kept, passwords hash fast, static files are served unhashed.

HEADGATE_DATABASE_URL still chooses PostgreSQL, so that the same tests run on both databases.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HEADGATE_RUN_DIR", str(Path(tempfile.mkdtemp(prefix="headgate-test-"))))
os.environ.setdefault("HEADGATE_SECRET_KEY", "only-for-tests-" + "x" * 50)

from controlplane.config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Messages wait in memory and nobody takes them: a test that needs a task's work calls the task.
CELERY_BROKER_URL = "memory://"
CELERY_BROKER_TRANSPORT_OPTIONS = {}
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405  (WhiteNoise warns about a missing folder)
