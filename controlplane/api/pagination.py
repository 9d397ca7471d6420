"""Pages by key, not by number: a page stays right while rows are added, and costs the same everywhere."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from controlplane.api.rows import EachByItself
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import check_plain, shown

LARGEST_PAGE = 200
MOST_DIGITS = 3
LONGEST_CURSOR = 2_000
UNREADABLE = {
    "type": "array",
    "items": {"type": "string"},
    "description": "which of these are missing from `items` because what is stored of them is odd; absent: none",
}


class KeysetPagination(CursorPagination):
    """`?limit=` (at most 200) and `?cursor=`; answers `{"items": [...], "next": ..., "previous": ...}`,
    and `unreadable` where some rows are odd (`EachByItself`).

    `next` and `previous` are URLs or null. Newest first, by id; a subclass sets `ordering` to
    another unique, indexed column. The cursor is opaque.
    """

    ordering = "-id"
    page_size_query_param = "limit"
    max_page_size = LARGEST_PAGE

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any] | None:
        """As the framework's; nonsense is not ignored: InvalidInput (field `cursor` or `limit`)."""
        raw = request.query_params.get(self.page_size_query_param)
        self._ordered_by = queryset.model._meta.get_field(self.ordering.removeprefix("-"))
        if raw is not None and not (
            raw.isdecimal() and len(raw) <= MOST_DIGITS and 1 <= int(raw) <= LARGEST_PAGE
        ):
            raise InvalidInput(
                f"limit is {shown(raw)!r}.",
                field="limit",
                fix=f"Use a whole number from 1 to {LARGEST_PAGE}.",
            )
        try:
            return super().paginate_queryset(queryset, request, view)
        except NotFound as error:
            raise InvalidInput(
                "This cursor is not one that Headgate gave.",
                field="cursor",
                fix="Follow the URL in next or previous, or leave cursor out to begin anew.",
            ) from error

    def decode_cursor(self, request: Any) -> Any:
        """As the framework's. The position in it must be one that the column can have: what was never given out is
        refused before the database sees it."""
        if len(request.query_params.get(self.cursor_query_param, "")) > LONGEST_CURSOR:
            raise NotFound(self.invalid_cursor_message)
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                position = self._ordered_by.to_python(cursor.position)
                check_plain(position)
            except (ValidationError, ValueError, InvalidInput):
                raise NotFound(self.invalid_cursor_message) from None
        return cursor

    def get_paginated_response(self, data: Any) -> Response:
        page: dict[str, Any] = {
            "items": data,
            "next": self.get_next_link(),
            "previous": self.get_previous_link(),
        }
        rows = getattr(data, "serializer", None)
        if isinstance(rows, EachByItself) and rows.unreadable:
            page["unreadable"] = list(rows.unreadable)
        return Response(page)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["items", "next", "previous"],
            "properties": {"items": schema, "next": link, "previous": link, "unreadable": UNREADABLE},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """As the framework's, with the bounds that are kept."""
        bounds = {
            self.page_size_query_param: {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE},
            self.cursor_query_param: {"type": "string", "maxLength": LONGEST_CURSOR},
        }
        found: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        return [{**one, "schema": {**one["schema"], **bounds[one["name"]]}} for one in found]


class ByName(KeysetPagination):
    """Pages in the order of names."""

    ordering = "name"
