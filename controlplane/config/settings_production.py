"""Settings for a server that people reach over a network. `manage.py check --deploy` passes on them."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from controlplane.config.environment import ENVIRONMENT
from controlplane.config.settings import *  # noqa: F403

if len(ENVIRONMENT.secret_key) < 50:
    raise ImproperlyConfigured("Set HEADGATE_SECRET_KEY to at least 50 random characters.")
if not ENVIRONMENT.encryption_keys:
    raise ImproperlyConfigured("Set HEADGATE_ENCRYPTION_KEYS; `python -m controlplane.sealing` prints a key.")
if not ENVIRONMENT.database_url:
    raise ImproperlyConfigured("Set HEADGATE_DATABASE_URL: production runs on PostgreSQL.")

SECURE_SSL_REDIRECT = True
# A probe comes from this machine or its neighbour, without TLS, and follows no redirect.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
