"""Settings of the tests: nothing is kept, passwords hash fast, static files are served unhashed.

HEADGATE_DATABASE_URL still chooses PostgreSQL, so that the same tests run on both databases.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HEADGATE_RUN_DIR", str(Path(tempfile.mkdtemp(prefix="headgate-test-"))))
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and Path(os.environ["HEADGATE_RUN_DIR"]).name != _worker:
    # Tests that run side by side write files of the operator: each side has a folder of its own.
    _own = Path(os.environ["HEADGATE_RUN_DIR"], _worker)
    _own.mkdir(parents=True, exist_ok=True)
    os.environ["HEADGATE_RUN_DIR"] = str(_own)
os.environ.setdefault("HEADGATE_SECRET_KEY", "only-for-tests-" + "x" * 50)

from controlplane.config.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Messages wait in memory and nobody takes them: a test that needs a task's work calls the task.
CELERY_BROKER_URL = "memory://"
CELERY_BROKER_TRANSPORT_OPTIONS = {}
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405  (WhiteNoise warns about a missing folder)
