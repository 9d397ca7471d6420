"""The only kind of body that the API reads: JSON whose values a database can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from controlplane.kernel.plain import check_plain


class PlainJSONParser(JSONParser):
    """Raises ParseError for what is no JSON, and Unreadable naming the value that holds a NUL character, half of a
    surrogate pair, a number beyond 64 bits, or too many levels.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        check_plain(data)
        return data
