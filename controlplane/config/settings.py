"""Settings of one machine (demo, development). Production adds to them in settings_production.

The environment is read in `environment.py` and nowhere else.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from controlplane.config.environment import ENVIRONMENT, ROOT
from controlplane.kernel.clock import MESSAGE_SECONDS
from controlplane.sealing.kept import kept_secret
from controlplane.sealing.known import remember

BASE_DIR = ROOT
RUN_DIR = ENVIRONMENT.run_dir


def _database(url: str) -> dict[str, Any]:
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": RUN_DIR / "headgate.sqlite3",
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;",
            },
        }
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", str(parts.port or "")
    except ValueError:
        # Its own words would repeat a part of the password.
        raise ImproperlyConfigured(
            "HEADGATE_DATABASE_URL cannot be read: write postgresql://user:password@host:port/name, and the characters"
            " @ : / ? # % of the user and the password as %40 %3A %2F %3F %23 %25."
        ) from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ImproperlyConfigured("HEADGATE_DATABASE_URL must begin with postgresql://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": port,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # Whoever asks a server that is not there learns it before a probe, or a person, gives up.
        "OPTIONS": {"connect_timeout": 5},
    }


DEBUG = False
SECRET_KEY = ENVIRONMENT.secret_key or kept_secret(RUN_DIR / "secret-key", secrets.token_urlsafe(48))
remember(SECRET_KEY, *ENVIRONMENT.secret_values)
ALLOWED_HOSTS = [host.strip() for host in ENVIRONMENT.allowed_hosts.split(",") if host.strip()]
CSRF_TRUSTED_ORIGINS = [origin.strip() for origin in ENVIRONMENT.trusted_origins.split(",") if origin.strip()]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "controlplane.config.static_files.StaticFiles",
    "django.contrib.humanize",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "controlplane.access",
    "controlplane.audit",
    "controlplane.passes",
    "controlplane.timekeeping",
    "controlplane.sealing",
    "controlplane.web",
    "controlplane.api",
    "registry",
    "rollouts",
]

MIDDLEWARE = [
    "controlplane.web.middleware.ClientAddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "controlplane.web.middleware.RequestIdMiddleware",
    "controlplane.web.edge.PrivateAnswersMiddleware",
    "controlplane.web.probes.ProbeMiddleware",
    "controlplane.web.middleware.ReceivedAtMiddleware",
    "controlplane.web.edge.EdgeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "controlplane.web.middleware.ErrorPageMiddleware",
]

ROOT_URLCONF = "controlplane.config.urls"
ASGI_APPLICATION = "controlplane.config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "controlplane.web.context.shell",
            ],
        },
    }
]

DATABASES = {"default": _database(ENVIRONMENT.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "access.User"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = RUN_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

CSRF_FAILURE_VIEW = "controlplane.web.problems.forbidden"
# Source maps of the API's documentation page are large and nobody's first load: compressing them takes half a minute.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (
    "jpg", "jpeg", "png", "gif", "webp", "zip", "gz", "tgz", "bz2", "tbz", "xz", "br", "woff", "woff2", "map",
)  # fmt: skip

# A golden set of 8 MB, with what JSON adds to it; Django's own limit is 2.5 MB.
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "controlplane.api.authentication.TokenAuthentication",
        "controlplane.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["controlplane.api.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["controlplane.api.parsers.PlainJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "controlplane.api.problems.problem_response",
    "DEFAULT_PAGINATION_CLASS": "controlplane.api.pagination.KeysetPagination",
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Headgate",
    "DESCRIPTION": "Model registry and deployment control plane. Errors are application/problem+json (RFC 9457).",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "RolloutPhase": "rollouts.api.outputs.PHASES",
        "WorkloadPhase": "rollouts.api.outputs.WORKLOAD_PHASES",
        "OptionKind": "rollouts.api.clusters.KINDS",
    },
    "SERVERS": [{"url": "/", "description": "this installation"}],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "controlplane.api.schema.describe_problems",
    ],
}

BROKER_DIR = RUN_DIR / "broker"
CELERY_BROKER_URL = ENVIRONMENT.broker_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if ENVIRONMENT.broker_url.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BROKER_DIR / "messages"),
        "data_folder_out": str(BROKER_DIR / "messages"),
        "control_folder": str(BROKER_DIR / "control"),
        "polling_interval": 0.05,
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "headgate"
# What can hang or takes long keeps nothing of another kind from its turn: engines that are asked, files that come and
# are read, and what waits for MLflow's words each have a queue and a worker of their own.
# Housekeeping (`rollouts.sweep`) shares the last one, and a slow MLflow may keep it waiting: a pass that asks MLflow
# begins nothing after 45 s and a run keeps others of its kind away for 60 s, so some runs overlap and hold threads for
# minutes. Nobody waits for housekeeping that long: it deletes and packs what is hours or days old, and looks every five
# minutes for what no endpoint uses. While all threads are held, /readyz says that `errands` does not report.
CELERY_TASK_ROUTES = {
    "rollouts.probe": {"queue": "probes"},
    "rollouts.probe_round": {"queue": "probes"},
    "rollouts.try_gateways": {"queue": "probes"},
    "rollouts.try_gateway": {"queue": "probes"},
    "rollouts.fetch": {"queue": "files"},
    "rollouts.fetch_files": {"queue": "files"},
    "registry.take_manifests": {"queue": "files"},
    "registry.verify_changed": {"queue": "files"},
    "registry.mirror": {"queue": "errands"},
    "rollouts.sweep": {"queue": "errands"},
    "rollouts.write_back": {"queue": "errands"},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
# Ticks that waited while the worker was away are worthless: the next tick sees the same database.
CELERY_BEAT_SCHEDULER = "controlplane.config.beat:SteadyScheduler"
CELERY_BEAT_SCHEDULE = {
    name: {"task": task, "schedule": every, "options": {"expires": MESSAGE_SECONDS}}
    for name, task, every in (
        ("reconcile-rollouts", "rollouts.reconcile", ENVIRONMENT.tick_seconds),
        ("mirror-registry", "registry.mirror", 10.0),
        ("write-back", "rollouts.write_back", 5.0),
        ("probe", "rollouts.probe", 2.0),
        ("fetch", "rollouts.fetch", 2.0),
        ("try-gateways", "rollouts.try_gateways", 30.0),
        ("sweep", "rollouts.sweep", 60.0),
    )
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "controlplane.config.logs.HidingFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": ENVIRONMENT.log_level},
    "loggers": {
        # The web server's own words go the same way, and so through the same net.
        "uvicorn": {"handlers": [], "propagate": True},
        "httpx": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.worker.request": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}

HEADGATE = ENVIRONMENT
