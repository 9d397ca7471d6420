"""The site's own settings, but static files are not compressed, only hashed.

Compressing takes 20 s of a processor at each start, which is minutes on a busy machine.
"""

from controlplane.config.settings import *  # noqa: F403
from controlplane.config.settings import STORAGES as REAL_STORAGES

STORAGES = {
    **REAL_STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
