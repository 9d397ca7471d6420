"""Pages by key, not by number: a page stays right while rows are added, and costs the same everywhere."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from controlplane.kernel.errors import InvalidInput

LARGEST_PAGE = 200


class KeysetPagination(CursorPagination):
    """`?limit=` (at most 200) and `?cursor=`; answers `{"items": [...], "next": ..., "previous": ...}`.

    `next` and `previous` are URLs or null. Newest first, by id; a subclass sets `ordering` to
    another unique, indexed column. The cursor is opaque.
    """

    ordering = "-id"
    page_size_query_param = "limit"
    max_page_size = LARGEST_PAGE

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any] | None:
        """As the framework's; nonsense is not ignored: InvalidInput (field `cursor` or `limit`)."""
        raw = request.query_params.get(self.page_size_query_param)
        if raw is not None and not (raw.isdecimal() and 1 <= int(raw) <= LARGEST_PAGE):
            raise InvalidInput(
                f"limit is {raw!r}.", field="limit", fix=f"Use a whole number from 1 to {LARGEST_PAGE}."
            )
        try:
            return super().paginate_queryset(queryset, request, view)
        except NotFound as error:
            raise InvalidInput(
                "This cursor is not one that Headgate gave.",
                field="cursor",
                fix="Follow the URL in next or previous, or leave cursor out to begin anew.",
            ) from error

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"items": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["items", "next", "previous"],
            "properties": {"items": schema, "next": link, "previous": link},
        }
