"""The ASGI application (uvicorn serves it)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import django
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponse, HttpResponseBadRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")


class Application(ASGIHandler):
    """Django's handler; a request whose head it cannot even read is answered with 400, not with a broken connection.

    `Content-Type: text/plain; charset*=utf-8''%00` names a character set with a NUL in it: Django does not expect it.
    """

    def create_request(
        self, scope: Mapping[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponse]:
        try:
            return super().create_request(scope, body_file)  # type: ignore[return-value]
        except ValueError:
            return None, HttpResponseBadRequest(
                "The head of this request cannot be read.\n",
                content_type="text/plain",
                headers={"Cache-Control": "no-store"},
            )


django.setup(set_prefix=False)
application = Application()
